//! The proxy of a hosted event.

use std::time::Duration;

use lockkeeper_actors::sync;
use lockkeeper_protocol::{
    ObjectInfo,
    operations::{Clear, EventStatus, Look, Set, WaitSet},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::thread::block_on,
    error::CallError,
    proxy::{proxy::Proxy, token::Token},
};

/// A flag that processes share: some wait until another sets it.
///
/// Counterpart of Python's `manager.Event()`. Unlike `multiprocessing.Event`, a [`Self::set`]
/// completes all who wait, even if [`Self::clear`] follows at once.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let start = manager.event().await?;
/// let runner = tokio::spawn({
///     let start = start.clone();
///     async move { start.wait().await }
/// });
/// start.set().await?;
/// runner.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event(Proxy<sync::Event>);

impl Event {
    /// Waits until the flag is up, and returns how often it has been set. Python: `event.wait()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager and
    /// [`CallError::Gone`] once the event was removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn wait(&self) -> Result<u64, CallError> {
        self.wait_for(None, None).await
    }

    /// Waits until the flag is up or the time is over, kept by the manager.
    /// Python: `event.wait(timeout)`, which returns `False` then.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<u64, CallError> {
        self.wait_for(None, Some(timeout)).await
    }

    /// Waits until the flag has been set more often than `generation` times, whether it is up or
    /// not, and returns how often it has been.
    ///
    /// So no pulse is missed between two calls: each wait begins where the last one ended.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let tick = manager.event().await?;
    /// let seen = tick.generation().await?;
    /// tick.set().await?;
    /// tick.clear().await?;
    /// assert_eq!(tick.wait_since(seen).await?, seen + 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::wait`], and [`CallError::Refused`] with `Invalid` when it was never set as often.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn wait_since(&self, generation: u64) -> Result<u64, CallError> {
        self.wait_for(Some(generation), None).await
    }

    /// The same, until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_since`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn wait_since_timeout(
        &self,
        generation: u64,
        timeout: Duration,
    ) -> Result<u64, CallError> {
        self.wait_for(Some(generation), Some(timeout)).await
    }

    /// Waits on a plain thread until the flag is up.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait(&self) -> Result<u64, CallError> {
        block_on(self.wait())
    }

    /// Waits on a plain thread until the flag is up or the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait_timeout(&self, timeout: Duration) -> Result<u64, CallError> {
        block_on(self.wait_timeout(timeout))
    }

    /// Waits on a plain thread until the flag was set more often than that. See
    /// [`Self::wait_since`].
    ///
    /// # Errors
    ///
    /// As [`Self::wait_since`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait_since(&self, generation: u64) -> Result<u64, CallError> {
        block_on(self.wait_since(generation))
    }

    /// The same, until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_since_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait_since_timeout(
        &self,
        generation: u64,
        timeout: Duration,
    ) -> Result<u64, CallError> {
        block_on(self.wait_since_timeout(generation, timeout))
    }

    /// Sets the flag, which completes all who wait, and returns how often it has been set.
    /// Python: `event.set()`.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been set.
    pub async fn set(&self) -> Result<u64, CallError> {
        self.0.call(Set).await
    }

    /// Takes the flag down. Python: `event.clear()`.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been cleared.
    pub async fn clear(&self) -> Result<(), CallError> {
        self.0.call(Clear).await
    }

    /// Whether the flag is up, which may have changed when it is read. Python: `event.is_set()`.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn is_set(&self) -> Result<bool, CallError> {
        Ok(self.status().await?.is_set)
    }

    /// How often the flag has been set, also while it was up, since the event was made.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn generation(&self) -> Result<u64, CallError> {
        Ok(self.status().await?.generation)
    }

    /// Tells the state, which may have changed when it is read.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn status(&self) -> Result<EventStatus, CallError> {
        self.0.call(Look).await
    }

    /// Tells who holds it and who waits for it, in order, and what was measured: see
    /// [`Manager::inspect`](crate::Manager::inspect).
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn info(&self) -> Result<ObjectInfo, CallError> {
        self.0.info().await
    }

    /// Where the event is.
    #[must_use]
    pub const fn token(&self) -> &Token<sync::Event> {
        self.0.token()
    }

    async fn wait_for(
        &self,
        since: Option<u64>,
        timeout: Option<Duration>,
    ) -> Result<u64, CallError> {
        let bound = self.0.bound().await?;
        let (_, generation) = bound.call(&WaitSet { since }, timeout).await?;
        bound.accepted(generation)
    }
}

impl From<Proxy<sync::Event>> for Event {
    fn from(proxy: Proxy<sync::Event>) -> Self {
        Self(proxy)
    }
}

impl From<Token<sync::Event>> for Event {
    fn from(token: Token<sync::Event>) -> Self {
        Self(token.into())
    }
}

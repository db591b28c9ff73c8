//! The proxy of a hosted event.

use std::ops::Deref;

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{Clear, EventStatus, Look, Set, WaitSet};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{proxy::Proxy, token::Token, wait::Wait},
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
    pub fn wait(&self) -> Wait<u64> {
        self.wait_for(None)
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
    pub fn wait_since(&self, generation: u64) -> Wait<u64> {
        self.wait_for(Some(generation))
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

    fn wait_for(&self, since: Option<u64>) -> Wait<u64> {
        self.0.attempt(WaitSet { since })
    }
}

impl Deref for Event {
    type Target = Proxy<sync::Event>;

    fn deref(&self) -> &Proxy<sync::Event> {
        &self.0
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

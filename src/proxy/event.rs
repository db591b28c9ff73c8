//! The proxy of a hosted event.

use std::{fmt, ops::Deref};

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{Clear, GetEventStatus, Set, WaitSet};
use serde::{Deserialize, Serialize};

use crate::proxy::{proxy::Proxy, token::Token, wait::Wait};

/// A flag that processes share: calls wait until another process sets it.
///
/// Counterpart of Python's `manager.Event()`. Unlike with `multiprocessing.Event`, [`Self::set`]
/// completes all waiting calls, even if [`Self::clear`] follows at once.
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
#[doc(alias = "Notify")]
#[doc(alias = "ManualResetEvent")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event(Proxy<sync::Event>);

impl Event {
    /// Waits until the flag is set, and returns how often it has been set. Python: `event.wait()`.
    pub fn wait(&self) -> Wait<u64> {
        self.wait_for(None)
    }

    /// Waits until the flag has been set more often than `generation` times, whether it is set or not, and
    /// returns how often it has been set.
    ///
    /// If each wait starts from the count that the previous one returned, no set between two calls
    /// is missed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let tick = manager.event().await?;
    /// let seen = tick.status().await?.generation;
    /// tick.set().await?;
    /// tick.clear().await?;
    /// assert_eq!(tick.wait_since(seen).await?, seen + 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `Invalid` when the flag was set fewer
    /// times.
    pub fn wait_since(&self, generation: u64) -> Wait<u64> {
        self.wait_for(Some(generation))
    }

    /// Sets the flag, which completes all waiting calls, and returns how often it has been set.
    /// Python: `event.set()`.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the flag may have been set.
    #[doc(alias = "notify_waiters")]
    pub fn set(&self) -> Wait<u64> {
        self.0.call(Set)
    }

    /// Clears the flag. Python: `event.clear()`.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the flag may have been cleared.
    pub fn clear(&self) -> Wait<()> {
        self.0.call(Clear)
    }

    /// Returns whether the flag is set. Python: `event.is_set()`.
    pub fn is_set(&self) -> Wait<bool> {
        self.0
            .start(GetEventStatus, |_, _, status| Ok(status.is_set))
    }

    fn wait_for(&self, since: Option<u64>) -> Wait<u64> {
        self.0.attempt(WaitSet {
            since: since.map(i128::from),
        })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
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

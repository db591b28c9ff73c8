//! The proxy of a hosted latch.

use std::time::Duration;

use lockkeeper_actors::{Serve, sync};
use lockkeeper_protocol::{
    ObjectInfo, Operation, Refusal,
    operations::{ArriveAndWait, CountDown, CountLeft, LatchStatus, WaitOpen},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::thread::block_on,
    error::CallError,
    proxy::{proxy::Proxy, token::Token},
};

/// A number that processes count down together, and wait until it is zero.
///
/// It never goes up again: once it is open, it stays so. A count that was given stays given, also
/// when its process dies; one that dies before it has counted never will, so give the wait a
/// timeout where that may happen. For rounds that follow each other, see
/// [`Barrier`](crate::Barrier).
///
/// Counterpart of C++'s `std::latch` and Java's `CountDownLatch`; Python has none.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let ready = manager.latch(2).await?;
/// for _ in 0..2 {
///     let ready = ready.clone();
///     tokio::spawn(async move { ready.count_down(1).await });
/// }
/// ready.wait().await?;
/// assert!(ready.is_open().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latch(Proxy<sync::Latch>);

impl Latch {
    /// Counts down by that many, which lets all who wait pass if none are left. Returns how many
    /// are left. None at all change nothing.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` for more than are left, of which none are
    /// counted; else as [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been counted.
    pub async fn count_down(&self, by: u32) -> Result<u32, CallError> {
        self.0.attempt(CountDown { by }).await
    }

    /// Waits until none are left; at an open latch not at all.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager and
    /// [`CallError::Gone`] once the latch was removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn wait(&self) -> Result<(), CallError> {
        self.wait_by(WaitOpen, None).await
    }

    /// Waits until none are left or the time is over, kept by the manager.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<(), CallError> {
        self.wait_by(WaitOpen, Some(timeout)).await
    }

    /// Counts down by that many, and waits until none are left, in one call.
    ///
    /// # Errors
    ///
    /// As [`Self::count_down`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been counted, which is not taken back. [`Self::wait`] goes on
    /// with the wait.
    pub async fn arrive_and_wait(&self, by: u32) -> Result<(), CallError> {
        self.wait_by(ArriveAndWait { by }, None).await
    }

    /// The same, until the time is over. What was counted stays so.
    ///
    /// # Errors
    ///
    /// As [`Self::arrive_and_wait`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::arrive_and_wait`].
    pub async fn arrive_and_wait_timeout(
        &self,
        by: u32,
        timeout: Duration,
    ) -> Result<(), CallError> {
        self.wait_by(ArriveAndWait { by }, Some(timeout)).await
    }

    /// Waits on a plain thread until none are left.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait(&self) -> Result<(), CallError> {
        block_on(self.wait())
    }

    /// Waits on a plain thread until none are left or the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::wait_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_wait_timeout(&self, timeout: Duration) -> Result<(), CallError> {
        block_on(self.wait_timeout(timeout))
    }

    /// Counts down on a plain thread, and waits until none are left.
    ///
    /// # Errors
    ///
    /// As [`Self::arrive_and_wait`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_arrive_and_wait(&self, by: u32) -> Result<(), CallError> {
        block_on(self.arrive_and_wait(by))
    }

    /// The same, until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::arrive_and_wait_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_arrive_and_wait_timeout(
        &self,
        by: u32,
        timeout: Duration,
    ) -> Result<(), CallError> {
        block_on(self.arrive_and_wait_timeout(by, timeout))
    }

    /// Whether none are left. Once it is open it stays so.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn is_open(&self) -> Result<bool, CallError> {
        Ok(self.count().await? == 0)
    }

    /// How many are left, which may be fewer when it is read.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn count(&self) -> Result<u32, CallError> {
        Ok(self.status().await?.count)
    }

    /// Tells the numbers, which may have changed when they are read.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`].
    pub async fn status(&self) -> Result<LatchStatus, CallError> {
        self.0.call(CountLeft).await
    }

    /// Tells who waits for it, in order, and what was measured: see
    /// [`Manager::inspect`](crate::Manager::inspect).
    ///
    /// # Errors
    ///
    /// As [`Self::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn info(&self) -> Result<ObjectInfo, CallError> {
        self.0.info().await
    }

    /// Where the latch is.
    #[must_use]
    pub const fn token(&self) -> &Token<sync::Latch> {
        self.0.token()
    }

    async fn wait_by<O>(&self, wait: O, timeout: Option<Duration>) -> Result<(), CallError>
    where
        O: Operation<Reply = Result<(), Refusal>>,
        sync::Latch: Serve<O>,
    {
        let bound = self.0.bound().await?;
        let (_, passed) = bound.call(&wait, timeout).await?;
        bound.accepted(passed)
    }
}

impl From<Proxy<sync::Latch>> for Latch {
    fn from(proxy: Proxy<sync::Latch>) -> Self {
        Self(proxy)
    }
}

impl From<Token<sync::Latch>> for Latch {
    fn from(token: Token<sync::Latch>) -> Self {
        Self(token.into())
    }
}

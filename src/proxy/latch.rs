//! The proxy of a hosted latch.

use std::ops::Deref;

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{ArriveAndWait, CountDown, WaitOpen};
use serde::{Deserialize, Serialize};

use crate::proxy::{proxy::Proxy, token::Token, wait::Wait};

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
/// assert!(ready.status().await?.is_open());
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
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `Invalid` for more than are left, of
    /// which none are counted.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been counted.
    pub fn count_down(&self, by: u32) -> Wait<u32> {
        self.0.attempt(CountDown { by })
    }

    /// Waits until none are left; at an open latch not at all.
    pub fn wait(&self) -> Wait<()> {
        self.0.attempt(WaitOpen)
    }

    /// Counts down by that many, and waits until none are left, in one call.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been counted, which is not taken back. [`Self::wait`] goes on
    /// with the wait.
    pub fn arrive_and_wait(&self, by: u32) -> Wait<()> {
        self.0.attempt(ArriveAndWait { by })
    }
}

impl Deref for Latch {
    type Target = Proxy<sync::Latch>;

    fn deref(&self) -> &Proxy<sync::Latch> {
        &self.0
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

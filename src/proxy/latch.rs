//! The proxy of a hosted latch.

use std::{fmt, ops::Deref};

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{ArriveAndWait, CountDown, WaitOpen};
use serde::{Deserialize, Serialize};

use crate::proxy::{proxy::Proxy, token::Token, wait::Wait};

/// A number that processes count down, and for whose zero they wait.
///
/// The number never goes up: once open, a latch stays open. A count stays when the process that made it dies.
/// If a process dies before it has counted, the others keep waiting, so use a timeout where that may happen.
/// For repeated rounds, see [`Barrier`](crate::Barrier).
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
#[doc(alias = "CountDownLatch")]
#[doc(alias = "WaitGroup")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latch(Proxy<sync::Latch>);

impl Latch {
    /// Counts down by `by`, and returns the rest. At zero all waiting calls complete.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `Invalid` when the number is less than `by`.
    /// The number is then unchanged.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have counted.
    #[doc(alias = "countDown")]
    pub fn count_down(&self, by: u32) -> Wait<u32> {
        self.0.attempt(CountDown { by: by.into() })
    }

    /// Waits until the number is zero.
    #[doc(alias = "await")]
    pub fn wait(&self) -> Wait<()> {
        self.0.attempt(WaitOpen)
    }

    /// Counts down by `by`, and waits until the number is zero, in one call.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have counted, which is not undone.
    /// [`Self::wait`] continues the wait.
    pub fn arrive_and_wait(&self, by: u32) -> Wait<()> {
        self.0.attempt(ArriveAndWait { by: by.into() })
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
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

//! The proxies of hosted semaphores, bounded or not.

use std::{fmt, future::Future, ops::Deref, time::Duration};

use lockkeeper_actors::{
    Primitive,
    sync::{Bound, Bounded, Counting, Unbounded},
};
use lockkeeper_protocol::operations::{AcquireMany, AddPermits, Close};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{ask::Ask, hold::Hold, permit::Permit, proxy::Proxy, token::Token, wait::Wait},
};

/// A semaphore that processes share and that may gain permits.
/// Counterpart of Python's `manager.Semaphore(n)`.
///
/// See [`SemaphoreOf`] for its methods and an example.
#[doc(alias = "available_permits")]
#[doc(alias = "get_value")]
pub type Semaphore = SemaphoreOf<Unbounded>;

/// A semaphore that processes share and that never has more permits than initially. Counterpart of
/// Python's `manager.BoundedSemaphore(n)`.
///
/// See [`SemaphoreOf`] for its methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// use lockkeeper::{CallError, errors::Refusal};
///
/// let permits = manager.bounded_semaphore(2).await?;
/// let refused = permits.add_permits(1).await;
/// assert!(matches!(refused, Err(CallError::Refused(Refusal::OverRelease { bound: 2 }, _))));
/// # Ok(())
/// # }
/// ```
pub type BoundedSemaphore = SemaphoreOf<Bounded>;

/// A number of permits that processes share, granted in order of arrival.
///
/// Permits belong to the session that acquired them, and are released when it ends. For permits without a
/// holder, which one process takes and another adds, see [`Self::consume`] and [`Self::add_permits`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let permits = manager.semaphore(2).await?;
/// let first = permits.acquire().await?;
/// let second = permits.acquire().await?;
/// assert!(permits.try_acquire().await?.is_none());
/// drop(first);
/// assert_eq!(permits.status().await?.available, 1);
/// # drop(second);
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SemaphoreOf<B>(Proxy<Counting<B>>)
where
    Counting<B>: Primitive;

impl<B: Bound> fmt::Debug for SemaphoreOf<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}

impl<B: Bound> Deref for SemaphoreOf<B> {
    type Target = Proxy<Counting<B>>;

    fn deref(&self) -> &Proxy<Counting<B>> {
        &self.0
    }
}

impl<B: Bound> Clone for SemaphoreOf<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Bound> SemaphoreOf<B> {
    /// Waits for a permit. Python: `semaphore.acquire()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Closed` once the semaphore was closed.
    #[doc(alias = "lock")]
    pub fn acquire(&self) -> Wait<Permit> {
        self.acquire_many(1)
    }

    /// Waits for several permits, all or none. Later calls wait behind it, even for fewer permits. A call for
    /// zero permits waits in the queue too. With a [`Semaphore`], a call may wait for more permits than exist, until
    /// some are added.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `TooMany` at once for more permits than a [`BoundedSemaphore`] has.
    pub fn acquire_many(&self, permits: u32) -> Wait<Permit> {
        let semaphore = self.clone();
        Wait::new(move |timeout| semaphore.acquire_within(permits, timeout))
    }

    /// Takes a permit if one is free, and never overtakes a waiter.
    /// Python: `semaphore.acquire(blocking=False)`.
    pub fn try_acquire(&self) -> Wait<Option<Permit>> {
        self.try_acquire_many(1)
    }

    /// Takes several permits if they are free, all or none.
    pub fn try_acquire_many(&self, permits: u32) -> Wait<Option<Permit>> {
        let semaphore = self.clone();
        Wait::trying(move |timeout| semaphore.acquire_within(permits, timeout))
    }

    /// Waits for permits and consumes them: they have no holder afterwards, and return only by
    /// [`Self::add_permits`]. This is a signal from one process to another.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// If a process dies before it receives the answer, no permits are consumed.
    #[doc(alias = "acquire_forget")]
    pub fn consume(&self, permits: u32) -> Wait<()> {
        let semaphore = self.clone();
        Wait::new(move |timeout| async move {
            semaphore.acquire_within(permits, timeout).await?.forget();
            Ok(())
        })
    }

    /// Adds permits without a holder. Python: `semaphore.release(n)`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `OverRelease` when there would be more permits than the bound, which
    /// for a [`Semaphore`] is 4,294,967,295. Held permits count, because they will be released.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the permits may have been added.
    #[doc(alias = "release")]
    pub fn add_permits(&self, permits: u32) -> Wait<()> {
        self.0.attempt(AddPermits {
            permits: permits.into(),
        })
    }

    /// Closes the semaphore: all waiting and later calls are refused with `Closed`. Held permits stay held.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the semaphore may have been closed. Closing it
    /// again has no effect.
    pub fn close(&self) -> Wait<()> {
        self.0.call(Close)
    }

    fn acquire_within(
        self,
        permits: u32,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Permit, CallError>> + Send {
        let acquire = AcquireMany {
            permits: permits.into(),
        };
        Ask::new(self.0, acquire, timeout, move |answer| {
            let (bound, grant, reply) = answer?;
            let fence = bound.accepted(reply)?;
            Ok(Permit::new(Hold::new(bound, grant), permits, fence))
        })
    }
}

impl<B: Bound> From<Proxy<Counting<B>>> for SemaphoreOf<B> {
    fn from(proxy: Proxy<Counting<B>>) -> Self {
        Self(proxy)
    }
}

impl<B: Bound> From<Token<Counting<B>>> for SemaphoreOf<B> {
    fn from(token: Token<Counting<B>>) -> Self {
        Self(token.into())
    }
}

//! The proxies of hosted semaphores, bounded or not.

use std::{ops::Deref, time::Duration};

use lockkeeper_actors::{
    Primitive,
    sync::{Bound, Bounded, Counting, Unbounded},
};
use lockkeeper_protocol::operations::{
    AcquireMany, AddPermits, Close, Count, ReleaseAny, SemaphoreStatus,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{hold::Hold, permit::Permit, proxy::Proxy, token::Token, wait::Wait},
};

/// A semaphore that processes share and that may gain permits.
/// Counterpart of Python's `manager.Semaphore(n)`.
pub type Semaphore = SemaphoreOf<Unbounded>;

/// A semaphore that processes share and that never has more permits than it began with.
/// Counterpart of Python's `manager.BoundedSemaphore(n)`.
pub type BoundedSemaphore = SemaphoreOf<Bounded>;

/// A number of permits that processes share, granted in the order of arrival.
///
/// Permits belong to the session that acquired them and come back when it ends. For permits
/// without an owner, which one process takes and another gives, see [`Self::consume`] and
/// [`Self::add_permits`].
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SemaphoreOf<B>(Proxy<Counting<B>>)
where
    Counting<B>: Primitive;

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
    /// Returns [`CallError::Refused`] with `Closed` once it was closed,
    /// [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager and
    /// [`CallError::Gone`] once it was removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held and no permit is lost. So
    /// `tokio::time::timeout(time, semaphore.acquire())` is right.
    #[doc(alias = "lock")]
    pub fn acquire(&self) -> Wait<Permit> {
        self.acquire_many(1)
    }

    /// Waits for several permits, all or none. Those who come later wait behind, also for fewer.
    /// None at all are granted in their turn. One without bound waits for more than it has as well,
    /// until somebody adds some.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and [`CallError::Refused`] with `TooMany` at once for more than there
    /// can ever be: above its bound, if it has one.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub fn acquire_many(&self, permits: u32) -> Wait<Permit> {
        let semaphore = self.clone();
        Wait::new(move |timeout| semaphore.acquire_within(permits, timeout))
    }

    /// Takes a permit if one is free; never overtakes a waiter.
    /// Python: `semaphore.acquire(blocking=False)`.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub fn try_acquire(&self) -> Wait<Option<Permit>> {
        self.try_acquire_many(1)
    }

    /// Takes several permits if they are free, all or none.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub fn try_acquire_many(&self, permits: u32) -> Wait<Option<Permit>> {
        let semaphore = self.clone();
        Wait::trying(move |timeout| semaphore.acquire_within(permits, timeout))
    }

    /// Waits for permits and keeps none of them: they belong to nobody from then on, and come back
    /// only by [`Self::add_permits`]. The mode of a semaphore that signals between processes.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`]; a process that dies before it has seen its permits has taken none.
    pub async fn consume(&self, permits: u32) -> Result<(), CallError> {
        self.acquire_many(permits).await?.forget();
        Ok(())
    }

    /// Gives back the permits that have been held longest, whichever process holds them, if the semaphore
    /// was made with [`ReleaseBy::Anyone`](crate::ReleaseBy): all permits of that grant. Its [`Permit`] is
    /// lost. Python: `semaphore.release()` by another process than the one that acquired.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when no permits are held, and with `Invalid` when only
    /// their holders may give them back; else as [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, they may have been given back. Do not try again: the next holder would lose its own.
    pub async fn release_any(&self) -> Result<(), CallError> {
        self.0.attempt(ReleaseAny).await
    }

    /// Adds permits that nobody held. Python: `semaphore.release(n)`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `OverRelease` above the bound, which for one without is
    /// 4,294,967,295; held permits count, since they come back. Else as [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, they may have been added.
    pub async fn add_permits(&self, permits: u32) -> Result<(), CallError> {
        self.0.attempt(AddPermits { permits }).await
    }

    /// Refuses all who wait and all who come with `Closed`. Permits that are held stay so.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been closed. To close it again does no harm.
    pub async fn close(&self) -> Result<(), CallError> {
        self.0.call(Close).await
    }

    /// Tells the numbers, which may have changed when they are read.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn status(&self) -> Result<SemaphoreStatus, CallError> {
        self.0.call(Count).await
    }

    async fn acquire_within(
        self,
        permits: u32,
        timeout: Option<Duration>,
    ) -> Result<Permit, CallError> {
        let (bound, grant, reply) = self.0.ask(&AcquireMany { permits }, timeout).await?;
        let fence = bound.accepted(reply)?;
        Ok(Permit::new(Hold::new(&bound, grant), permits, fence))
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

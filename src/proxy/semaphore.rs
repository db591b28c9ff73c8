//! The proxies of hosted semaphores, bounded or not, and their permits.

use std::{future::Future, mem, time::Duration};

use lockkeeper_actors::{
    Abandoned, Fence, Primitive,
    sync::{
        AcquireMany, AddPermits, Bound, Bounded, Close, Count, Counting, Forget,
        MarkPermitsConsistent, PermitGrant, ReleasePermits, SemaphoreStatus, Unbounded,
    },
};
use serde::{Deserialize, Serialize};

use super::{Hold, Proxy, Token, block_on, tried};
use crate::CallError;

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
pub struct SemaphoreOf<B>(pub(crate) Proxy<Counting<B>>)
where
    Counting<B>: Primitive;

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
    pub async fn acquire(&self) -> Result<Permit, CallError> {
        self.acquire_within(1, None).await
    }

    /// Waits for several permits, all or none. Those who come later wait behind, also for fewer.
    /// None at all are granted in their turn.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and [`CallError::Refused`] with `TooMany` at once for more than there
    /// can ever be.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many(&self, permits: u32) -> Result<Permit, CallError> {
        self.acquire_within(permits, None).await
    }

    /// Waits for a permit until the time is over, kept by the manager.
    /// Python: `semaphore.acquire(timeout=..)`.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, CallError> {
        self.acquire_within(1, Some(timeout)).await
    }

    /// Waits for several permits until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many_timeout(
        &self,
        permits: u32,
        timeout: Duration,
    ) -> Result<Permit, CallError> {
        self.acquire_within(permits, Some(timeout)).await
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
    pub async fn try_acquire(&self) -> Result<Option<Permit>, CallError> {
        self.try_acquire_many(1).await
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
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Option<Permit>, CallError> {
        tried(self.acquire_within(permits, Some(Duration::ZERO)).await)
    }

    /// Waits for a permit in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_owned(self) -> Result<Permit, CallError> {
        self.acquire_within(1, None).await
    }

    /// Waits for several permits in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many_owned(self, permits: u32) -> Result<Permit, CallError> {
        self.acquire_within(permits, None).await
    }

    /// Waits for a permit on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_acquire(&self) -> Result<Permit, CallError> {
        block_on(self.acquire())
    }

    /// Waits for a permit on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_acquire_timeout(&self, timeout: Duration) -> Result<Permit, CallError> {
        block_on(self.acquire_timeout(timeout))
    }

    /// Takes a permit on a plain thread if one is free.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_try_acquire(&self) -> Result<Option<Permit>, CallError> {
        block_on(self.try_acquire())
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

    /// Adds permits that nobody held. Python: `semaphore.release(n)`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `OverRelease` above the bound, which for one without is
    /// 4,294,967,295; held permits count, since they come back. Else as [`Self::acquire`].
    pub async fn add_permits(&self, permits: u32) -> Result<(), CallError> {
        Ok(self.0.call(AddPermits { permits }).await??)
    }

    /// Refuses all who wait and all who come with `Closed`. Permits that are held stay so.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    pub async fn close(&self) -> Result<(), CallError> {
        self.0.call(Close).await
    }

    /// Tells the numbers, which may have changed when they are read.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    pub async fn status(&self) -> Result<SemaphoreStatus, CallError> {
        self.0.call(Count).await
    }

    /// Where the semaphore is.
    #[must_use]
    pub const fn token(&self) -> &Token<Counting<B>> {
        self.0.token()
    }

    async fn acquire_within(
        &self,
        permits: u32,
        timeout: Option<Duration>,
    ) -> Result<Permit, CallError> {
        let bound = self.0.bound().await?;
        let (grant, reply) = bound.call(&AcquireMany { permits }, timeout).await?;
        let PermitGrant { fence, abandoned } = reply?;
        let part = Part {
            hold: Hold::new(bound, grant),
            permits,
        };
        Ok(Permit {
            parts: vec![part],
            fence,
            abandoned: abandoned.map(Box::new),
        })
    }
}

/// Permits of a semaphore, held. Their drop gives them back: it sends that one way, and never
/// waits or fails.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    /// Parts of one grant or several; the drop of each gives its permits back.
    parts: Vec<Part>,
    fence: Fence,
    abandoned: Option<Box<Abandoned>>,
}

/// Permits of one grant.
#[derive(Debug)]
struct Part {
    hold: Hold,
    permits: u32,
}

impl Permit {
    /// How many permits it is.
    #[must_use]
    pub fn permits(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.permits)).sum()
    }

    /// The fencing token, higher than those of all grants before; after a merge the lowest of its
    /// parts.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Who died with permits, until somebody declares the data consistent.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.abandoned.as_deref()
    }

    /// Declares that what the semaphore protects was looked after: later permits are unmarked.
    pub fn mark_consistent(&mut self) {
        self.abandoned = None;
        for Part { hold, .. } in &self.parts {
            hold.cast(&MarkPermitsConsistent {
                grant: hold.grant(),
            });
        }
    }

    /// Whether the permits are held still, as far as this process can know.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.parts.iter().all(|part| part.hold.is_valid())
    }

    /// Waits until the permits are no longer held: until the session is lost or the semaphore is
    /// removed. Borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        // All parts are of one object and one session, so they are lost together.
        let lost = self.parts.first().map(|part| part.hold.lost());
        async move {
            if let Some(lost) = lost {
                lost.await;
            }
        }
    }

    /// Gives the permits back and waits until the manager has them.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] when they came back by the end of the session.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the permits are given back.
    pub async fn release(mut self) -> Result<(), CallError> {
        for part in self.parts.iter_mut().filter(|part| part.permits > 0) {
            // Polled once, the release is on its way; there is nothing left for the drop.
            let permits = mem::take(&mut part.permits);
            part.hold
                .call(&ReleasePermits {
                    grant: part.hold.grant(),
                    permits,
                })
                .await?;
        }
        Ok(())
    }

    /// Parts with the permits for good: they come back neither now nor when this process ends.
    pub fn forget(mut self) {
        for part in &mut self.parts {
            let permits = mem::take(&mut part.permits);
            part.hold.cast(&Forget {
                grant: part.hold.grant(),
                permits,
            });
        }
    }

    /// Takes some of the permits out as a permit of its own; `None` if there are not that many.
    #[must_use = "a permit that is dropped is given back"]
    pub fn split(&mut self, permits: u32) -> Option<Self> {
        if u64::from(permits) > self.permits() {
            return None;
        }
        let mut parts = Vec::new();
        let mut wanted = permits;
        for part in &mut self.parts {
            let taken = wanted.min(part.permits);
            if taken > 0 {
                wanted -= taken;
                part.permits -= taken;
                parts.push(Part {
                    hold: part.hold.share(),
                    permits: taken,
                });
            }
        }
        Some(Self {
            parts,
            fence: self.fence,
            abandoned: self.abandoned.clone(),
        })
    }

    /// Takes another permit of the same semaphore and session in.
    ///
    /// # Errors
    ///
    /// Returns the other permit when it is of another semaphore or session.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if let (Some(ours), Some(theirs)) = (self.parts.first(), other.parts.first())
            && !ours.hold.is_sibling(&theirs.hold)
        {
            return Err(other);
        }
        self.parts.append(&mut other.parts);
        self.fence = self.fence.min(other.fence);
        if self.abandoned.is_none() {
            self.abandoned = other.abandoned.take();
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let permits = mem::take(&mut self.permits);
        if permits > 0 {
            self.hold.cast(&ReleasePermits {
                grant: self.hold.grant(),
                permits,
            });
        }
    }
}

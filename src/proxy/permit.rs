//! `Permit`: held permits of a semaphore, which can be released, forgotten, split and merged.
//!
//! Invariant: dropping or releasing a permit returns exactly the permits that it counts.

use std::{future::Future, mem};

use futures::{FutureExt, future};
use lockkeeper_protocol::{
    Abandoned, Fence,
    operations::{Forget, Granted, MarkConsistent, ReleasePermits},
};

use crate::{
    error::CallError,
    proxy::{
        abandoned::AbandonedGuard,
        hold::{DropToken, Hold},
    },
};

/// Permits of a semaphore, held. Dropping them returns them: the drop sends a message one way, and never
/// waits or fails.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let permits = manager.semaphore(3).await?;
/// let mut two = permits.acquire_many(2).await?;
/// let one = two.split(1).expect("it has two");
/// drop(one);
/// assert_eq!(permits.status().await?.available, 2);
///
/// two.forget(); // Does not come back.
/// assert_eq!(permits.status().await?.held, 0);
/// assert_eq!(permits.status().await?.available, 2);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SemaphorePermit")]
#[doc(alias = "OwnedSemaphorePermit")]
#[derive(Debug)]
#[must_use = "a dropped permit is returned"]
pub struct Permit {
    /// One part for each grant that the permits are from, ordered by grant. The drop of a part returns its
    /// permits. Never empty: a permit of none keeps one part, which names the semaphore.
    parts: Vec<Part>,
    fence: Fence,
    abandoned: Option<Box<Abandoned>>,
    token: DropToken,
}

impl Permit {
    /// The permits of one grant.
    pub(super) fn new(hold: Hold, permits: u32, grant: Granted) -> Self {
        let Granted { fence, abandoned } = grant;
        Self {
            parts: vec![Part { hold, permits }],
            fence,
            abandoned: abandoned.map(Box::new),
            token: DropToken::default(),
        }
    }

    /// Returns the number of permits.
    #[must_use]
    pub fn permits(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.permits)).sum()
    }

    /// Returns the fencing token, which is higher than those of all earlier grants. After a merge it is the lowest
    /// one of the parts.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns which holder died with permits, until [`Self::mark_consistent`] is called.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.abandoned.as_deref()
    }

    /// Returns the permit as an error when a holder died with permits and [`Self::mark_consistent`] was not
    /// called since. It follows every form of acquiring, as
    /// [`LockGuard::strict`](crate::LockGuard::strict) does.
    ///
    /// # Errors
    ///
    /// Returns the permit, which is still held, and the mark of the dead holder.
    pub fn strict(self) -> Result<Self, AbandonedGuard<Self>> {
        let mark = self.abandoned.clone();
        AbandonedGuard::sort(self, mark)
    }

    /// Declares that the data which the semaphore protects is consistent: later permits are unmarked.
    pub fn mark_consistent(&mut self) {
        self.abandoned = None;
        for Part { hold, .. } in &self.parts {
            hold.cast(&MarkConsistent {
                grant: hold.proof(),
            });
        }
    }

    /// Returns whether the permits are still held, as far as this process knows.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.parts.iter().all(|part| part.hold.is_valid())
    }

    /// Waits until some of the permits are no longer held: until the session is lost, the semaphore is
    /// removed, they are given back by [`release_any`](crate::Proxy::release_any), or the permit is
    /// dropped. The future borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        // Each grant may be lost by itself, when anyone may give it back. There always is a part.
        let taken = self.parts.iter().map(|part| Box::pin(part.hold.taken()));
        self.token.lost(future::select_all(taken).map(drop))
    }

    /// Returns the permits and waits until the manager has them.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] when the end of the session returned them. After a
    /// [`CallError::Fault`], as when too many calls are in flight, they are returned without waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the permits are returned.
    pub async fn release(mut self) -> Result<(), CallError> {
        for part in self.parts.iter_mut().filter(|part| part.permits > 0) {
            part.release().await?;
        }
        Ok(())
    }

    /// Forgets the permits: they return neither now nor when this process ends.
    pub fn forget(mut self) {
        for part in &mut self.parts {
            let permits = mem::take(&mut part.permits);
            part.hold.cast(&Forget {
                grant: part.hold.proof(),
                permits,
            });
        }
    }

    /// Splits off `permits` of the permits as a permit of its own; `None` if there are fewer.
    #[must_use = "a dropped permit is returned"]
    pub fn split(&mut self, permits: u32) -> Option<Self> {
        if u64::from(permits) > self.permits() {
            return None;
        }
        let mut parts = Vec::new();
        let mut wanted = permits;
        for part in &mut self.parts {
            let taken = wanted.min(part.permits);
            // None at all are a part too.
            if taken > 0 || parts.is_empty() {
                wanted -= taken;
                part.permits -= taken;
                parts.push(Part {
                    hold: part.hold.share(),
                    permits: taken,
                });
            }
        }
        self.drop_empty_parts();
        Some(Self {
            parts,
            fence: self.fence,
            abandoned: self.abandoned.clone(),
            token: DropToken::default(),
        })
    }

    /// Merges another permit of the same semaphore and session into this one.
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
        for part in other.parts.drain(..) {
            self.take_in(part);
        }
        self.drop_empty_parts();
        self.fence = self.fence.min(other.fence);
        if self.abandoned.is_none() {
            self.abandoned = other.abandoned.take();
        }
        Ok(())
    }

    /// Adds a part, to the one of the same grant if there is one.
    fn take_in(&mut self, mut part: Part) {
        let grant = part.hold.grant();
        match self
            .parts
            .binary_search_by_key(&grant, |ours| ours.hold.grant())
        {
            Ok(place) => {
                if let Some(ours) = self.parts.get_mut(place) {
                    // All parts of a grant together are no more than was granted. The one that is
                    // dropped here is left with nothing to give back.
                    ours.permits += mem::take(&mut part.permits);
                }
            }
            Err(place) => self.parts.insert(place, part),
        }
    }

    /// Drops the parts that have no permits any more, but for the last one there is.
    fn drop_empty_parts(&mut self) {
        if self.permits() == 0 {
            self.parts.truncate(1);
        } else {
            self.parts.retain(|part| part.permits > 0);
        }
    }
}

/// Permits of one grant.
#[derive(Debug)]
struct Part {
    hold: Hold,
    permits: u32,
}

impl Part {
    /// Gives the permits back and waits until the manager has them.
    async fn release(&mut self) -> Result<(), CallError> {
        // Polled once, the release is on its way. A second one by the drop would give back what
        // other parts of the grant hold.
        let permits = mem::take(&mut self.permits);
        let released = self
            .hold
            .call(&ReleasePermits {
                grant: self.hold.proof(),
                permits,
            })
            .await;
        if let Err(CallError::Fault(_) | CallError::Disconnected { .. }) = released {
            // It was not served, or not even sent: they are still the drop's to give back, which
            // does nothing where the connection is lost indeed.
            self.permits = permits;
        }
        released
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let permits = mem::take(&mut self.permits);
        if permits > 0 {
            self.hold.cast(&ReleasePermits {
                grant: self.hold.proof(),
                permits,
            });
        }
    }
}

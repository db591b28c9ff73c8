//! `Permit`: held permits of a semaphore, which can be released, forgotten, split and merged.
//!
//! Invariant: dropping or releasing a permit returns exactly the permits that it counts.

use std::{fmt, future::Future, mem, time::Duration};

use futures::{FutureExt, future};
use lockkeeper_protocol::{
    Abandoned, Fence, Operation, Refusal,
    operations::{Forget, Granted, MarkConsistent, ReleasePermits},
};

use crate::{
    error::CallError,
    proxy::{
        abandoned::AbandonedGuard,
        hold::{DropToken, Hold, run},
        wait::Wait,
    },
    subject::Subject,
};

/// Held permits of a semaphore. Dropping them releases them: the drop sends a one-way message, and never
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
/// two.forget(); // It is not released.
/// assert_eq!(permits.status().await?.held, 0);
/// assert_eq!(permits.status().await?.available, 2);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SemaphorePermit")]
#[doc(alias = "OwnedSemaphorePermit")]
#[must_use = "a dropped permit is returned"]
pub struct Permit {
    /// One part for each grant, ordered by grant. Dropping a part releases its permits. It is never empty:
    /// a permit of zero has one part, which identifies the semaphore.
    parts: Vec<GrantPermits>,
    fence: Fence,
    abandoned: Option<Box<Abandoned>>,
    token: DropToken,
}

impl Permit {
    /// The permits of one grant.
    pub(super) fn new(hold: Hold, permits: u32, grant: Granted) -> Self {
        let Granted { fence, abandoned } = grant;
        Self {
            parts: vec![GrantPermits { hold, permits }],
            fence,
            abandoned: abandoned.map(Box::new),
            token: DropToken::default(),
        }
    }

    /// Returns the number of permits.
    #[doc(alias = "num_permits")]
    #[must_use]
    pub fn permits(&self) -> u32 {
        // A semaphore has no more permits than fit.
        let permits = self.parts.iter().map(|part| part.permits);
        permits.fold(0, u32::saturating_add)
    }

    /// Returns the fence, which is higher than those of all earlier grants. After a merge it is
    /// the lowest one of the parts.
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
        let (mark, subject) = (self.abandoned.clone(), self.subject());
        AbandonedGuard::sort(self, mark, subject)
    }

    /// Declares that the data protected by the semaphore is consistent: later permits have no mark.
    pub fn mark_consistent(&mut self) {
        self.abandoned = None;
        for GrantPermits { hold, .. } in &self.parts {
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

    /// Waits until some of the permits are no longer held, and returns the reason, as
    /// [`LockGuard::lost`](crate::LockGuard::lost) does: the session is lost, the semaphore is removed, another process
    /// has released them by [`release_any`](crate::Proxy::release_any), or the permit is dropped. The future borrows
    /// nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = CallError> + Send + use<> {
        // Each grant may be lost separately if any process may release it.
        let taken = self.parts.iter().map(|part| Box::pin(part.hold.taken()));
        let taken = taken.collect::<Vec<_>>();
        let lost = self.parts.first().map(|part| {
            let taken = future::select_all(taken).map(|(why, ..)| why);
            self.token.lost(taken, part.hold.bound())
        });
        async move {
            match lost {
                Some(lost) => lost.await,
                // There always is a part.
                None => CallError::refused(Refusal::NotHeld),
            }
        }
    }

    /// Runs a future for as long as all of the permits are held: when some are [lost](Self::lost), the future is
    /// dropped. See [`LockGuard::run`](crate::LockGuard::run) for an example.
    ///
    /// # Errors
    ///
    /// Returns the [reason for the loss](Self::lost) when permits were lost before the future ended.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the future is dropped, and the permits are still held.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, CallError> {
        run(self.lost(), future).await
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
    /// If the call is dropped at any point, the permits are returned.
    pub fn release(self) -> Wait<()> {
        let mut parts = self.parts;
        Wait::new(|timeout| async move {
            for part in parts.iter_mut().filter(|part| part.permits > 0) {
                part.release(timeout).await?;
            }
            Ok(())
        })
    }

    /// Forgets the permits: they are released neither now nor when this process ends.
    pub fn forget(mut self) {
        for part in &mut self.parts {
            let permits = mem::take(&mut part.permits);
            part.hold.cast(&Forget {
                grant: part.hold.proof(),
                permits: permits.into(),
            });
        }
    }

    /// Splits off `permits` permits, or returns `None` if there are fewer.
    #[must_use = "a dropped permit is returned"]
    pub fn split(&mut self, permits: u32) -> Option<Self> {
        if permits > self.permits() {
            return None;
        }
        let mut parts = Vec::new();
        let mut wanted = permits;
        for part in &mut self.parts {
            let taken = wanted.min(part.permits);
            // Zero permits need a part too.
            if taken > 0 || parts.is_empty() {
                wanted -= taken;
                part.permits -= taken;
                parts.push(GrantPermits {
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

    /// Adds a part, or merges it with the part of the same grant.
    fn take_in(&mut self, mut part: GrantPermits) {
        let grant = part.hold.grant();
        match self
            .parts
            .binary_search_by_key(&grant, |ours| ours.hold.grant())
        {
            Ok(place) => {
                if let Some(ours) = self.parts.get_mut(place) {
                    // All parts of a grant together have no more permits than were granted, so this
                    // does not overflow. The part that is dropped here has no permits left.
                    ours.permits += mem::take(&mut part.permits);
                }
            }
            Err(place) => self.parts.insert(place, part),
        }
    }

    /// Returns the semaphore, for errors.
    fn subject(&self) -> Subject {
        let part = self.parts.first();
        part.map_or(Subject::UNKNOWN, |part| part.hold.bound().subject())
    }

    /// Drops the parts without permits, but keeps at least one part.
    fn drop_empty_parts(&mut self) {
        if self.permits() == 0 {
            self.parts.truncate(1);
        } else {
            self.parts.retain(|part| part.permits > 0);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("semaphore", &self.subject().name().unwrap_or_default())
            .field("permits", &self.permits())
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

/// Permits of one grant.
struct GrantPermits {
    hold: Hold,
    permits: u32,
}

impl GrantPermits {
    /// Releases the permits and waits until the manager has them.
    async fn release(&mut self, timeout: Option<Duration>) -> Result<(), CallError> {
        let release = ReleasePermits {
            grant: self.hold.proof(),
            permits: self.permits.into(),
        };
        let bound = self.hold.bound();
        let arguments = bound.encode(&release)?;
        // If it is not sent, the drop releases the permits.
        let sent = bound.send(None, ReleasePermits::NAME, &arguments, timeout.into())?;
        // A second release by the drop would release permits that other parts of the grant hold.
        let permits = mem::take(&mut self.permits);
        let released = bound.reply::<ReleasePermits>(sent).await;
        if let Err(CallError::Fault(_) | CallError::Disconnected { .. }) = released {
            // The release was not served, so the drop releases the permits. This has no effect if the
            // connection is lost.
            self.permits = permits;
        }
        let (_, reply) = released?;
        bound.accepted(reply)
    }
}

impl Drop for GrantPermits {
    fn drop(&mut self) {
        let permits = mem::take(&mut self.permits);
        if permits > 0 {
            self.hold.cast(&ReleasePermits {
                grant: self.hold.proof(),
                permits: permits.into(),
            });
        }
    }
}

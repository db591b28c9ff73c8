//! The proxy of a hosted lock, its guard, and the ticket that a guard can be handed on as.

use std::{future::Future, time::Duration};

use lockkeeper_actors::{
    Abandoned, CallId, Fence,
    sync::{
        self, Acquire, Adopt, ForceUnlock, LockGrant, LockStatus, MarkConsistent, Release, Status,
    },
};
use serde::{Deserialize, Serialize};

use super::{Hold, Proxy, Token, abandoned::AbandonedGuard, block_on, tried};
use crate::CallError;

/// A lock that processes share: at most one guard at a time, granted in the order of arrival.
///
/// Counterpart of Python's `manager.Lock()`. Unlike there, the lock of a killed holder goes to the
/// next in line at once, and a killed waiter is never granted it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.lock().await?;
/// let guard = lock.acquire().await?;
/// assert!(lock.try_acquire().await?.is_none());
/// drop(guard);
/// assert!(lock.try_acquire().await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(pub(crate) Proxy<sync::Lock>);

impl Lock {
    /// Waits for the lock. Python: `lock.acquire()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager and
    /// [`CallError::Gone`] once the lock was removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held and nobody else's turn is lost. So
    /// `tokio::time::timeout(time, lock.acquire())` is right.
    pub async fn acquire(&self) -> Result<LockGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits for the lock until the time is over, kept by the manager.
    /// Python: `lock.acquire(timeout=..)`.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard, CallError> {
        self.acquire_within(Some(timeout)).await
    }

    /// Takes the lock if it is free; never overtakes a waiter.
    /// Python: `lock.acquire(blocking=False)`.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, CallError> {
        tried(self.acquire_within(Some(Duration::ZERO)).await)
    }

    /// Waits for the lock in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_owned(self) -> Result<LockGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits for the lock on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_acquire(&self) -> Result<LockGuard, CallError> {
        block_on(self.acquire())
    }

    /// Waits for the lock on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_acquire_timeout(&self, timeout: Duration) -> Result<LockGuard, CallError> {
        block_on(self.acquire_timeout(timeout))
    }

    /// Takes the lock on a plain thread if it is free.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    pub fn blocking_try_acquire(&self) -> Result<Option<LockGuard>, CallError> {
        block_on(self.try_acquire())
    }

    /// Becomes the holder in place of whoever the ticket is from, and marks that one's guard lost.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold has ended, else as
    /// [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before the call is on its way, as while it still connects, nothing has moved: the
    /// lock stays held by the session that the ticket is from, and only a clone of the ticket can
    /// adopt or release it. Dropped later the hold may have moved; then the lock is released.
    pub async fn adopt(&self, ticket: Ticket) -> Result<LockGuard, CallError> {
        let bound = self.0.bound().await?;
        let (grant, reply) = bound
            .call(
                &Adopt {
                    grant: ticket.grant,
                },
                None,
            )
            .await?;
        Ok(LockGuard::new(Hold::new(bound, grant), reply?))
    }

    /// Releases the hold that the ticket is from, whichever process has it.
    /// Python: `lock.release()` by another process.
    ///
    /// # Errors
    ///
    /// As [`Self::adopt`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before the call is on its way, as while it still connects, the lock stays held, and
    /// only a clone of the ticket can release it; dropped later, it is released. A second release
    /// does no harm, so keep a clone and try again.
    pub async fn release(&self, ticket: Ticket) -> Result<(), CallError> {
        Ok(self
            .0
            .call(Release {
                grant: ticket.grant,
            })
            .await??)
    }

    /// Takes the lock from whoever holds it, whose guard is lost then, and gives it to the next in
    /// line with a higher fence. Returns whether anybody held it.
    ///
    /// An administrator's verb: the holder may be in the middle of what the lock protects.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been done, and nobody knows whether anybody held the lock.
    pub async fn force_unlock(&self) -> Result<bool, CallError> {
        self.0.call(ForceUnlock).await
    }

    /// Tells whether the lock is held and how many wait, which may have changed when it is read.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn status(&self) -> Result<LockStatus, CallError> {
        self.0.call(Status).await
    }

    /// Where the lock is.
    #[must_use]
    pub const fn token(&self) -> &Token<sync::Lock> {
        self.0.token()
    }

    async fn acquire_within(&self, timeout: Option<Duration>) -> Result<LockGuard, CallError> {
        let bound = self.0.bound().await?;
        let (grant, reply) = bound.call(&Acquire, timeout).await?;
        Ok(LockGuard::new(Hold::new(bound, grant), reply))
    }
}

/// The lock, held. Its drop releases the lock: it sends that one way, and never waits or fails.
#[derive(Debug)]
#[must_use = "a guard that is dropped releases the lock"]
pub struct LockGuard {
    hold: Hold,
    fence: Fence,
    abandoned: Option<Box<Abandoned>>,
    /// Whether the drop has nothing to release.
    is_over: bool,
}

impl LockGuard {
    fn new(hold: Hold, LockGrant { fence, abandoned }: LockGrant) -> Self {
        Self {
            hold,
            fence,
            abandoned: abandoned.map(Box::new),
            is_over: false,
        }
    }

    /// The fencing token of this hold, higher than those of all holds before it.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Who died inside the lock, until somebody declares the data consistent
    /// (POSIX `EOWNERDEAD`).
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.abandoned.as_deref()
    }

    /// Returns the guard as an error when an earlier holder died inside, until somebody calls
    /// [`Self::mark_consistent`]. It fits behind every form of acquiring:
    ///
    /// ```
    /// # use lockkeeper::LockGuard;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let lock = manager.lock().await?;
    /// let guard = lock.acquire().await?.strict()?;
    /// # drop(guard);
    /// let tried = lock.try_acquire().await?.map(LockGuard::strict).transpose()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the guard, which holds the lock still, and who died inside.
    pub fn strict(self) -> Result<Self, AbandonedGuard<Self>> {
        let mark = self.abandoned.clone();
        AbandonedGuard::sort(self, mark)
    }

    /// Declares that what the lock protects was looked after: later guards are unmarked.
    pub fn mark_consistent(&mut self) {
        self.abandoned = None;
        self.hold.cast(&MarkConsistent {
            grant: self.hold.grant(),
        });
    }

    /// Whether the lock is held still, as far as this process can know: its session lives, and
    /// nobody has forced the lock open.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until the lock is no longer held: until the session is lost, or somebody forces the
    /// lock open. Borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.hold.lost()
    }

    /// Releases the lock and waits until the manager has done so.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before. With
    /// [`CallError::Fault`], as when too many calls are in flight, the lock is released without
    /// waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the lock is released.
    pub async fn release(mut self) -> Result<(), CallError> {
        let released = self
            .hold
            .call(&Release {
                grant: self.hold.grant(),
            })
            .await;
        // What failed may not have reached the lock. The drop releases it then, and also when this
        // is dropped midway: a second release finds nothing, and harms nobody.
        self.is_over = released.is_ok();
        released
    }

    /// Gives the hold out of hand: whoever has the ticket may [`Lock::adopt`] or
    /// [`Lock::release`] it. Until then it still belongs to this process's session.
    #[must_use = "without the ticket the lock stays held until this process ends"]
    pub fn into_ticket(mut self) -> Ticket {
        self.is_over = true;
        Ticket {
            grant: self.hold.grant(),
            fence: self.fence,
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if !self.is_over {
            self.hold.cast(&Release {
                grant: self.hold.grant(),
            });
        }
    }
}

/// A hold of a lock that can be sent to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    grant: CallId,
    fence: Fence,
}

impl Ticket {
    /// The fencing token of the hold.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }
}

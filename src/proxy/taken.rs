//! `Taken`: an item that was taken from a queue and is not done yet. `PutError`: an item that could not
//! be put.
//!
//! Invariant: an item is acknowledged only by an explicit call of its taker.

use std::{error::Error, fmt, future::Future, ops::Deref};

use lockkeeper_protocol::{
    Abandoned, Fence, Refusal,
    operations::{Delivery, Done, PutBack},
};

use crate::{
    error::CallError,
    proxy::{abandoned::AbandonedGuard, hold::Hold},
};

/// An item of a queue, taken. It is this process's until it is said to be done.
///
/// Its drop puts the item back to the front, since a drop says nothing of success: an error that is
/// returned early, a panic and a future that is dropped do the same. It sends that one way, and
/// never waits or fails.
#[must_use = "an item that is dropped goes back to the queue: say `done` when it is"]
pub struct Taken<T> {
    item: T,
    fence: Fence,
    attempts: u32,
    abandoned: Option<Box<Abandoned>>,
    claim: Claim,
}

impl<T> Taken<T> {
    pub(super) fn new(claim: Claim, item: T, delivery: Delivery) -> Self {
        Self {
            item,
            fence: delivery.fence,
            attempts: delivery.attempts,
            abandoned: delivery.abandoned.map(Box::new),
            claim,
        }
    }

    /// Acknowledges the item, waits until the manager knows, and returns it.
    /// Python: `queue.task_done()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the item is no longer this process's, so
    /// that somebody else has it or will. After any other error, as [`CallError::Disconnected`],
    /// it may be done or back in the queue.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the item is done or back in the queue.
    pub async fn done(self) -> Result<T, CallError> {
        let Self {
            item, mut claim, ..
        } = self;
        let delivery = claim.hold.proof();
        let done = claim.hold.call(&Done { delivery }).await;
        // What failed may not have reached the queue; the drop puts the item back then. Where it
        // has, that finds nothing, and harms nobody.
        claim.is_over = done.is_ok();
        done.map(|()| item)
    }

    /// Acknowledges the item without waiting, and returns it. Python: `queue.get()` without more.
    ///
    /// Sent one way: a process that dies right afterwards may not have said it, and then another
    /// has the item once more.
    pub fn into_inner(self) -> T {
        let Self {
            item, mut claim, ..
        } = self;
        let delivery = claim.hold.proof();
        claim.hold.cast(&Done { delivery });
        claim.is_over = true;
        item
    }

    /// Gives the item back to the front of the queue, and waits until it is there.
    ///
    /// # Errors
    ///
    /// As [`Self::done`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the item goes back.
    pub async fn put_back(self) -> Result<(), CallError> {
        let mut claim = self.claim;
        let delivery = claim.hold.proof();
        let is_back = claim.hold.call(&PutBack { delivery }).await;
        claim.is_over = is_back.is_ok();
        is_back
    }

    /// How often the item was given to somebody, this time included: 1 for the first. An item that
    /// kills whoever takes it is known by it.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The fencing token of this delivery, higher than those of all deliveries before.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Who died with this item last, if anybody did: it may be half done.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.abandoned.as_deref()
    }

    /// Returns the item as an error when somebody died with it. As
    /// [`LockGuard::strict`](crate::LockGuard::strict), it fits behind every form of taking.
    ///
    /// # Errors
    ///
    /// Returns the item, which is this process's still, and who died with it.
    pub fn strict(self) -> Result<Self, AbandonedGuard<Self>> {
        let mark = self.abandoned.clone();
        AbandonedGuard::sort(self, mark)
    }

    /// Whether the item is this process's still, as far as it can know: its session lives, and the
    /// queue was not removed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.claim.hold.is_valid()
    }

    /// Waits until the item is no longer this process's: until the session is lost, the queue is
    /// removed, or this is dropped. Borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<T> {
        self.claim.hold.lost()
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken")
            .field("item", &self.item)
            .field("fence", &self.fence)
            .field("attempts", &self.attempts)
            .field("abandoned", &self.abandoned)
            .finish_non_exhaustive()
    }
}

/// What goes back unless it is over.
pub(super) struct Claim {
    hold: Hold,
    /// Whether the drop has nothing to put back.
    is_over: bool,
}

impl Claim {
    pub(super) const fn new(hold: Hold) -> Self {
        Self {
            hold,
            is_over: false,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_over {
            let delivery = self.hold.proof();
            self.hold.cast(&PutBack { delivery });
        }
    }
}

/// An item that was not put, with the reason.
///
/// As an error of a function that returns [`CallError`], `?` makes that of it, and drops the item.
#[derive(Clone, PartialEq, Eq)]
pub struct PutError<T> {
    /// The item, as it was.
    pub item: T,
    /// Why it was not put. With [`CallError::Disconnected`] it may have been.
    pub error: CallError,
}

impl<T> PutError<T> {
    /// Whether there was no room, or none in time.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.error == CallError::TimedOut
    }

    /// Whether the queue takes no more items.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.error == CallError::Refused(Refusal::Closed)
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_full() {
            return f.write_str("the item was not put: the queue had no room for it in time");
        }
        write!(f, "the item was not put: {}", self.error)
    }
}

impl<T> Error for PutError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<PutError<T>> for CallError {
    fn from(put: PutError<T>) -> Self {
        put.error
    }
}

//! The methods that a proxy has for every kind that serves their operation: the numbers of an object, and
//! the release of what another process holds.

use lockkeeper_actors::{Serve, data, sync};
use lockkeeper_protocol::{
    Operation,
    operations::{
        BarrierStatus, Count, CountArrivals, CountHolders, CountItems, CountKeys, CountLeft,
        CountWatchers, EventStatus, ForceUnlock, KeyedStatus, LatchStatus, LockStatus, Look,
        QueueStatus, Release, ReleaseAny, RwLockStatus, SemaphoreStatus, Status, ValueStatus,
    },
};

use crate::proxy::{
    guard::{Ticket, Ticketed},
    lock_kind::LockKind,
    proxy::Proxy,
    wait::Wait,
};

/// A kind whose objects tell numbers of their own: all built-in kinds do.
pub trait HasStatus: Serve<Self::Ask> {
    /// The numbers.
    type Status: 'static;

    /// The operation that asks for them.
    #[doc(hidden)]
    type Ask: Operation<Reply = Self::Status>;

    #[doc(hidden)]
    const ASK: Self::Ask;
}

impl<P: LockKind> HasStatus for P {
    type Status = LockStatus;
    type Ask = Status;
    const ASK: Status = Status;
}

impl<B: sync::Bound> HasStatus for sync::Counting<B> {
    type Status = SemaphoreStatus;
    type Ask = Count;
    const ASK: Count = Count;
}

impl HasStatus for sync::Event {
    type Status = EventStatus;
    type Ask = Look;
    const ASK: Look = Look;
}

impl HasStatus for sync::Barrier {
    type Status = BarrierStatus;
    type Ask = CountArrivals;
    const ASK: CountArrivals = CountArrivals;
}

impl HasStatus for sync::Latch {
    type Status = LatchStatus;
    type Ask = CountLeft;
    const ASK: CountLeft = CountLeft;
}

impl HasStatus for sync::RwLock {
    type Status = RwLockStatus;
    type Ask = CountHolders;
    const ASK: CountHolders = CountHolders;
}

impl<F: sync::Face> HasStatus for sync::Keyed<F> {
    type Status = KeyedStatus;
    type Ask = CountKeys;
    const ASK: CountKeys = CountKeys;
}

impl HasStatus for data::Queue {
    type Status = QueueStatus;
    type Ask = CountItems;
    const ASK: CountItems = CountItems;
}

impl HasStatus for data::Value {
    type Status = ValueStatus;
    type Ask = CountWatchers;
    const ASK: CountWatchers = CountWatchers;
}

impl<P: HasStatus> Proxy<P> {
    /// Tells the object's numbers, which may have changed when they are read. Python: `queue.qsize()`,
    /// `barrier.n_waiting` and the like.
    #[doc(alias = "locked")]
    #[doc(alias = "qsize")]
    #[doc(alias = "n_waiting")]
    pub fn status(&self) -> Wait<P::Status> {
        self.call(P::ASK)
    }
}

impl<P: Ticketed + Serve<Release>> Proxy<P> {
    /// Releases the hold that the ticket is from, whichever process has it. Python: `lock.release()` by
    /// another process than the one that acquired.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `NotHeld` when the hold has ended, and
    /// with `StillInside` while the owner of a reentrant lock is inside more than once.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the call is on its way, as while it still connects, the lock stays held, and only a clone
    /// of the ticket can release it; dropped later, it is released. A second release does no harm, so keep a
    /// clone and try again.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket is good for one release"
    )]
    pub fn release(&self, ticket: Ticket) -> Wait<()> {
        let grant = ticket.proof();
        self.attempt(Release { grant })
    }
}

impl<P: Serve<ReleaseAny>> Proxy<P> {
    /// Releases the hold that has lasted longest, whichever process has it, if the object was made with
    /// [`ReleaseBy::Anyone`](crate::ReleaseBy): all permits of that grant, and of a reentrant lock its first
    /// entry. The guard of that hold is lost. Python: `lock.release()` and `semaphore.release()` by another
    /// process than the one that acquired.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `NotHeld` when the object is free,
    /// and with `Invalid` when only its holders may release it.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, the hold may have been released. Do not try again: the next holder would lose its own.
    pub fn release_any(&self) -> Wait<()> {
        self.attempt(ReleaseAny)
    }
}

impl<P: Serve<ForceUnlock>> Proxy<P> {
    /// Takes the lock from all holders, whose guards are lost then, and grants it to the next in line with
    /// a higher fence. Returns whether it was held.
    ///
    /// For administrators: the holder may be in the middle of what the lock protects, and the next holder
    /// finds no mark of that.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been done.
    pub fn force_unlock(&self) -> Wait<bool> {
        self.call(ForceUnlock)
    }
}

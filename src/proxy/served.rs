//! The methods of proxies of every kind that serves the operation: the status of an object, and the
//! release of other processes' holds.

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

/// A kind with a status operation, which all built-in kinds have.
pub trait HasStatus: Serve<Self::Ask> {
    /// The type of the status.
    type Status: 'static;

    /// The operation that returns it.
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
    /// Returns the object's status, which may have changed when the answer arrives. Python:
    /// `queue.qsize()`, `barrier.n_waiting` and the like.
    #[doc(alias = "locked")]
    #[doc(alias = "qsize")]
    #[doc(alias = "n_waiting")]
    pub fn status(&self) -> Wait<P::Status> {
        self.call(P::ASK)
    }
}

impl<P: Ticketed + Serve<Release>> Proxy<P> {
    /// Releases the hold of the ticket, from any process. Python: `lock.release()` by another process
    /// than the one that acquired.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `NotHeld` when the hold has ended, and
    /// with `StillInside` while the owner of a reentrant lock has acquired it more than once.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped before it is sent, for example while it connects, the lock stays held, and only a
    /// clone of the ticket can release it. If it is dropped later, the lock is released. A second release has
    /// no effect, so keep a clone and try again.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket is valid for one release"
    )]
    pub fn release(&self, ticket: Ticket) -> Wait<()> {
        let grant = ticket.proof();
        self.attempt(Release { grant })
    }
}

impl<P: Serve<ReleaseAny>> Proxy<P> {
    /// Releases the oldest hold, of any process, if the object was made with
    /// [`ReleaseBy::Anyone`](crate::ReleaseBy): all permits of that grant, or the first entry of a reentrant
    /// lock. The guard of that hold is lost. Python: `lock.release()` and `semaphore.release()` by another
    /// process than the one that acquired.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `NotHeld` when the object is free,
    /// and with `Invalid` when only its holders may release it.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the hold may have been released. Do not repeat the call:
    /// it could release the hold of the next holder.
    pub fn release_any(&self) -> Wait<()> {
        self.attempt(ReleaseAny)
    }
}

impl<P: Serve<ForceUnlock>> Proxy<P> {
    /// Ends all holds, whose guards are then lost, and grants the lock to the next waiter with a higher
    /// fence. Returns whether it was held.
    ///
    /// It is for administrators: the holder may be in its critical section, and the next holder gets no
    /// mark.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have had its effect.
    pub fn force_unlock(&self) -> Wait<bool> {
        self.call(ForceUnlock)
    }
}

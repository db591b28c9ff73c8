//! The methods of proxies of every kind that serves the operation: the status of an object, and the
//! release of other processes' holds.

use lockkeeper_actors::{Serve, data, sync};
use lockkeeper_protocol::{
    Operation,
    operations::{
        BarrierStatus, EventStatus, ForceUnlock, GetBarrierStatus, GetEventStatus, GetKeyedStatus,
        GetLatchStatus, GetLockStatus, GetQueueStatus, GetRwLockStatus, GetSemaphoreStatus,
        GetValueStatus, KeyedStatus, LatchStatus, LockStatus, QueueStatus, Release, ReleaseAny,
        RwLockStatus, SemaphoreStatus, ValueStatus,
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
    type Ask = GetLockStatus;
    const ASK: GetLockStatus = GetLockStatus;
}

impl<B: sync::Bound> HasStatus for sync::Counting<B> {
    type Status = SemaphoreStatus;
    type Ask = GetSemaphoreStatus;
    const ASK: GetSemaphoreStatus = GetSemaphoreStatus;
}

impl HasStatus for sync::Event {
    type Status = EventStatus;
    type Ask = GetEventStatus;
    const ASK: GetEventStatus = GetEventStatus;
}

impl HasStatus for sync::Barrier {
    type Status = BarrierStatus;
    type Ask = GetBarrierStatus;
    const ASK: GetBarrierStatus = GetBarrierStatus;
}

impl HasStatus for sync::Latch {
    type Status = LatchStatus;
    type Ask = GetLatchStatus;
    const ASK: GetLatchStatus = GetLatchStatus;
}

impl HasStatus for sync::RwLock {
    type Status = RwLockStatus;
    type Ask = GetRwLockStatus;
    const ASK: GetRwLockStatus = GetRwLockStatus;
}

impl<F: sync::KeyedVariant> HasStatus for sync::Keyed<F> {
    type Status = KeyedStatus;
    type Ask = GetKeyedStatus;
    const ASK: GetKeyedStatus = GetKeyedStatus;
}

impl HasStatus for data::Queue {
    type Status = QueueStatus;
    type Ask = GetQueueStatus;
    const ASK: GetQueueStatus = GetQueueStatus;
}

impl HasStatus for data::Value {
    type Status = ValueStatus;
    type Ask = GetValueStatus;
    const ASK: GetValueStatus = GetValueStatus;
}

impl<P: HasStatus> Proxy<P> {
    /// Returns the object's status, which may have changed when the answer arrives. Python:
    /// `queue.qsize()`, `barrier.n_waiting` and the like.
    #[doc(alias = "available_permits")]
    #[doc(alias = "is_empty")]
    #[doc(alias = "len")]
    #[doc(alias = "locked")]
    #[doc(alias = "qsize")]
    #[doc(alias = "n_waiting")]
    pub fn status(&self) -> Wait<P::Status> {
        self.call(P::ASK)
    }
}

impl<P: Ticketed + Serve<Release>> Proxy<P> {
    /// Releases the hold of the ticket, from any process. Python: `lock.release()` by another process
    /// than the one that acquired. Locks, reentrant locks, conditions, keyed locks and keyed semaphores have tickets;
    /// readers-writer locks and semaphores do not.
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
    pub fn release_ticket(&self, ticket: Ticket) -> Wait<()> {
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
    /// Only locks, conditions and semaphores have this method. The pages of other proxies list it because they
    /// dereference to a [`Proxy`].
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
    /// Only locks and conditions have this method. The pages of other proxies list it because they dereference to a
    /// [`Proxy`].
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

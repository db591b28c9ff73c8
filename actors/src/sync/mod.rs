//! The built-in synchronization primitives, each a pure state machine.
//!
//! They may import `kind`, `waiting` and the protocol; their operations and statuses are defined in the
//! protocol and re-exported here. `exclusion` is the shared state of all kinds with one holder, and `line`
//! their queue of waiting calls.

pub(crate) mod barrier;
mod by_age;
pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod exclusion;
pub(crate) mod keyed;
pub(crate) mod latch;
pub(crate) mod line;
pub(crate) mod lock;
pub(crate) mod reentrant_lock;
pub(crate) mod rw_lock;
pub(crate) mod semaphore;

pub use barrier::Barrier;
pub use condition::{Condition, ConditionWaiter};
pub use event::Event;
pub use exclusion::{Exclusion, Exclusive};
pub use keyed::{Keyed, KeyedLock, KeyedSemaphore, KeyedVariant, ManyPermits, SinglePermit};
pub use latch::Latch;
pub use line::Waiter;
pub use lock::Lock;
pub use lockkeeper_protocol::operations::{
    Abort, Access, Acquire, AcquireAs, AcquireFor, AcquireKey, AcquireKeyMany, AcquireMany,
    AddPermits, Adopt, AdoptAs, AdoptKey, AdoptedKey, Arrival, Arrive, ArriveAndWait, BarrierSpec,
    BarrierStatus, BarrierWaitResult, Clear, Close, CountDown, CountSleepers, Downgrade,
    EventStatus, Fail, Finish, ForceUnlock, ForceUnlockKey, Forget, GetBarrierStatus,
    GetEventStatus, GetKeyStatus, GetKeyedStatus, GetLatchStatus, GetLockStatus, GetRwLockStatus,
    GetSemaphoreStatus, Granted, Key, KeyPage, KeyStatus, KeyedStatus, LatchSpec, LatchStatus,
    ListKeys, LockStatus, MarkConsistent, Notify, OnDeath, Release, ReleaseAny, ReleaseAnyKey,
    ReleaseBy, ReleasePermits, Reset, RwLockStatus, SemaphoreSpec, SemaphoreStatus, Set, Sleep,
    Upgrade, WaitOpen, WaitSet, Wake, Woken,
};
pub use reentrant_lock::{ReentrantLock, ReentrantWaiter};
pub use rw_lock::RwLock;
pub use semaphore::{Bound, Bounded, BoundedSemaphore, Counting, Semaphore, Unbounded};

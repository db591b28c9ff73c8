//! The built-in synchronization primitives, each a pure state machine.

mod barrier;
mod condition;
mod event;
mod exclusion;
mod granted;
mod keyed;
mod latch;
mod line;
mod lock;
mod reentrant_lock;
mod rw_lock;
mod semaphore;

pub use barrier::{
    Abort, Arrival, Arrive, Barrier, BarrierSpec, BarrierStatus, CountArrivals, Fail, Finish,
    OnDeath, Passed, Reset,
};
pub use condition::{Comer, Condition, CountSleepers, Notify, Sleep, Wake, Woken};
pub use event::{Clear, Event, EventStatus, Look, Set, WaitSet};
pub use exclusion::{
    Acquire, Adopt, Entrant, Exclusion, Exclusive, ForceUnlock, LockStatus, Release, Status,
};
pub use granted::{Granted, MarkConsistent};
pub use keyed::{
    AcquireKey, AcquireKeyMany, AdoptKey, AdoptedKey, CountKey, CountKeys, Face, ForceUnlockKey,
    Key, KeyStatus, Keyed, KeyedLock, KeyedSemaphore, KeyedStatus, ListKeys, OneAKey, SeveralAKey,
};
pub use latch::{ArriveAndWait, CountDown, CountLeft, Latch, LatchSpec, LatchStatus, WaitOpen};
pub use lock::Lock;
pub use reentrant_lock::{AcquireAs, AdoptAs, Entry, ReentrantLock};
pub use rw_lock::{Access, AcquireFor, CountHolders, Downgrade, RwLock, RwLockStatus, Upgrade};
pub use semaphore::{
    AcquireMany, AddPermits, Bound, Bounded, BoundedSemaphore, Close, Count, Counting, Forget,
    ReleasePermits, Semaphore, SemaphoreSpec, SemaphoreStatus, Unbounded,
};

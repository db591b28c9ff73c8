//! The operations of the built-in kinds: arguments, replies, specs and statuses.
//!
//! Clients use these and no state machine; the crate `lockkeeper-actors` implements the state machines. Each
//! module has the operations of one kind, or of several kinds that share them. They may import `codec`,
//! `fault`, `ids`, `operation`, `peer` and `proof`.

pub(crate) mod barrier;
pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod keyed;
pub(crate) mod latch;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod rw_lock;
pub(crate) mod semaphore;
pub(crate) mod task_queue;
pub(crate) mod task_row;
pub(crate) mod typed;
pub(crate) mod value;

pub use barrier::{
    Abort, Arrival, Arrive, BarrierSpec, BarrierStatus, CountArrivals, Fail, Finish, OnDeath,
    Passed, Reset,
};
pub use condition::{CountSleepers, Notify, Sleep, Wake, Woken};
pub use event::{Clear, EventStatus, Look, Set, WaitSet};
pub use grant::{Granted, MarkConsistent, Release, ReleaseAny, ReleaseBy};
pub use key::Key;
pub use keyed::{
    AcquireKey, AcquireKeyMany, AdoptKey, AdoptedKey, CountKey, CountKeys, ForceUnlockKey, KeyPage,
    KeyStatus, KeyedStatus, ListKeys, ReleaseAnyKey,
};
pub use latch::{ArriveAndWait, CountDown, CountLeft, LatchSpec, LatchStatus, WaitOpen};
pub use lock::{Acquire, AcquireAs, Adopt, AdoptAs, ForceUnlock, LockStatus, Status};
pub use queue::{
    CloseQueue, CountItems, Delivery, Done, Get, Join, Put, PutBack, QueueSpec, QueueStatus,
};
pub use rw_lock::{Access, AcquireFor, CountHolders, Downgrade, RwLockStatus, Upgrade};
pub use semaphore::{
    AcquireMany, AddPermits, Close, Count, Forget, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
};
pub use task_queue::{
    Chunk, ChunkOutcome, CloseTasks, Collect, CountTasks, Ended, FailTasks, Feed, Finished,
    HandBack, Job, Leave, LimitSeries, Next, ReleaseOutcomes, Reports, Submit, TaskFault, TaskName,
    TaskQueueStatus, WorkerExit, outcome_bytes,
};
pub use task_row::Row;
pub use typed::CheckType;
pub use value::{
    CountWatchers, Exchange, Exchanged, OnlyIf, Read, Store, Swap, ValueSpec, ValueStatus,
    Versioned, WaitChange,
};

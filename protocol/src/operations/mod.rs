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
pub(crate) mod task_outcome;
pub(crate) mod task_queue;
pub(crate) mod task_row;
pub(crate) mod task_rule;
pub(crate) mod typed;
pub(crate) mod value;

pub use barrier::{
    Abort, Arrival, Arrive, BarrierSpec, BarrierStatus, BarrierWaitResult, Fail, Finish,
    GetBarrierStatus, OnDeath, Reset,
};
pub use condition::{CountSleepers, Notify, Sleep, Wake, Woken};
pub use event::{Clear, EventStatus, GetEventStatus, Set, WaitSet};
pub use grant::{Granted, MarkConsistent, Release, ReleaseAny, ReleaseBy};
pub use key::Key;
pub use keyed::{
    AcquireKey, AcquireKeyMany, AdoptKey, AdoptedKey, ForceUnlockKey, GetKeyStatus, GetKeyedStatus,
    KeyPage, KeyStatus, KeyedStatus, ListKeys, ReleaseAnyKey,
};
pub use latch::{ArriveAndWait, CountDown, GetLatchStatus, LatchSpec, LatchStatus, WaitOpen};
pub use lock::{Acquire, AcquireAs, Adopt, AdoptAs, ForceUnlock, GetLockStatus, LockStatus};
pub use queue::{
    CloseQueue, Delivery, Done, Get, GetQueueStatus, Join, Put, PutBack, QueueSpec, QueueStatus,
};
pub use rw_lock::{Access, AcquireFor, Downgrade, GetRwLockStatus, RwLockStatus, Upgrade};
pub use semaphore::{
    AcquireMany, AddPermits, Close, Forget, GetSemaphoreStatus, ReleasePermits, SemaphoreSpec,
    SemaphoreStatus,
};
pub use task_outcome::{
    ChunkOutcome, JobOutcome, TaskFailure, TaskFault, UndecodedTask, WorkerExit, outcome_bytes,
};
pub use task_queue::{
    Chunk, CloseTasks, Collect, DrainTasks, Due, Ended, Enlist, FailTasks, Feed, Finished,
    GetTaskQueueStatus, HandBack, Job, KillTask, Leave, LimitSeries, ListRunning, Next,
    ReleaseOutcomes, Reports, Running, Submit, TaskName, TaskQueueStatus, Tend, Tended,
};
pub use task_row::Row;
pub use task_rule::{RetryRule, TaskRule};
pub use typed::CheckType;
pub use value::{
    Exchange, Exchanged, GetValueStatus, OnlyIf, Read, Store, Swap, ValueSpec, ValueStatus,
    Versioned, WaitChange,
};

//! The built-in hosted data types, each a pure state machine.
//!
//! They may import `kind`, `waiting` and the protocol; their operations and statuses are defined in the
//! protocol and re-exported here.

pub(crate) mod queue;
pub(crate) mod task_queue;
pub(crate) mod typed;
pub(crate) mod value;

pub use lockkeeper_protocol::operations::{
    CheckType, Chunk, ChunkOutcome, CloseQueue, CloseTasks, Collect, Delivery, Done, DrainTasks,
    Due, Ended, Enlist, Exchange, Exchanged, Feed, Finished, Get, GetQueueStatus,
    GetTaskQueueStatus, GetValueStatus, HandBack, Job, JobOutcome, Join, KillTask, Leave,
    LimitSeries, ListRunning, Next, OnlyIf, Put, PutBack, QueueSpec, QueueStatus, Read,
    ReleaseOutcomes, Reports, RetryRule, Row, Running, Store, Submit, Swap, TaskFailure, TaskFault,
    TaskQueueStatus, TaskRule, Tend, Tended, ValueSpec, ValueStatus, Versioned, WaitChange,
    WorkerExit,
};
pub use queue::Queue;
pub use task_queue::TaskQueue;
pub use value::Value;

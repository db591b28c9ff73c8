//! The built-in hosted data types, each a pure state machine.

mod queue;
mod task_queue;
mod typed;
mod value;

pub use queue::{
    CloseQueue, CountItems, Delivery, Done, Get, Join, Put, PutBack, Queue, QueueSpec, QueueStatus,
};
pub use task_queue::{
    Chunk, ChunkOutcome, CloseTasks, Collect, CountTasks, Ended, Feed, Finished, HandBack, Job,
    Leave, Next, Reports, Row, Submit, TaskFault, TaskQueue, TaskQueueStatus,
};
pub use typed::CheckType;
pub use value::{
    CountWatchers, Exchange, Exchanged, OnlyIf, Read, Store, Swap, Value, ValueSpec, ValueStatus,
    Versioned, WaitChange,
};

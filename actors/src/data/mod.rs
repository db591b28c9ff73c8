//! The built-in hosted data types, each a pure state machine.

mod task_queue;

pub use task_queue::{
    ChunkOutcome, CloseTasks, CountTasks, Finished, Job, Next, Submit, TaskFault, TaskQueue,
    TaskQueueStatus,
};

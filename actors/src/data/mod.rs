//! The built-in hosted data types, each a pure state machine.

mod task_queue;

pub use task_queue::{
    Chunk, ChunkOutcome, CloseTasks, CountTasks, Finished, HandBack, Job, Next, Submit, TaskFault,
    TaskQueue, TaskQueueStatus,
};

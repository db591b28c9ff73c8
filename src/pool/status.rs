//! `PoolStatus`: the numbers of a pool's tasks and workers.

use serde::{Deserialize, Serialize};

/// The state of a pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The number of tasks that wait for a worker.
    pub waiting: u64,
    /// The number of tasks that workers have taken, including those whose submitter is gone. Each worker runs
    /// the first of its tasks.
    pub running: u64,
    /// The number of workers that wait for a task.
    pub idle: u64,
    /// The number of places without a worker, because no worker gets ready. The pool retries at least every
    /// 10 seconds, unless workers have reported that they cannot work.
    pub missing_workers: u64,
}

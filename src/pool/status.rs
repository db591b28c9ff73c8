//! `PoolStatus`: the numbers of a pool's tasks and workers, and the tasks that run.

use std::time::Duration;

use lockkeeper_protocol::operations::Running;
use serde::{Deserialize, Serialize};

/// The state of a pool at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The task that each busy worker runs.
    pub tasks: Vec<RunningTask>,
}

/// A task that a worker of a pool runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunningTask {
    /// The process id of the worker.
    pub pid: u32,
    /// The name of the task; `None` if its submitter does not wait for it any more.
    pub task: Option<String>,
    /// How long it has run, to a few milliseconds. For a [chunk](crate::builders::PoolBuilder::chunk_size) of several
    /// tasks it is the time of all.
    pub running_for: Duration,
    /// The number of the attempt, from 1: see [`Retry`](crate::Retry).
    pub attempt: u32,
}

impl From<Running> for RunningTask {
    fn from(running: Running) -> Self {
        Self {
            pid: running.pid,
            task: running.task.map(|task| task.as_ref().to_owned()),
            running_for: Duration::from_micros(running.micros),
            attempt: running.attempt,
        }
    }
}

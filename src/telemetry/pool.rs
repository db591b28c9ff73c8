//! Events and numbers of pools.

use std::time::Duration;

use lockkeeper_protocol::operations::TaskFault;

use crate::{
    error::StartError,
    task_error::TaskError,
    telemetry::{metrics as names, target},
};

/// Records that a worker process was started.
pub(crate) fn worker_started(place: usize, pid: Option<u32>) {
    metrics::counter!(names::WORKERS_STARTED).increment(1);
    tracing::debug!(target: target::POOL, place, pid, "worker started");
}

/// Records that a worker process is ready for tasks.
pub(crate) fn worker_ready(place: usize, pid: Option<u32>) {
    tracing::debug!(target: target::POOL, place, pid, "worker ready");
}

/// Records that a worker process did not get ready.
pub(crate) fn worker_not_ready(place: usize, why: &StartError) {
    metrics::counter!(names::WORKERS_ENDED, "how" => "not_ready").increment(1);
    tracing::warn!(target: target::POOL, place, %why, "worker not ready");
}

/// Records that a worker process has ended, because the pool ends or replaces it.
pub(crate) fn worker_ended(place: usize, pid: Option<u32>, status: &str) {
    tracing::debug!(target: target::POOL, place, pid, status, "worker ended");
    metrics::counter!(names::WORKERS_ENDED, "how" => "done").increment(1);
}

/// Records that a worker process has died.
pub(crate) fn worker_died(place: usize, pid: Option<u32>, status: &str) {
    tracing::warn!(target: target::POOL, place, pid, status, "worker died");
    metrics::counter!(names::WORKERS_ENDED, "how" => "died").increment(1);
}

/// Records that a place in a pool has no worker until the next attempt to start one.
pub(crate) fn place_is_empty(place: usize, pause: Duration) {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(target: target::POOL, place, pause_ms, "worker's place is empty");
}

/// Records that a place in a pool stays empty.
pub(crate) fn place_given_up(place: usize) {
    tracing::error!(target: target::POOL, place, "worker's place stays empty");
}

/// Records that tasks of a name have ended, each with an output or an error.
pub(crate) fn tasks_ended<'a, R: 'a>(
    task: &str,
    outcomes: impl Iterator<Item = &'a Result<R, TaskError>>,
) {
    let mut done = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => done += 1,
            Err(why) => task_failed(task, why),
        }
    }
    if done > 0 {
        metrics::counter!(names::TASKS, "outcome" => "done").increment(done);
    }
}

/// Records that a task has no output.
#[cold]
fn task_failed(task: &str, why: &TaskError) {
    let pid = why.pid();
    let outcome = match why.fault() {
        Some(TaskFault::Panicked(message)) => {
            tracing::warn!(target: target::POOL, task, why = message, "task panicked");
            "panicked"
        }
        Some(TaskFault::WorkerDied { .. }) => {
            tracing::warn!(target: target::POOL, task, pid, %why, "task failed: its worker died");
            "worker_died"
        }
        Some(TaskFault::TimeLimit(_) | TaskFault::Killed) => {
            tracing::warn!(target: target::POOL, task, pid, %why, "task killed");
            "killed"
        }
        Some(_) | None => {
            tracing::debug!(target: target::POOL, task, %why, "task failed");
            "failed"
        }
    };
    metrics::counter!(names::TASKS, "outcome" => outcome).increment(1);
}

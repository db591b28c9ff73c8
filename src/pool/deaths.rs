//! `Deaths`: how the workers of a pool have ended, and whether the pool has, for those who submit tasks.
//!
//! The queue learns of a worker's death by the end of its session, before the system tells the parent how the
//! process has ended. So the submitter of a task that died with its worker waits for that here.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use lockkeeper_protocol::operations::{ChunkOutcome, TaskFault, WorkerExit};
use tokio::sync::watch;

use crate::{
    error::{CallError, TaskError},
    process::child::within,
};

/// How long a process that has lost its session may take until it ends. One that a task keeps alive, with
/// its descriptors closed, may take for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many of the workers that have ended last are remembered.
const MOST: usize = 1024;

/// Shared by the pool, its crew and those who submit tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// The workers that have ended, the last ones first.
    exits: VecDeque<(u32, WorkerExit)>,
    /// Whether the pool was terminated.
    is_over: bool,
}

impl State {
    fn exit_of(&self, pid: u32) -> Option<WorkerExit> {
        let mut exits = self.exits.iter();
        exits.find(|(of, _)| *of == pid).map(|(_, exit)| *exit)
    }
}

impl Deaths {
    /// Notes that a worker has this process id, which an earlier one may have had.
    pub(super) fn is_started(&self, pid: u32) {
        self.0
            .send_modify(|state| state.exits.retain(|(of, _)| *of != pid));
    }

    /// Notes how a worker has ended.
    pub(super) fn has_ended(&self, pid: u32, exit: WorkerExit) {
        self.0.send_modify(|state| {
            state.exits.truncate(MOST - 1);
            state.exits.push_front((pid, exit));
        });
    }

    /// Notes that the pool was terminated.
    pub(super) fn pool_is_over(&self) {
        self.0.send_modify(|state| state.is_over = true);
    }

    /// Adds how the worker ended to an outcome that says that it has.
    pub(super) async fn explain(&self, outcome: &mut ChunkOutcome) {
        let Err(TaskFault::WorkerDied { pid, exit, .. }) = outcome else {
            return;
        };
        let mut states = self.0.subscribe();
        let known = states.wait_for(|state| state.exit_of(*pid).is_some());
        if let Some(Ok(state)) = within(PATIENCE, known).await {
            *exit = state.exit_of(*pid).unwrap_or_default();
        }
    }

    /// What a task fails with when the queue cannot be reached: it ends with its pool.
    pub(super) fn error(&self, error: CallError) -> TaskError {
        if matches!(error, CallError::Disconnected { .. }) && self.0.borrow().is_over {
            return TaskFault::Terminated.into();
        }
        error.into()
    }
}

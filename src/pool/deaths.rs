//! `Deaths`: the exit statuses of a pool's workers, and whether the pool has ended, for the submitters of
//! tasks.
//!
//! The queue learns of a worker's death from the end of its session, before the system reports the exit
//! status to the parent. The submitter of a task that died with its worker waits for the exit status here.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use lockkeeper_protocol::operations::{ChunkOutcome, TaskFailure, TaskFault, WorkerExit};
use tokio::sync::watch;

use crate::{error::CallError, process::within::within, task_error::TaskError};

/// The time that a process without a session has to end. A process that a task keeps alive, with its
/// descriptors closed, may never end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of exits that are remembered.
const MOST: usize = 1024;

/// The state that the pool, its supervisor and the submitters share.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// The exits of workers, latest first.
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
    /// Records that a worker has this process id, which may have belonged to an earlier worker.
    pub(super) fn is_started(&self, pid: u32) {
        self.0
            .send_modify(|state| state.exits.retain(|(of, _)| *of != pid));
    }

    /// Records a worker's exit status.
    pub(super) fn has_ended(&self, pid: u32, exit: WorkerExit) {
        self.0.send_modify(|state| {
            state.exits.truncate(MOST - 1);
            state.exits.push_front((pid, exit));
        });
    }

    /// Records that the pool was terminated.
    pub(super) fn pool_is_over(&self) {
        self.0.send_modify(|state| state.is_over = true);
    }

    /// Adds the exit status to an outcome that says that its worker died.
    pub(super) async fn explain(&self, outcome: &mut ChunkOutcome) {
        let Err(failure) = outcome else {
            return;
        };
        let TaskFailure {
            fault: TaskFault::WorkerDied { exit },
            pid: Some(pid),
            ..
        } = &mut **failure
        else {
            return;
        };
        let mut states = self.0.subscribe();
        let known = states.wait_for(|state| state.exit_of(*pid).is_some());
        if let Some(Ok(state)) = within(PATIENCE, known).await {
            *exit = state.exit_of(*pid).unwrap_or_default();
        }
    }

    /// The error of a task when the queue cannot be reached: the pool has ended.
    pub(super) fn error(&self, error: CallError) -> TaskError {
        if matches!(error, CallError::Disconnected { .. }) && self.0.borrow().is_over {
            return TaskFault::Terminated.into();
        }
        error.into()
    }
}

//! The child of a [`Process`](crate::Process): runs one task, reports its outcome and exits.

use lockkeeper_protocol::operations::{Chunk, JobOutcome};
use lockkeeper_sys::{Origin, restore_termination};
use rustix::process::{Signal, getpid, kill_process};

use crate::{
    pool::{
        begin::{EXIT_ORPHAN, begin},
        tasks,
    },
    process::{exit::exit, role::Role, stop},
};

/// The role name of such a child.
pub(crate) const ROLE: &str = "process";

/// The exit code if the task has no output. A program whose main panics exits with it, too.
const EXIT_FAILED: i32 = 101;

/// The main function of the child.
pub(crate) fn work(mut role: Role) {
    let task = match role.config::<Chunk>() {
        Ok(task) => task,
        Err(error) => return role.lifeline.failed(error.to_string()),
    };
    let Some(system) = begin(&mut role.lifeline, terminate) else {
        return;
    };
    system.block_on(async {
        role.lifeline.ready();
        let origin = Origin::here();
        let tasks = tasks::tasks();
        let outcome = tasks.run(&task.task, &task.arguments, &mut 0).await;
        // The task may have forked. The outcome of its copy is not that of the task.
        if !origin.is_here() {
            exit(EXIT_ORPHAN);
        }
        let code = if is_output(&outcome) { 0 } else { EXIT_FAILED };
        let is_told = role.lifeline.outcome(outcome);
        // A shutdown of the runtime would wait for everything that the task left on a blocking thread.
        exit(if is_told { code } else { EXIT_ORPHAN });
    });
}

/// Returns whether the only task of a chunk has an output.
const fn is_output(outcome: &JobOutcome) -> bool {
    match outcome {
        JobOutcome::Done(_) | JobOutcome::Transient(_) => true,
        JobOutcome::Failed(_) => false,
    }
}

/// Asks the task to end, and raises SIGTERM. A task that does not ask for the request, and has no handler, ends as
/// any process does.
fn terminate() {
    if !stop::ask() {
        // An error leaves the handler that does nothing.
        let _ = restore_termination();
    }
    // A process may always signal itself.
    let _ = kill_process(getpid(), Signal::TERM);
}

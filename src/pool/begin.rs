//! The begin of a child process that runs tasks: a worker of a pool, or a [`Process`](crate::Process).

use actix_rt::SystemRunner;
use tokio::runtime;

use crate::{
    background,
    client::connect::keep_connections,
    error::lack,
    process::{exit::exit, lifeline::Lifeline},
};

/// The exit code of a child that cannot reach its parent: that has ended, or the child is a copy of the child, or has
/// lost its descriptors.
pub(super) const EXIT_ORPHAN: i32 = 71;

/// Begins the work of a child: it ends with its parent, runs `stop` when its parent asks for the end of its work, and
/// keeps its connections. If the system lacks the resources, the parent learns it and the result is `None`.
pub(super) fn begin(
    lifeline: &mut Lifeline,
    stop: impl FnMut() + Send + 'static,
) -> Option<SystemRunner> {
    // A task may be running; no part of it may outlive the parent.
    if let Err(error) = lifeline.watch(stop, || exit(EXIT_ORPHAN)) {
        lifeline.lacking(lack(&error));
        return None;
    }
    // Otherwise each task would connect anew.
    keep_connections();
    match background::build(&mut runtime::Builder::new_current_thread()) {
        Ok(runtime) => Some(actix_rt::System::with_tokio_rt(|| runtime)),
        Err(error) => {
            lifeline.lacking(lack(&error));
            None
        }
    }
}

//! What happens when a session with a lease ends: its holds last as long as the lease.

use std::future;

use crate::{
    server::session::{context::End, session::Session},
    telemetry::session,
};

impl Session {
    /// Returns whether the session has a lease that [outlasts](Lease::outlasts) its end.
    pub(super) fn outlasts(&self, end: &End) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.outlasts(end))
    }

    /// Waits until the lease has ended too.
    pub(super) async fn outlast(&mut self) {
        if let Some(lease) = &mut self.lease {
            session::detached(self.id, lease.length());
            let shell = &self.context.shell;
            future::poll_fn(|task| lease.poll_end(shell.now(), task)).await;
        }
    }

    /// Notes that what the client holds is released with the drop of the session.
    pub(super) fn end_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.end();
        }
    }
}

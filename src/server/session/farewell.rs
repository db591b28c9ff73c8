//! `Farewell`: the message to a client at the end of its session.

use std::{rc::Rc, sync::Arc};

use lockkeeper_protocol::frame::Response;

use crate::{
    limits::Limits,
    server::session::{
        buffer_budget::{BufferBudget, Party},
        context::Context,
        outgoing::Outgoing,
    },
    telemetry::session,
    transport::stream::Stream,
};

/// Sends the reason for the end of a session to its client, if the client still reads.
pub(super) struct Farewell<'a> {
    pub(super) outgoing: &'a Outgoing,
    pub(super) stream: &'a dyn Stream,
    pub(super) reason: Option<String>,
    /// The manager, if the session ends with it.
    pub(super) manager: Option<Rc<Context>>,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let of_manager = self.manager.take().map(|manager| match manager.end.get() {
            Some(why) => why.clone(),
            None => "it was shut down, or its last handle was dropped".to_owned(),
        });
        if let Some(reason) = self.reason.take().or(of_manager) {
            // The reason must not wait behind answers that are not encoded.
            self.outgoing.drop_later();
            self.outgoing.put(&Response::Bye { reason });
            self.outgoing.flush_once(self.stream);
        }
    }
}

/// Refuses a client with a reason.
pub(crate) fn refuse(stream: &dyn Stream, reason: String, limits: Limits) {
    session::client_refused(&reason);
    let budget = Arc::new(BufferBudget::new(0)).account(Party::Unknown);
    drop(Farewell {
        outgoing: &Outgoing::new(limits, budget, Rc::default()),
        stream,
        reason: Some(reason),
        manager: None,
    });
}

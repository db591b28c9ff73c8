//! `Farewell`: the message to a client at the end of its session.

use std::{
    future::{self, Future},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use lockkeeper_protocol::frame::Response;
use tokio::time;

use crate::{
    limits::Limits,
    server::session::{
        admitted::Admitted,
        buffer_budget::{BufferBudget, Party},
        context::Context,
        in_mailboxes::AllInMailboxes,
        outgoing::Outgoing,
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// The time that a client has to read its last answers and the reason for the end.
const READ_PATIENCE: Duration = Duration::from_secs(2);

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
        let of_manager = self.manager.take().map(|manager| manager.why_it_ends());
        if let Some(reason) = self.reason.take().or(of_manager) {
            // The reason must not wait behind answers that are not encoded.
            self.outgoing.drop_later();
            self.outgoing.put(&Response::Bye { reason });
            self.outgoing.flush_once(self.stream);
        }
    }
}

/// Writes the remaining answers and the reason for the end, while the client reads and no other session waits for the
/// room.
pub(super) async fn send_bye(outgoing: &Outgoing, stream: &dyn AttachedStream, reason: String) {
    outgoing.put(&Response::Bye { reason });
    let mut time_is_up = pin!(time::sleep(READ_PATIENCE));
    future::poll_fn(|task| {
        if outgoing.poll_flush(task, stream).is_ready()
            || outgoing.keeps_others_waiting()
            || time_is_up.as_mut().poll(task).is_ready()
        {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Refuses a client with a reason.
pub(crate) fn refuse(stream: &dyn Stream, reason: String, limits: Limits) {
    session::client_refused(&reason);
    let budget = Arc::new(BufferBudget::new(0)).account(Party::Unknown);
    drop(Farewell {
        outgoing: &Outgoing::new(
            Admitted::refused(),
            limits,
            budget,
            (AllInMailboxes::default().part(), Rc::default()),
            Rc::default(),
        ),
        stream,
        reason: Some(reason),
        manager: None,
    });
}

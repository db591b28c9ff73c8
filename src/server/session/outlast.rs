//! What happens when a session with a lease ends, and its client may be unaware of it.
//!
//! A client that gets a `Bye` answers `Goodbye` once it has given up what it held. Otherwise its holds last as
//! long as the lease.

use std::{future, time::Duration};

use lockkeeper_protocol::frame::{Inbox, Request};
use tokio::time;

use crate::{
    server::session::{context::End, farewell::send_bye, session::Session},
    telemetry::session,
};

/// The longest wait for a `Goodbye`.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client without calls reads only when it renews its lease. It gets that much longer to answer.
const ANSWER: Duration = Duration::from_millis(500);

impl Session {
    /// Returns whether the session has a lease, and its client may be unaware of the end.
    pub(super) fn outlasts(&self, end: &End) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.outlasts(end))
    }

    /// If the manager ends or the client broke a rule, sends a `Bye` and waits for the client's `Goodbye`.
    /// Without one, waits for the end of the lease, unless the manager ends. Returns whether the client has
    /// confirmed the end, or its lease is over.
    pub(super) async fn outlast(&mut self, end: &End, inbox: &mut Inbox) -> bool {
        let reason = match end {
            End::WithManager => Some(self.context.why_it_ends()),
            end => end.offence().map(str::to_owned),
        };
        if let Some(reason) = reason {
            self.outgoing.drop_later();
            send_bye(&self.outgoing, &*self.attached, reason).await;
            if self.receives_goodbye(inbox).await {
                return true;
            }
            self.stream.shutdown();
        }
        if matches!(end, End::WithManager) {
            return false;
        }
        let Some(lease) = &mut self.lease else {
            return true;
        };
        session::detached(self.id, lease.length());
        let shell = &self.context.shell;
        let end = future::poll_fn(|task| lease.poll_end(shell.now(), task)).await;
        !matches!(end, End::WithManager)
    }

    /// Reads on until the client sends a `Goodbye`. All other frames are ignored.
    async fn receives_goodbye(&self, inbox: &mut Inbox) -> bool {
        let beat = self.lease.as_ref().map(|lease| lease.length() / 5);
        let patience = PATIENCE.min(beat.unwrap_or_default() + ANSWER);
        let receive = async {
            let mut buffer = vec![0; 1 << 12];
            loop {
                while let Some(message) = inbox.next_message().ok()? {
                    if matches!(Request::decode(&message), Ok(Request::Goodbye)) {
                        return Some(());
                    }
                }
                let read = future::poll_fn(|task| self.attached.poll_read(task, &mut buffer));
                let length = read.await.ok().filter(|length| *length > 0)?;
                inbox.feed(buffer.get(..length)?);
            }
        };
        matches!(time::timeout(patience, receive).await, Ok(Some(())))
    }

    /// Notes that what the client holds is released with the drop of the session.
    pub(super) fn end_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.end();
        }
    }
}

//! `PeerWatch`: breaks a session off when the process of its client has ended.
//!
//! A forked child may keep the stream of a process that has ended, and the stream does not end then. The
//! session reads what the process has sent before, and then it ends as at the end of the stream.
//!
//! Invariant: a call costs nothing for this, since a task of its own waits.

use std::{process, rc::Rc};

use lockkeeper_protocol::Peer;
use tokio::task;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    server::session::outgoing::Outgoing,
    transport::{peer_process::PeerEnd, stream::Stream},
};

/// How the end of a client's process is noticed.
pub(super) enum PeerWatch {
    /// The client is this process, whose end is the end of the manager.
    OwnProcess,
    /// A task waits for the end of the process.
    Task(#[expect(dead_code, reason = "its drop ends the task")] AbortOnDropHandle<()>),
    /// Only the end of the stream is noticed.
    StreamAlone,
}

impl PeerWatch {
    /// Begins to wait for the process at the other end of a stream.
    pub(super) fn begin(stream: &dyn Stream, outgoing: &Rc<Outgoing>) -> Self {
        if stream.peer_pid() == Some(process::id()) {
            return Self::OwnProcess;
        }
        let Some(end) = stream.peer_end().and_then(|end| PeerEnd::of(end).ok()) else {
            return Self::StreamAlone;
        };
        let outgoing = Rc::clone(outgoing);
        let watch = task::spawn_local(async move {
            // If the runtime cannot wait any more, it is about to end, and the session ends with it.
            if end.reached().await.is_ok() {
                outgoing.break_off();
                if let Some(session) = outgoing.writer.take() {
                    session.wake();
                }
            }
        });
        Self::Task(AbortOnDropHandle::new(watch))
    }

    /// Notes in a peer how its end is noticed.
    pub(super) fn note(&self, peer: Peer) -> Peer {
        match self {
            Self::OwnProcess | Self::Task(_) => peer,
            Self::StreamAlone => peer.unwatched(),
        }
    }
}

//! Events and numbers of sessions.

#[cfg(feature = "net")]
use std::net::IpAddr;
use std::{rc::Rc, sync::Arc, time::Duration};

use lockkeeper_actors::Shell;
use lockkeeper_protocol::{Peer, Question, SessionId};

use crate::{
    access::Principal,
    telemetry::{metrics as names, target},
};

/// Records that a manager refused a client before it had a session.
pub(crate) fn client_refused(reason: &str) {
    metrics::counter!(names::REFUSED_CLIENTS).increment(1);
    tracing::warn!(target: target::SESSION, reason, "client refused");
}

/// Records that a manager refused a client of another machine, which has not proved that it has a key.
#[cfg(feature = "net")]
pub(crate) fn caller_refused(host: IpAddr, reason: &str) {
    metrics::counter!(names::REFUSED_CLIENTS).increment(1);
    tracing::warn!(target: target::SESSION, %host, reason, "client refused");
}

/// Records that a session goes on over another connection.
#[cfg(feature = "net")]
pub(crate) fn resumed(host: IpAddr) {
    tracing::info!(target: target::SESSION, %host, "session resumed");
}

/// Records that a session does not go on over another connection.
#[cfg(feature = "net")]
pub(crate) fn not_resumed(host: IpAddr, reason: &str) {
    tracing::info!(target: target::SESSION, %host, reason, "session not resumed");
}

/// The span of a session. A drop without `end` means that the manager ends.
#[derive(Debug)]
pub(crate) struct SessionSpan {
    id: SessionId,
    peer: Arc<Peer>,
    has_ended: bool,
}

impl SessionSpan {
    /// Begins the span of a new session.
    pub(crate) fn begin(id: SessionId, peer: &Arc<Peer>, principal: &Principal) -> Self {
        metrics::counter!(names::SESSIONS_BEGUN).increment(1);
        metrics::gauge!(names::SESSIONS).increment(1.0);
        tracing::debug!(
            target: target::SESSION,
            session = id.number(),
            uid = principal.uid(),
            key = principal.key(),
            pid = peer.pid,
            host = peer.host,
            program = peer.program,
            label = peer.label,
            "session begun"
        );
        Self {
            id,
            peer: Arc::clone(peer),
            has_ended: false,
        }
    }

    /// Ends the span: the client has left, or has broken the protocol.
    pub(crate) fn end(mut self, offence: Option<&str>) {
        self.has_ended = true;
        let Some(reason) = offence else {
            return self.end_well("left", "the client left");
        };
        tracing::warn!(
            target: target::SESSION,
            session = self.id.number(),
            pid = self.peer.pid,
            program = self.peer.program,
            label = self.peer.label,
            reason,
            "session ended"
        );
        Self::count("offence");
    }

    fn end_well(&self, how: &'static str, reason: &str) {
        tracing::debug!(
            target: target::SESSION,
            session = self.id.number(),
            pid = self.peer.pid,
            program = self.peer.program,
            label = self.peer.label,
            reason,
            "session ended"
        );
        Self::count(how);
    }

    fn count(how: &'static str) {
        metrics::gauge!(names::SESSIONS).decrement(1.0);
        metrics::counter!(names::SESSIONS_ENDED, "how" => how).increment(1);
    }
}

impl Drop for SessionSpan {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end_well("shutdown", "the manager ends");
        }
    }
}

/// Records that the stream of a session has ended, which keeps what it holds for at most `lease`.
pub(crate) fn detached(id: SessionId, lease: Duration) {
    tracing::info!(
        target: target::SESSION,
        session = id.number(),
        lease = ?lease,
        "session detached"
    );
}

/// Records that a client removed an object.
pub(crate) fn removed(id: SessionId, peer: &Peer, principal: &Principal, name: &str) {
    tracing::info!(
        target: target::SESSION,
        session = id.number(),
        uid = principal.uid(),
        key = principal.key(),
        pid = peer.pid,
        host = peer.host,
        program = peer.program,
        label = peer.label,
        name,
        "client removed an object"
    );
}

/// Records that a client asked about objects.
pub(crate) fn inspected(id: SessionId, peer: &Peer, principal: &Principal, question: &Question) {
    let (about, name) = match question {
        Question::All(_) => ("all", None),
        Question::Contended(_) => ("contended", None),
        Question::Named(name) => ("named", Some(&**name)),
        Question::Deadlocks => ("deadlocks", None),
    };
    tracing::debug!(
        target: target::SESSION,
        session = id.number(),
        uid = principal.uid(),
        key = principal.key(),
        pid = peer.pid,
        host = peer.host,
        program = peer.program,
        label = peer.label,
        about,
        name,
        "client inspected objects"
    );
}

/// Counts bytes that a session received from its client.
pub(crate) fn received(shell: &Rc<Shell>, bytes: usize) {
    shell
        .tallies()
        .received
        .add(u64::try_from(bytes).unwrap_or_default());
}

/// Counts bytes that a session sent to its client.
pub(crate) fn sent(shell: &Rc<Shell>, bytes: usize) {
    shell
        .tallies()
        .sent
        .add(u64::try_from(bytes).unwrap_or_default());
}

//! Events and numbers of client connections.

use lockkeeper_protocol::SessionId;

use crate::{
    address::Address,
    error::CallError,
    telemetry::{metrics as names, target},
};

/// Records a new session of this process with a manager.
pub(crate) fn connected(address: &Address, session: SessionId) {
    metrics::counter!(names::CONNECTS).increment(1);
    let session = session.number();
    tracing::debug!(target: target::CLIENT, %address, session, "connected");
}

/// Records that this process failed to get a session with a manager.
pub(crate) fn not_connected(address: &Address, why: &CallError) {
    tracing::debug!(target: target::CLIENT, %address, %why, "not connected");
}

/// Records that this process has lost its session.
pub(crate) fn disconnected(address: &Address, session: SessionId, why: &str) {
    metrics::counter!(names::DISCONNECTS).increment(1);
    let session = session.number();
    tracing::warn!(target: target::CLIENT, %address, session, why, "disconnected");
}

/// Records that this process has ended the manager of its session.
pub(crate) fn ended_here(address: &Address, session: SessionId, why: &str) {
    metrics::counter!(names::DISCONNECTS).increment(1);
    let session = session.number();
    tracing::debug!(target: target::CLIENT, %address, session, why, "disconnected");
}

/// Records that this process has ended its session, because no proxy or guard uses it any more.
pub(crate) fn parted(address: &Address, session: SessionId) {
    let session = session.number();
    tracing::debug!(target: target::CLIENT, %address, session, "connection closed");
}

//! `Client`: who the client of a session is, for events.

use std::sync::Arc;

use lockkeeper_protocol::Peer;

/// Who a client is, for events. What the manager does not know is empty.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The process.
    pub peer: Arc<Peer>,
    /// The user, if the kernel of this machine reports it.
    pub uid: Option<u32>,
    /// The name of the key by which the client has authenticated itself.
    pub key: Option<String>,
}

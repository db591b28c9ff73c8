//! The frames that renew the lease of a connection, and the sessions that a client has given up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use lockkeeper_protocol::frame::{FormerSession, Request};
use lockkeeper_sys::PerProcess;

use crate::{
    address::Address,
    background::background,
    client::{connection::Connection, lease::BootTime, state::lock},
};

/// Sessions of earlier connections whose streams have ended, by address. A manager may keep what they held, and ends
/// them once the next connection names them.
static FORMER: PerProcess<Mutex<HashMap<Address, FormerSession>>> = PerProcess::new();

impl Connection {
    /// Returns whether the lease is over, and ends the connection then.
    pub(super) fn has_lapsed(&self) -> bool {
        let lapsed = self.lease.as_ref().filter(|lease| lease.left().is_zero());
        let Some(lease) = lapsed else {
            return false;
        };
        let why = format!(
            "its lease is over: the manager has answered nothing for {:?}",
            lease.length
        );
        if let Some(shared) = self.lock() {
            self.unlock(shared, Some(why));
        }
        true
    }

    /// Renews the lease from now on, if there is one, until the connection ends.
    pub(super) fn keep_lease(self: &Arc<Self>) {
        if self.lease.is_some() {
            drop(background().spawn(keep_beating(Arc::downgrade(self))));
        }
    }

    /// Records the session as one that the manager may keep, so that the next connection ends it.
    pub(super) fn leave_session(&self) {
        if self.lease.is_some() {
            let former = FormerSession {
                number: self.session.number(),
                secret: self.secret,
            };
            lock(FORMER.get_or_init(Mutex::default)).insert(self.address.clone(), former);
        }
    }
}

/// Returns the session of an earlier connection to an address that the manager may keep.
pub(super) fn former(address: &Address) -> Option<FormerSession> {
    lock(FORMER.get_or_init(Mutex::default))
        .get(address)
        .copied()
}

/// Forgets a former session, because the manager has ended it.
pub(super) fn forget_former(address: &Address, former: FormerSession) {
    let mut all = lock(FORMER.get_or_init(Mutex::default));
    if all.get(address) == Some(&former) {
        all.remove(address);
    }
}

/// Sends a frame each fifth of the lease, and ends the connection when the lease is over.
async fn keep_beating(connection: Weak<Connection>) {
    loop {
        let beat = {
            let Some(connection) = connection.upgrade() else {
                return;
            };
            let Some(lease) = connection
                .lease
                .as_ref()
                .filter(|_| !connection.has_lapsed())
            else {
                return;
            };
            lease.beat
        };
        tokio::time::sleep(beat).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let Some(lease) = &connection.lease else {
            return;
        };
        let sent = BootTime::now();
        // An error means that the connection has ended.
        let Ok(beat) = connection.request(None, |seq| Request::Beat { seq }) else {
            return;
        };
        if beat.settle(lease.left()).await.is_ok() {
            lease.renew(sent);
        }
    }
}

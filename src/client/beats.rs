//! The frames that renew the lease of a connection, and the sessions that a client has given up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    task::Poll,
    time::Duration,
};

use lockkeeper_protocol::frame::{FormerSession, Request};
use lockkeeper_sys::PerProcess;

use crate::{
    address::Address,
    background::background,
    client::{
        connection::{Connection, now_or_pending},
        lease::BootTime,
        state::{Answer, Session, lock},
    },
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
            "its lease is over: the manager has answered nothing for {:?}, because the network failed, one side was \
             stopped, or a message took longer; acquire again what was held, or make the lease longer \
             (ManagerBuilder::lease)",
            lease.length
        );
        if let Some(shared) = self.lock() {
            self.unlock(shared, Some(why));
        }
        true
    }

    /// Returns an answer, unless the lease is over.
    pub(super) fn check_lease(&self, answer: Answer) -> Poll<Answer> {
        Poll::Ready(match answer {
            Ok(_) if self.lease.is_some() && self.has_lapsed() => {
                Err(self.disconnected(&self.ended().unwrap_or_default()))
            }
            answer => answer,
        })
    }

    /// Renews the lease from now on, if there is one, until the connection ends.
    pub(super) fn keep_lease(self: &Arc<Self>) {
        if self.lease.is_some() {
            drop(background().spawn(keep_beating(Arc::downgrade(self))));
        }
    }

    /// Tells the manager that this process has given up what it held, if the session has a lease, so that others need
    /// not wait for its end.
    pub(super) fn send_goodbye(&self, session: &mut Session) {
        if self.lease.is_some()
            && let Ok(stream) = self.stream()
        {
            // This frame is smaller than every limit. If the stream does not take it, the lease ends anyway.
            let _ = session.push(&Request::Goodbye);
            let _ = session.write(|bytes| now_or_pending(stream.try_write(bytes)));
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

/// Sends a frame each fifth of the lease in which no answered call renews it, reads the answers, and ends the connection
/// when the lease is over.
///
/// It does not wait for an answer, so it keeps no connection alive that is not used any more.
async fn keep_beating(connection: Weak<Connection>) {
    loop {
        let pause = {
            let Some(connection) = connection.upgrade().filter(|it| it.is_alive()) else {
                return;
            };
            connection.beat()
        };
        let Some(pause) = pause else {
            return;
        };
        tokio::time::sleep(pause).await;
    }
}

impl Connection {
    /// Sends a frame that renews the lease if one is due, and returns the pause before the next one.
    fn beat(self: &Arc<Self>) -> Option<Duration> {
        let (lease, stream) = (self.lease.as_ref()?, self.stream().ok()?);
        let mut shared = self.lock()?;
        let (session, received, now) = (&mut shared.session, stream.received(), BootTime::now());
        if let Some(pause) = session.beats.pause(now, received) {
            return Some(pause.min(lease.left()));
        }
        let has_sent_all = session.unsent() == 0;
        let seq = session.reserve(1);
        let is_silent = session.beats.push(seq, now, received);
        // If it cannot be sent the connection ends, which the next turn finds.
        let _ = self.send(shared, &Request::Beat { seq, received });
        if is_silent && has_sent_all {
            // The connection may be dead without an end.
            stream.renew();
        }
        Some(lease.beat.min(lease.left()))
    }
}

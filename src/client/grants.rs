//! Whether a grant of this session is still valid, and a future that completes when it is not.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

use lockkeeper_protocol::{CallId, Refusal, SignedCall};
use lockkeeper_sys::OnlyHere;

use crate::{
    client::{connection::Connection, wakers::WaiterCount},
    error::CallError,
};

impl Connection {
    /// Returns whether a grant is still valid, as far as this process knows.
    pub(crate) fn is_valid(self: &Arc<Self>, object: u32, grant: CallId) -> bool {
        let is_alive = self.is_alive();
        let Some(shared) = self.lock() else {
            return false;
        };
        let session = &shared.session;
        is_alive
            && !session.is_gone(object)
            && (grant.session() != self.session || !session.is_revoked(grant.seq()))
    }

    /// Returns whether the manager has reported that an object was removed.
    pub(crate) fn is_gone(&self, object: u32) -> bool {
        self.lock()
            .is_none_or(|shared| shared.session.is_gone(object))
    }

    /// Returns why a grant of an object is no longer valid.
    pub(crate) fn loss(&self, object: u32) -> CallError {
        let Some(shared) = self.lock() else {
            return self.forked();
        };
        match &shared.session.ended {
            Some(why) => self.disconnected(why),
            None if shared.session.is_gone(object) => CallError::gone(),
            None => CallError::refused(Refusal::NotHeld),
        }
    }

    /// Waits until a grant is no longer valid, and returns why.
    pub(crate) async fn lost(self: &Arc<Self>, object: u32, grant: CallId) -> CallError {
        // In a forked child the grant is lost, and the drop of the future must not wait for the parent's list
        // of waiters.
        let lost = OnlyHere::future(self.lost_here(object, grant)).await;
        lost.unwrap_or_else(|| self.forked())
    }

    async fn lost_here(self: &Arc<Self>, object: u32, grant: CallId) -> CallError {
        let _waiter = WaiterCount::watcher(&self.waiters);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.is_valid(object, grant) {
                return self.loss(object);
            }
            let watch = poll_fn(|task| {
                // The driver of the polling runtime reads for this future.
                if let Ok(reader) = self.attach() {
                    reader.wakers.driver.wake();
                }
                changed.as_mut().poll(task)
            });
            watch.await;
        }
    }

    /// Signs a grant of this session, so that another session can act for it.
    pub(crate) fn sign(&self, grant: CallId) -> SignedCall {
        self.secret.sign(grant)
    }

    /// Forgets that a grant was revoked, because its guard is dropped.
    pub(crate) fn forget(&self, grant: CallId) {
        if let Some(mut shared) = self.lock() {
            shared.session.forget_revoked(grant.seq());
        }
    }
}

//! Whether what was granted over a connection still stands.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

use lockkeeper_protocol::CallId;

use crate::client::{connection::Connection, state::lock, wakers::WaiterCount};

impl Connection {
    /// Whether a grant still stands, as far as this process can know.
    pub(crate) fn is_valid(self: &Arc<Self>, object: u32, grant: CallId) -> bool {
        let is_alive = self.is_alive();
        let state = lock(&self.state);
        is_alive
            && !state.gone.contains(&object)
            && (grant.session() != self.session || !state.revoked.contains(&grant.seq()))
    }

    /// Whether an object is no more, as far as the manager has said so.
    pub(crate) fn is_gone(&self, object: u32) -> bool {
        lock(&self.state).gone.contains(&object)
    }

    /// Waits until a grant no longer stands.
    pub(crate) async fn lost(self: &Arc<Self>, object: u32, grant: CallId) {
        let _listening = WaiterCount::watcher(&self.waiters);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.is_valid(object, grant) {
                return;
            }
            let watch = poll_fn(|task| {
                // The driver of the runtime that this runs on now reads for it.
                if let Ok(reader) = self.attach() {
                    reader.wakers.driver.wake();
                }
                changed.as_mut().poll(task)
            });
            watch.await;
        }
    }

    /// Forgets that a grant was revoked, since its guard is gone.
    pub(crate) fn forget(&self, grant: CallId) {
        let mut state = lock(&self.state);
        if !state.revoked.is_empty() {
            state.revoked.remove(&grant.seq());
        }
    }
}

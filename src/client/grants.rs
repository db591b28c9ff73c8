//! Whether what was granted over a connection still stands.

use std::{pin::pin, sync::Arc};

use lockkeeper_actors::CallId;

use super::{Connection, lock, reader::Listening};

impl Connection {
    /// Whether a grant still stands, as far as this process can know.
    pub(crate) fn is_valid(self: &Arc<Self>, object: u32, grant: CallId) -> bool {
        let is_alive = self.is_alive();
        let state = lock(&self.state);
        is_alive
            && !state.gone.contains(&object)
            && (grant.session() != self.session || !state.revoked.contains(&grant.seq()))
    }

    /// Waits until a grant no longer stands.
    pub(crate) async fn lost(self: &Arc<Self>, object: u32, grant: CallId) {
        let _listening = Listening::watcher(&self.audience);
        // A runtime that cannot read ends the connection, and with it the grant.
        if self.attach().is_ok() {
            self.stir();
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.is_valid(object, grant) {
                return;
            }
            changed.await;
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

//! `Clients`: the clients of a shard, each with its sessions, which share one part of the manager's limits.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
};

use lockkeeper_actors::Sharing;

use crate::server::session::buffer_budget::Party;

/// The clients that have sessions.
#[derive(Debug, Default)]
pub(crate) struct Clients(RefCell<HashMap<Party, Weak<Sharing>>>);

impl Clients {
    /// Returns what the sessions of a client share.
    pub(super) fn enter(&self, party: Party) -> Rc<Sharing> {
        let clients = &mut *self.0.borrow_mut();
        let known = clients.get(&party).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            // A client that has ended leaves an entry until there are twice as many.
            if clients.len() == clients.capacity() {
                clients.retain(|_, sharing| sharing.strong_count() > 0);
            }
            let sharing = Rc::new(Sharing::default());
            clients.insert(party, Rc::downgrade(&sharing));
            sharing
        })
    }
}

//! `BehindHosts`: the hosts of a shard that have not handled all messages of their mailboxes after a turn.
//!
//! Invariant: while no host is behind, all messages that a task has sent are handled when it runs again after it has
//! yielded behind the tasks that were ready.

use std::cell::RefCell;

use rustc_hash::FxHashSet;

/// The numbers of the objects whose hosts are behind. A mark in each host would take eight bytes of every object.
#[derive(Debug, Default)]
pub(super) struct BehindHosts(RefCell<FxHashSet<u64>>);

impl BehindHosts {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    #[cold]
    pub(super) fn insert(&self, object: u64) {
        self.0.borrow_mut().insert(object);
    }

    #[inline]
    pub(super) fn remove(&self, object: u64) {
        if !self.is_empty() {
            self.0.borrow_mut().remove(&object);
        }
    }
}

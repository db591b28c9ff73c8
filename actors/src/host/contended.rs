//! `ContendedObjects`: the objects of a shard that calls wait for. The search for deadlocks reads it.
//!
//! Invariant: every object with a waiting call is listed. An object without one stays listed until the
//! next search, because removing it at once would cost time on every grant.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, future,
    sync::Arc,
    task::{Poll, Waker},
};

use crate::host::input::{Mailbox, WeakMailbox};

/// The objects that calls wait for, by their numbers.
#[derive(Default)]
pub struct ContendedObjects(RefCell<List>);

#[derive(Default)]
struct List {
    mailboxes: BTreeMap<u64, WeakMailbox>,
    /// The task that waits until an object is listed.
    watcher: Option<Waker>,
}

impl ContendedObjects {
    /// Lists an object.
    pub(crate) fn list(&self, object: u64, mailbox: WeakMailbox) {
        let mut list = self.0.borrow_mut();
        list.mailboxes.insert(object, mailbox);
        if let Some(watcher) = list.watcher.take() {
            watcher.wake();
        }
    }

    /// Removes an object from the list.
    pub(crate) fn strike(&self, object: u64) {
        self.0.borrow_mut().mailboxes.remove(&object);
    }

    /// The objects above a number, in order.
    #[must_use]
    pub fn above(&self, number: u64, most: usize) -> Vec<(u64, Mailbox)> {
        let list = self.0.borrow();
        let above = list.mailboxes.range(number.saturating_add(1)..);
        above
            .filter_map(|(object, mailbox)| Some((*object, Arc::new(mailbox.upgrade()?))))
            .take(most)
            .collect()
    }

    /// Waits until an object is listed.
    pub async fn gathered(&self) {
        future::poll_fn(|task| {
            let mut list = self.0.borrow_mut();
            if list.mailboxes.is_empty() {
                list.watcher = Some(task.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl fmt::Debug for ContendedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ContendedObjects")
            .field(&self.0.borrow().mailboxes.len())
            .finish()
    }
}

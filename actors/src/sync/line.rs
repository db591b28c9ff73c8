//! The line of those who want to be the holder.
//!
//! It is in order of arrival. An owner may stand in it several times, as by several tasks at once;
//! once it is let in, all its calls are: an owner does not wait for itself.

use std::collections::BTreeSet;

use super::Entrant;
use crate::{CallId, SessionId, WaitQueue};

/// Calls in order of arrival, and by their owners.
#[derive(Debug)]
pub(super) struct Line<E> {
    queue: WaitQueue<E>,
    /// The calls that have an owner.
    owned: BTreeSet<(u64, CallId)>,
}

impl<E> Default for Line<E> {
    fn default() -> Self {
        Self {
            queue: WaitQueue::new(),
            owned: BTreeSet::new(),
        }
    }
}

impl<E: Entrant> Line<E> {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn get(&self, id: CallId) -> Option<&E> {
        self.queue.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &E)> {
        self.queue.iter()
    }

    pub(super) fn push(&mut self, entrant: E) {
        let id = entrant.id();
        self.owned.extend(entrant.owner().map(|owner| (owner, id)));
        self.queue.push(entrant);
    }

    pub(super) fn pop_front(&mut self) -> Option<E> {
        let entrant = self.queue.pop_front()?;
        self.forget(&entrant);
        Some(entrant)
    }

    /// Takes the first call of an owner.
    pub(super) fn pop_owned(&mut self, owner: u64, session: SessionId) -> Option<E> {
        let (least, greatest) = CallId::span(session);
        let mut theirs = self.owned.range((owner, least)..=(owner, greatest));
        let (_, first) = *theirs.next()?;
        self.remove(first)
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<E> {
        let entrant = self.queue.remove(id)?;
        self.forget(&entrant);
        Some(entrant)
    }

    pub(super) fn remove_session(&mut self, session: SessionId) -> Vec<E> {
        let gone = self.queue.remove_session(session);
        for entrant in &gone {
            self.forget(entrant);
        }
        gone
    }

    fn forget(&mut self, entrant: &E) {
        if let Some(owner) = entrant.owner() {
            self.owned.remove(&(owner, entrant.id()));
        }
    }
}

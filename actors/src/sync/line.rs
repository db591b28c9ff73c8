//! The line of those who want to be the holder.
//!
//! It is in order of arrival. An owner may stand in it several times, as by several tasks at once;
//! once it is let in, all its calls are: an owner does not wait for itself.

use std::collections::BTreeSet;

use super::Entrant;
use crate::{CallId, SessionId, WaitQueue};

/// Calls in order of arrival, and by their owners. Most locks never have any, so it takes a word
/// until then.
#[derive(Debug)]
pub(super) struct Line<E>(Option<Box<Standing<E>>>);

/// Those who stand in line, or once did.
#[derive(Debug)]
struct Standing<E> {
    queue: WaitQueue<E>,
    /// The calls that have an owner.
    owned: BTreeSet<(u64, CallId)>,
}

impl<E> Default for Line<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> Default for Standing<E> {
    fn default() -> Self {
        Self {
            queue: WaitQueue::new(),
            owned: BTreeSet::new(),
        }
    }
}

impl<E: Entrant> Line<E> {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |standing| standing.queue.len())
    }

    pub(super) fn get(&self, id: CallId) -> Option<&E> {
        self.0.as_ref()?.queue.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &E)> {
        let standing = self.0.iter();
        standing.flat_map(|standing| standing.queue.iter())
    }

    pub(super) fn push(&mut self, entrant: E) {
        let id = entrant.id();
        let standing = self.0.get_or_insert_default();
        let owned = entrant.owner().map(|owner| (owner, id));
        standing.owned.extend(owned);
        standing.queue.push(entrant);
    }

    pub(super) fn pop_front(&mut self) -> Option<E> {
        let standing = self.0.as_mut()?;
        let entrant = standing.queue.pop_front()?;
        standing.forget(&entrant);
        Some(entrant)
    }

    /// Takes the first call of an owner.
    pub(super) fn pop_owned(&mut self, owner: u64, session: SessionId) -> Option<E> {
        let (least, greatest) = CallId::span(session);
        let owned = &self.0.as_ref()?.owned;
        let (_, first) = *owned.range((owner, least)..=(owner, greatest)).next()?;
        self.remove(first)
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<E> {
        let standing = self.0.as_mut()?;
        let entrant = standing.queue.remove(id)?;
        standing.forget(&entrant);
        Some(entrant)
    }

    pub(super) fn remove_session(&mut self, session: SessionId) -> Vec<E> {
        let Some(standing) = &mut self.0 else {
            return Vec::new();
        };
        let gone = standing.queue.remove_session(session);
        for entrant in &gone {
            standing.forget(entrant);
        }
        gone
    }
}

impl<E: Entrant> Standing<E> {
    fn forget(&mut self, entrant: &E) {
        if let Some(owner) = entrant.owner() {
            self.owned.remove(&(owner, entrant.id()));
        }
    }
}

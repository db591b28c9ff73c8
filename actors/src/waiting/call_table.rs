//! `CallTable`: one value for each of many calls, found by call id, or by session.
//!
//! Values are stored in a slab, so other tables may refer to them by slot, and a call index finds the
//! slot of a call. Every operation takes O(log n) at most.

use lockkeeper_protocol::{CallId, SessionId};
use slab::Slab;

use crate::{kind::call::Call, waiting::call_index::CallIndex};

/// What is kept of each call.
#[derive(Debug)]
pub(crate) struct CallTable<T> {
    entries: Slab<T>,
    index: CallIndex,
}

/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// The most entries of one table.
const CAPACITY: usize = NONE as usize;

/// An empty table keeps the memory for so many.
const KEPT: usize = 64;

impl<T> Default for CallTable<T> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            index: CallIndex::default(),
        }
    }
}

impl<T> CallTable<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at a place; at [`NONE`] there is nothing.
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.entries.get(slot(place))
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        self.entries.get_mut(slot(place))
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Takes an entry out whose call is out of the index already.
    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        let entry = self.entries.try_remove(slot(place))?;
        // What was long once and is empty now should not keep its memory.
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
        Some(entry)
    }
}

impl<T: Parked> CallTable<T> {
    /// Where a call is.
    pub(crate) fn find(&self, id: CallId) -> Option<u32> {
        self.index.find(id, id_in(&self.entries))
    }

    /// Enters a call that is not there yet, and tells its place. One of four billion is dropped.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        if self.entries.len() >= CAPACITY {
            return None;
        }
        let id = entry.id();
        let key = self.entries.insert(entry);
        let place = u32::try_from(key).unwrap_or(NONE);
        self.index.insert(id, place, id_in(&self.entries));
        Some(place)
    }

    /// Takes a call out of the index, and tells its place: [`Self::take`] takes the rest.
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        self.index.remove(id, id_in(&self.entries))
    }

    /// Takes a call out.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<T> {
        let place = self.strike(id)?;
        self.take(place)
    }

    /// Takes all calls of a session out of the index, and tells their places in the order of their
    /// ids.
    pub(crate) fn strike_session(&mut self, session: SessionId) -> Vec<u32> {
        self.index.remove_session(session)
    }
}

/// How the index reads which call is at a place.
fn id_in<T: Parked>(entries: &Slab<T>) -> impl Fn(u32) -> Option<CallId> {
    |place| entries.get(slot(place)).map(T::id)
}

/// A place in the slab; that of [`NONE`] holds nothing.
const fn slot(place: u32) -> usize {
    place as usize
}

/// What a kind keeps of a call: of one that waits, what it wants.
pub trait Parked {
    /// Which call it is. It stays the same for as long as this is kept.
    fn id(&self) -> CallId;
}

impl<R> Parked for Call<R> {
    fn id(&self) -> CallId {
        self.id()
    }
}

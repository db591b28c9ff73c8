//! `CallTable`: one value for each of many calls, found by call id, or by session.
//!
//! Values are stored in slots, so other tables may refer to them by place, and a call index finds the
//! place of a call. Every operation takes O(log n) at most.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{kind::call::Call, tables::slots::Slots, waiting::call_index::CallIndex};

/// What is kept of each call.
#[derive(Debug)]
pub(crate) struct CallTable<T> {
    entries: Slots<T>,
    index: CallIndex,
}

impl<T> Default for CallTable<T> {
    fn default() -> Self {
        Self {
            entries: Slots::default(),
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

    /// The entry at a place; at [`NONE`](crate::tables::slots::NONE) there is nothing.
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.entries.get(place)
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        self.entries.get_mut(place)
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The entries alone, without the index.
    pub(crate) fn into_entries(self) -> Slots<T> {
        self.entries
    }

    /// Takes an entry out whose call is out of the index already.
    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        self.entries.remove(place)
    }
}

impl<T: Parked> CallTable<T> {
    /// Where a call is.
    pub(crate) fn find(&self, id: CallId) -> Option<u32> {
        self.index.find(id, id_in(&self.entries))
    }

    /// Enters a call that is not there yet, and tells its place. One of four billion is dropped.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        let id = entry.id();
        let place = self.entries.insert(entry)?;
        self.index.insert(id, place, id_in(&self.entries));
        Some(place)
    }

    /// Takes a call out of the index, and tells its place: [`Self::take`] takes the rest.
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        self.index.remove(id, id_in(&self.entries))
    }

    /// Takes about `most` calls of a session out of the index, and tells their places in the order of their
    /// ids.
    pub(crate) fn strike_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        self.index.remove_session(session, most)
    }

    /// Whether a call of a session is in the index.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.index.has_session(session)
    }
}

/// How the index reads which call is at a place.
fn id_in<T: Parked>(entries: &Slots<T>) -> impl Fn(u32) -> Option<CallId> {
    |place| entries.get(place).map(T::id)
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

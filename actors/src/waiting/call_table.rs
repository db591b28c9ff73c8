//! `CallTable`: one value for each of many calls, found by call id, or by session.
//!
//! Values are stored in slots, so other tables may refer to them by slot, and a call index finds the slot of
//! a call. Every operation takes O(log n) at most.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{kind::call::Call, tables::slots::Slots, waiting::call_index::CallIndex};

/// The values of the calls, and their index.
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

    /// The entry of a slot; `None` at [`NONE`](crate::tables::slots::NONE).
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.entries.get(place)
    }

    /// The entry of a slot, mutably.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        self.entries.get_mut(place)
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The entries without the index.
    pub(crate) fn into_entries(self) -> Slots<T> {
        self.entries
    }

    /// Removes an entry whose call was struck.
    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        self.entries.remove(place)
    }
}

impl<T: Parked> CallTable<T> {
    /// The slot of a call.
    pub(crate) fn find(&self, id: CallId) -> Option<u32> {
        self.index.find(id, id_in(&self.entries))
    }

    /// Inserts a call that is not in the table, and returns its slot. A call beyond four billion is dropped.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        let id = entry.id();
        let place = self.entries.insert(entry)?;
        self.index.insert(id, place, id_in(&self.entries));
        Some(place)
    }

    /// Removes a call from the index, and returns its slot. [`Self::take`] removes its entry.
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        self.index.remove(id, id_in(&self.entries))
    }

    /// Removes about `most` calls of a session from the index, and returns their slots in the order of their
    /// ids.
    pub(crate) fn strike_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        self.index.remove_session(session, most)
    }

    /// Returns whether a call of a session is in the index.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.index.has_session(session)
    }
}

/// Returns the function by which the index reads the call of a slot.
fn id_in<T: Parked>(entries: &Slots<T>) -> impl Fn(u32) -> Option<CallId> {
    |place| entries.get(place).map(T::id)
}

/// The value that a kind stores for a call, such as what a waiting call wants.
pub trait Parked {
    /// Returns the id of the call. It stays the same while the value is stored.
    fn id(&self) -> CallId;
}

impl<R> Parked for Call<R> {
    fn id(&self) -> CallId {
        self.id()
    }
}

//! `CallTable`: one value for each of many calls, found by call id, or by session.
//!
//! Values are stored in slots, so other tables may refer to them by slot. A call index finds the slot of a
//! call, unless the calls are few: then a scan of the slots is faster than to keep an index. Every operation
//! takes O(log n) at most.
//!
//! Invariant: the index is empty, or it has all calls that were not struck.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{kind::call::Call, tables::slots::Slots, waiting::call_index::CallIndex};

/// The values of the calls, and their index.
#[derive(Debug)]
pub(crate) struct CallTable<T> {
    entries: Slots<T>,
    index: CallIndex,
}

/// The most calls without an index. Once there is one, it is kept up to its last call.
const SCANNED: usize = 16;

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

    /// Drops about a thousand entries, if there are more. Returns whether there were. No call is found afterwards.
    pub(crate) fn drop_some(&mut self) -> bool {
        self.index.drop_some() || self.entries.drop_page()
    }

    /// Removes an entry whose call was struck.
    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        self.entries.remove(place)
    }
}

impl<T: Parked> CallTable<T> {
    /// The slot of a call.
    pub(crate) fn find(&self, id: CallId) -> Option<u32> {
        if self.index.is_empty() {
            return self.scan(id);
        }
        self.index.find(id, id_in(&self.entries))
    }

    /// Inserts a call that is not in the table, and returns its slot. A call beyond four billion is dropped.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        let id = entry.id();
        let place = self.entries.insert(entry)?;
        if !self.index.is_empty() {
            self.index.insert(id, place, id_in(&self.entries));
        } else if self.entries.len() > SCANNED {
            for (place, entry) in self.entries.iter() {
                let id_at = id_in(&self.entries);
                self.index.insert(entry.id(), place, id_at);
            }
        }
        Some(place)
    }

    /// Removes a call from the index, and returns its slot. The caller then removes its entry with
    /// [`Self::take`], before any other operation.
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        if self.index.is_empty() {
            return self.scan(id);
        }
        self.index.remove(id, id_in(&self.entries))
    }

    /// Removes the call of a slot from the index, and returns its entry.
    pub(crate) fn remove_at(&mut self, place: u32) -> Option<T> {
        if !self.index.is_empty() {
            let id = self.at(place)?.id();
            self.index.remove(id, id_in(&self.entries))?;
        }
        self.take(place)
    }

    /// Removes about `most` calls of a session from the index, and returns their slots in the order of their
    /// ids. The caller then removes each entry with [`Self::take`].
    pub(crate) fn strike_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        if !self.index.is_empty() {
            return self.index.remove_session(session, most);
        }
        let mut struck: Vec<_> = self.of_session(session).collect();
        struck.sort_unstable();
        struck.into_iter().map(|(_, place)| place).collect()
    }

    /// Returns whether a call of a session is in the table.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        if self.index.is_empty() {
            return self.of_session(session).next().is_some();
        }
        self.index.has_session(session)
    }

    fn scan(&self, id: CallId) -> Option<u32> {
        let mut entries = self.entries.iter();
        let (place, _) = entries.find(|(_, entry)| entry.id() == id)?;
        Some(place)
    }

    /// The calls of a session and their slots, by a scan.
    fn of_session(&self, session: SessionId) -> impl Iterator<Item = (CallId, u32)> {
        let entries = self.entries.iter();
        let calls = entries.map(|(place, entry)| (entry.id(), place));
        calls.filter(move |(id, _)| id.session() == session)
    }
}

/// Returns the function by which the index reads the call of a slot.
fn id_in<T: Parked>(entries: &Slots<T>) -> impl Fn(u32) -> Option<CallId> {
    |place| entries.get(place).map(T::id)
}

/// The value that a kind stores for a call, such as what a waiting call wants.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot wait in a `WaitQueue`",
    label = "has no id of a call",
    note = "implement `Parked` for it: its `id` returns `Call::id` of the call that it keeps"
)]
pub trait Parked {
    /// Returns the id of the call. It stays the same while the value is stored.
    fn id(&self) -> CallId;
}

impl<R> Parked for Call<R> {
    fn id(&self) -> CallId {
        self.id()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Parked for (CallId, u64) {
        fn id(&self) -> CallId {
            self.0
        }
    }

    fn id(number: u64) -> CallId {
        CallId::new(SessionId::new(number % 3), number)
    }

    /// A table and its calls with their slots, in the order of their ids.
    #[derive(Default)]
    struct Subject {
        table: CallTable<(CallId, u64)>,
        model: BTreeMap<CallId, u32>,
    }

    impl Subject {
        fn insert(&mut self, number: u64) {
            let place = self.table.insert((id(number), number));
            let before = self.model.insert(id(number), place.expect("a slot"));
            assert_eq!(before, None);
        }

        fn check(&self) {
            assert_eq!(self.table.len(), self.model.len());
            for (call, place) in &self.model {
                assert_eq!(self.table.find(*call), Some(*place));
                assert_eq!(self.table.at(*place).map(Parked::id), Some(*call));
            }
            for session in 0..4 {
                let session = SessionId::new(session);
                let has = self.model.keys().any(|call| call.session() == session);
                assert_eq!(self.table.has_session(session), has);
            }
        }

        /// Removes the calls of a session in steps of about `most`.
        fn remove_session(&mut self, session: u64, most: usize) {
            let session = SessionId::new(session);
            let calls = self.model.iter().filter(|(id, _)| id.session() == session);
            let mut left: Vec<u32> = calls.map(|(_, place)| *place).collect();
            while self.table.has_session(session) {
                let struck = self.table.strike_session(session, most);
                let rest = left.split_off(struck.len());
                assert_eq!(struck, left);
                for place in struck {
                    assert!(self.table.take(place).is_some());
                }
                left = rest;
            }
            self.model.retain(|id, _| id.session() != session);
        }
    }

    #[test]
    fn calls_are_found_while_they_are_scanned_and_once_they_are_indexed() {
        let few = u64::try_from(SCANNED).expect("a small number");
        for most in [1, few - 1, few, few + 1, few + 2, 5 * few] {
            let mut subject = Subject::default();
            for round in 0..3 {
                let numbers = || (0..most).map(|number| 1000 * round + number * 7 % most);
                for number in numbers() {
                    assert_eq!(subject.table.find(id(number)), None);
                    assert_eq!(subject.table.strike(id(number)), None);
                    subject.insert(number);
                    subject.check();
                }
                assert_eq!(subject.table.index.is_empty(), most <= few);
                for number in numbers().step_by(2) {
                    let place = subject.model.remove(&id(number));
                    let place = place.expect("a slot");
                    let taken = if number % 4 == 0 {
                        assert_eq!(subject.table.strike(id(number)), Some(place));
                        subject.table.take(place)
                    } else {
                        subject.table.remove_at(place)
                    };
                    assert_eq!(taken, Some((id(number), number)));
                    assert_eq!(subject.table.remove_at(place), None);
                    subject.check();
                }
                for session in 0..3 {
                    subject.remove_session(session, 5);
                    subject.check();
                }
                assert!(subject.table.is_empty() && subject.table.index.is_empty());
            }
        }
    }
}

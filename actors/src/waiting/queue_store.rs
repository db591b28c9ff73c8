//! `QueueStore`: the parked calls of any number of FIFO queues, whose ends its user keeps.
//!
//! A line, which is one of the queues, is two numbers and owns no memory. All parked values are in one table and are linked in the order
//! of their line. A call is found without its line, but its removal needs the line, because the caller stores
//! the lines.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{
    tables::slots::NONE,
    waiting::call_table::{CallTable, Parked},
};

/// The parked calls of all lines.
#[derive(Debug)]
pub(crate) struct QueueStore<T>(CallTable<Node<T>>);

/// A line: its two ends in [`QueueStore`]. Invariant: either both are set or neither.
#[derive(Debug)]
pub(crate) struct QueueEnds {
    front: u32,
    back: u32,
}

/// A parked call and its neighbours.
#[derive(Debug)]
struct Node<T> {
    before: u32,
    behind: u32,
    parked: T,
}

impl<T: Parked> Parked for Node<T> {
    fn id(&self) -> CallId {
        self.parked.id()
    }
}

impl Default for QueueEnds {
    fn default() -> Self {
        Self {
            front: NONE,
            back: NONE,
        }
    }
}

impl QueueEnds {
    pub(crate) const fn is_empty(&self) -> bool {
        self.front == NONE
    }
}

impl<T> Default for QueueStore<T> {
    fn default() -> Self {
        Self(CallTable::default())
    }
}

impl<T> QueueStore<T> {
    /// The number of parked calls in all lines.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops about a thousand calls, if there are more: see [`CallTable::drop_some`].
    pub(crate) fn drop_some(&mut self) -> bool {
        self.0.drop_some()
    }
}

impl<T: Parked> QueueStore<T> {
    /// Parks a call that is not parked yet at the end of a line, and returns its slot. A call beyond four
    /// billion is dropped.
    pub(crate) fn push(&mut self, line: &mut QueueEnds, parked: T) -> Option<u32> {
        self.insert(line, parked, line.back, NONE)
    }

    /// Parks a call at the front of a line.
    pub(crate) fn push_front(&mut self, line: &mut QueueEnds, parked: T) {
        let _ = self.insert(line, parked, NONE, line.front);
    }

    /// The call that has waited longest in a line.
    pub(crate) fn front(&self, line: &QueueEnds) -> Option<&T> {
        self.at(line.front)
    }

    /// The last call of a line.
    pub(crate) fn back(&self, line: &QueueEnds) -> Option<&T> {
        self.at(line.back)
    }

    /// A parked call of any line.
    pub(crate) fn get(&self, id: CallId) -> Option<&T> {
        self.at(self.0.find(id)?)
    }

    /// A parked call of any line, mutably.
    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut T> {
        let place = self.0.find(id)?;
        self.0.at_mut(place).map(|node| &mut node.parked)
    }

    /// The call of a slot.
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.0.at(place).map(|node| &node.parked)
    }

    /// Takes the call that has waited longest in a line.
    pub(crate) fn pop_front(&mut self, line: &mut QueueEnds) -> Option<T> {
        let node = self.0.remove_at(line.front)?;
        Some(self.close_gap(line, node))
    }

    /// Removes a call from its line.
    pub(crate) fn remove(&mut self, line: &mut QueueEnds, id: CallId) -> Option<T> {
        let place = self.strike(id)?;
        self.unlink(line, place)
    }

    /// Removes a call from the index, and returns its slot. The caller then finds its line and calls
    /// [`Self::unlink`].
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        self.0.strike(id)
    }

    /// Removes about `most` calls of a session from the index, and returns their slots in the order in which
    /// the calls were made. The caller unlinks each of them.
    pub(crate) fn strike_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        self.0.strike_session(session, most)
    }

    /// Returns whether a session has calls that were not struck.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.0.has_session(session)
    }

    /// Removes a call that was struck from its line.
    pub(crate) fn unlink(&mut self, line: &mut QueueEnds, place: u32) -> Option<T> {
        let node = self.0.take(place)?;
        Some(self.close_gap(line, node))
    }

    /// Links the neighbours of a removed call, and returns what was parked.
    fn close_gap(&mut self, line: &mut QueueEnds, node: Node<T>) -> T {
        match self.0.at_mut(node.before) {
            Some(before) => before.behind = node.behind,
            None => line.front = node.behind,
        }
        match self.0.at_mut(node.behind) {
            Some(behind) => behind.before = node.before,
            None => line.back = node.before,
        }
        node.parked
    }

    /// The calls of a line in order.
    pub(crate) fn iter(&self, line: &QueueEnds) -> impl Iterator<Item = (CallId, &T)> {
        let mut place = line.front;
        std::iter::from_fn(move || {
            let node = self.0.at(place)?;
            place = node.behind;
            Some((node.parked.id(), &node.parked))
        })
    }

    /// The calls of a line in order. The other calls are dropped.
    pub(crate) fn into_line(self, line: &QueueEnds) -> impl Iterator<Item = T> + use<T> {
        let mut nodes = self.0.into_entries();
        let mut place = line.front;
        std::iter::from_fn(move || {
            let node = nodes.remove(place)?;
            place = node.behind;
            Some(node.parked)
        })
    }

    /// All calls, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|node| &node.parked)
    }

    fn insert(&mut self, line: &mut QueueEnds, parked: T, before: u32, behind: u32) -> Option<u32> {
        let node = Node {
            before,
            behind,
            parked,
        };
        let place = self.0.insert(node)?;
        match self.0.at_mut(before) {
            Some(node) => node.behind = place,
            None => line.front = place,
        }
        match self.0.at_mut(behind) {
            Some(node) => node.before = place,
            None => line.back = place,
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use crate::kind::call::Call;

    use super::*;

    #[test]
    fn a_waiter_takes_no_more_than_its_call_and_its_neighbours() {
        assert_eq!(size_of::<Node<Call<()>>>(), size_of::<Call<()>>() + 8);
    }
}

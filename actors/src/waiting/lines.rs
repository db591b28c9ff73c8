//! `Lines`: any number of FIFO lines of parked calls in one store.
//!
//! A line is two numbers and owns no memory. All parked values are in one table and are linked in the
//! order of their line. A call is found without its line; the caller that removes it has to say which
//! line it was in, because lines are stored by the caller.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{
    tables::slots::NONE,
    waiting::call_table::{CallTable, Parked},
};

/// The parked calls of all lines.
#[derive(Debug)]
pub(crate) struct Lines<T>(CallTable<Node<T>>);

/// A line: its two ends in [`Lines`]. Invariant: either has both, or none.
#[derive(Debug)]
pub(crate) struct Line {
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

impl Default for Line {
    fn default() -> Self {
        Self {
            front: NONE,
            back: NONE,
        }
    }
}

impl Line {
    pub(crate) const fn is_empty(&self) -> bool {
        self.front == NONE
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self(CallTable::default())
    }
}

impl<T> Lines<T> {
    /// How many calls are parked in all lines.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Parked> Lines<T> {
    /// Parks a call that is not parked yet behind all others of a line, and tells its place. One of
    /// four billion is dropped.
    pub(crate) fn push(&mut self, line: &mut Line, parked: T) -> Option<u32> {
        self.insert(line, parked, line.back, NONE)
    }

    /// The same before all others.
    pub(crate) fn push_front(&mut self, line: &mut Line, parked: T) {
        let _ = self.insert(line, parked, NONE, line.front);
    }

    /// The call that has stood in a line longest.
    pub(crate) fn front(&self, line: &Line) -> Option<&T> {
        self.at(line.front)
    }

    /// One parked call, in whichever line.
    pub(crate) fn get(&self, id: CallId) -> Option<&T> {
        self.at(self.0.find(id)?)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut T> {
        let place = self.0.find(id)?;
        self.0.at_mut(place).map(|node| &mut node.parked)
    }

    /// The call at a place.
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.0.at(place).map(|node| &node.parked)
    }

    /// Takes the call that has stood in a line longest.
    pub(crate) fn pop_front(&mut self, line: &mut Line) -> Option<T> {
        let id = self.at(line.front)?.id();
        self.remove(line, id)
    }

    /// Takes a call out of the line that it stands in.
    pub(crate) fn remove(&mut self, line: &mut Line, id: CallId) -> Option<T> {
        let place = self.strike(id)?;
        self.unlink(line, place)
    }

    /// Begins to take a call out whose line is not known yet, and tells its place: it is to be unlinked.
    pub(crate) fn strike(&mut self, id: CallId) -> Option<u32> {
        self.0.strike(id)
    }

    /// Begins to take about `most` calls of a session out, and tells their places in the order in which it
    /// made them: each of them is to be unlinked.
    pub(crate) fn strike_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        self.0.strike_session(session, most)
    }

    /// Whether a session has calls that are not struck.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.0.has_session(session)
    }

    /// Takes a call that was struck out of the line that it stands in.
    pub(crate) fn unlink(&mut self, line: &mut Line, place: u32) -> Option<T> {
        let node = self.0.take(place)?;
        match self.0.at_mut(node.before) {
            Some(before) => before.behind = node.behind,
            None => line.front = node.behind,
        }
        match self.0.at_mut(node.behind) {
            Some(behind) => behind.before = node.before,
            None => line.back = node.before,
        }
        Some(node.parked)
    }

    /// The calls of a line in order.
    pub(crate) fn iter(&self, line: &Line) -> impl Iterator<Item = (CallId, &T)> {
        let mut place = line.front;
        std::iter::from_fn(move || {
            let node = self.0.at(place)?;
            place = node.behind;
            Some((node.parked.id(), &node.parked))
        })
    }

    /// The calls of a line in order, without those of others.
    pub(crate) fn into_line(self, line: &Line) -> impl Iterator<Item = T> + use<T> {
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

    fn insert(&mut self, line: &mut Line, parked: T, before: u32, behind: u32) -> Option<u32> {
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

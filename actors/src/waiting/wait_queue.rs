//! `WaitQueue`: one FIFO line of parked calls, which removes any call, or all calls of a session,
//! without a scan.
//!
//! It is one line of [`Lines`] with a store of its own. Push, pop and remove take O(log n) at most.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{
    kind::hang_up::{HangUp, SLICE},
    waiting::{
        call_table::Parked,
        lines::{Line, Lines},
    },
};

/// Parked calls in order of arrival, each with what its kind wants to keep of it.
#[derive(Debug)]
pub struct WaitQueue<T> {
    calls: Lines<T>,
    line: Line,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self {
            calls: Lines::default(),
            line: Line::default(),
        }
    }
}

impl<T> WaitQueue<T> {
    /// Makes an empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns whether no call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl<T: Parked> WaitQueue<T> {
    /// Parks a call behind all others.
    ///
    /// A call whose id is parked already takes the place of the earlier one, which is dropped: ids
    /// are unique as long as sessions number their calls, which the session sees to. A queue of
    /// four billion drops the newcomer.
    pub fn push(&mut self, parked: T) {
        drop(self.remove(parked.id()));
        let _ = self.calls.push(&mut self.line, parked);
    }

    /// Parks a call before all others.
    pub fn push_front(&mut self, parked: T) {
        drop(self.remove(parked.id()));
        self.calls.push_front(&mut self.line, parked);
    }

    /// The call that has waited longest.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.calls.front(&self.line)
    }

    /// One parked call, wherever it stands.
    #[must_use]
    pub fn get(&self, id: CallId) -> Option<&T> {
        self.calls.get(id)
    }

    /// The same, to be changed; but not which call it is.
    pub fn get_mut(&mut self, id: CallId) -> Option<&mut T> {
        self.calls.get_mut(id)
    }

    /// Takes the call that has waited longest.
    pub fn pop_front(&mut self) -> Option<T> {
        self.calls.pop_front(&mut self.line)
    }

    /// Takes all calls, in order. This takes less time than to take one after the other, and the queue is empty
    /// even if not all of them are looked at.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let Self { calls, line } = std::mem::take(self);
        calls.into_line(&line)
    }

    /// Takes one call, wherever it stands.
    pub fn remove(&mut self, id: CallId) -> Option<T> {
        self.calls.remove(&mut self.line, id)
    }

    /// Takes all calls of one session, in the order in which it made them.
    pub fn remove_session(&mut self, session: SessionId) -> Vec<T> {
        self.remove_some(session, usize::MAX)
    }

    /// Takes some of the calls of an ended session, in the order in which it made them. If others are left, the
    /// hang-up goes on in another turn: see [`HangUp::go_on`].
    pub fn hang_up(&mut self, ended: &HangUp) -> Vec<T> {
        let gone = self.remove_some(ended.session, SLICE);
        if self.calls.has_session(ended.session) {
            ended.go_on();
        }
        gone
    }

    fn remove_some(&mut self, session: SessionId, most: usize) -> Vec<T> {
        let gone = self.calls.strike_session(session, most);
        gone.into_iter()
            .filter_map(|place| self.calls.unlink(&mut self.line, place))
            .collect()
    }

    /// The parked calls in order.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &T)> {
        self.calls.iter(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(session: u64, seq: u64) -> CallId {
        CallId::new(SessionId::new(session), seq)
    }

    impl Parked for CallId {
        fn id(&self) -> CallId {
            *self
        }
    }

    fn order(queue: &WaitQueue<CallId>) -> Vec<CallId> {
        queue.iter().map(|(_, parked)| *parked).collect()
    }

    fn ids<const N: usize>(calls: [(u64, u64); N]) -> [CallId; N] {
        calls.map(|(session, seq)| id(session, seq))
    }

    fn queue(calls: &[(u64, u64)]) -> WaitQueue<CallId> {
        let mut queue = WaitQueue::new();
        for &(session, seq) in calls {
            queue.push(id(session, seq));
        }
        queue
    }

    #[test]
    fn first_in_is_first_out() {
        let mut queue = queue(&[(1, 1), (2, 1), (1, 2)]);
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.front(), Some(&id(1, 1)));
        assert_eq!(queue.pop_front(), Some(id(1, 1)));
        assert_eq!(queue.pop_front(), Some(id(2, 1)));
        assert_eq!(queue.pop_front(), Some(id(1, 2)));
        assert_eq!(queue.pop_front(), None);
    }

    #[test]
    fn removal_keeps_the_order_of_the_others() {
        for gone in 1..=3 {
            let mut queue = queue(&[(1, 1), (1, 2), (1, 3)]);
            assert_eq!(queue.remove(id(1, gone)), Some(id(1, gone)));
            assert_eq!(queue.remove(id(1, gone)), None);
            let rest: Vec<CallId> = (1..=3)
                .filter(|seq| *seq != gone)
                .map(|seq| id(1, seq))
                .collect();
            assert_eq!(order(&queue), rest);
            queue.push(id(2, 1));
            assert_eq!(order(&queue).last(), Some(&id(2, 1)));
        }
    }

    #[test]
    fn a_session_leaves_with_all_its_calls_and_no_others() {
        let mut queue = queue(&[(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)]);
        let theirs = ids([(1, 1), (1, 2), (1, 3)]);
        assert_eq!(queue.remove_session(SessionId::new(1)), theirs);
        assert!(queue.remove_session(SessionId::new(1)).is_empty());
        assert_eq!(order(&queue), ids([(2, 1), (3, 1)]));
    }

    #[test]
    fn thousands_of_calls_are_found_in_any_order_of_coming_and_going() {
        // A step that is prime to the number visits each once, in an order that jumps about.
        const CALLS: u64 = 1000;
        for (coming, going) in [(1, 1), (1, 377), (377, 1), (377, 611), (999, 1), (999, 999)] {
            let mut queue = WaitQueue::new();
            let order = |step: u64| (0..CALLS).map(move |n| n * step % CALLS);
            for n in order(coming) {
                queue.push(id(n % 3, n));
            }
            assert!(order(coming).eq(queue.iter().map(|(_, parked)| parked.seq())));
            for n in order(going) {
                assert_eq!(queue.get(id(n % 3, n)), Some(&id(n % 3, n)));
                assert_eq!(queue.get(id((n + 1) % 3, n)), None);
                assert_eq!(queue.remove(id(n % 3, n)), Some(id(n % 3, n)));
                assert_eq!(queue.remove(id(n % 3, n)), None);
            }
            assert!(queue.is_empty() && queue.front().is_none());
        }
    }

    #[test]
    fn pushed_to_the_front_is_next() {
        let mut queue = queue(&[(1, 1), (1, 2)]);
        queue.push_front(id(2, 1));
        assert_eq!(order(&queue), ids([(2, 1), (1, 1), (1, 2)]));
    }
}

//! `WaitQueue`: one FIFO line of parked calls, which removes any call, or all calls of a session,
//! without a scan of many.
//!
//! It is one line of [`QueueStore`] with its own table. Push, pop and remove take O(log n) at most.

use lockkeeper_protocol::{CallId, SessionId};

use crate::{
    kind::hang_up::{HangUp, SLICE},
    waiting::{
        call_table::Parked,
        queue_store::{QueueEnds, QueueStore},
    },
};

/// Parked calls in order of arrival, each with the value that its kind stores.
#[derive(Debug)]
pub struct WaitQueue<T> {
    calls: QueueStore<T>,
    line: QueueEnds,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self {
            calls: QueueStore::default(),
            line: QueueEnds::default(),
        }
    }
}

impl<T> WaitQueue<T> {
    /// Creates an empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of waiting calls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns whether no call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Drops about a thousand calls of a queue that is no longer used, if there are more, for
    /// [`Primitive::drop_some`](crate::Primitive::drop_some). Returns whether there were.
    pub fn drop_some(&mut self) -> bool {
        self.calls.drop_some()
    }
}

impl<T: Parked> WaitQueue<T> {
    /// Parks a call at the end of the queue.
    ///
    /// A call with the id of a parked call replaces that one, which is dropped. The session numbers its
    /// calls, so ids are unique. A queue of four billion calls drops the new one.
    pub fn push(&mut self, parked: T) {
        drop(self.remove(parked.id()));
        let _ = self.calls.push(&mut self.line, parked);
    }

    /// Parks a call at the front of the queue.
    pub fn push_front(&mut self, parked: T) {
        drop(self.remove(parked.id()));
        self.calls.push_front(&mut self.line, parked);
    }

    /// Returns the call that has waited longest.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.calls.front(&self.line)
    }

    /// Returns the call that was parked last.
    pub(crate) fn back(&self) -> Option<&T> {
        self.calls.back(&self.line)
    }

    /// Returns a parked call.
    #[must_use]
    pub fn get(&self, id: CallId) -> Option<&T> {
        self.calls.get(id)
    }

    /// Returns a parked call, mutably. Its id must not change.
    pub fn get_mut(&mut self, id: CallId) -> Option<&mut T> {
        self.calls.get_mut(id)
    }

    /// Takes the call that has waited longest.
    pub fn pop_front(&mut self) -> Option<T> {
        self.calls.pop_front(&mut self.line)
    }

    /// Takes all calls in order. This is faster than to take them one by one, and the queue is empty even if
    /// the iterator is dropped early.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let Self { calls, line } = std::mem::take(self);
        calls.into_line(&line)
    }

    /// Removes a call from anywhere in the queue.
    pub fn remove(&mut self, id: CallId) -> Option<T> {
        self.calls.remove(&mut self.line, id)
    }

    /// Removes all calls of one session, in the order in which it made them.
    pub fn remove_session(&mut self, session: SessionId) -> Vec<T> {
        self.remove_some(session, usize::MAX)
    }

    /// Removes some calls of an ended session, in the order in which it made them. If others are left, the
    /// hang-up continues in another turn: see [`HangUp::continue_next_turn`].
    pub fn hang_up(&mut self, ended: &HangUp) -> Vec<T> {
        let gone = self.remove_some(ended.session, SLICE);
        if self.calls.has_session(ended.session) {
            ended.continue_next_turn();
        }
        gone
    }

    fn remove_some(&mut self, session: SessionId, most: usize) -> Vec<T> {
        let gone = self.calls.strike_session(session, most);
        gone.into_iter()
            .filter_map(|place| self.calls.unlink(&mut self.line, place))
            .collect()
    }

    /// Returns the parked calls in order.
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
        // A step that is coprime to the number visits each call once, in a scattered order.
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

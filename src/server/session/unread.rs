//! `UnreadBudget`: the bytes of encoded answers that all sessions of a manager keep for their clients.
//!
//! Invariant: sessions that wait for room get it in the order in which they began to wait.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use lockkeeper_protocol::SessionId;

/// The budget of all sessions of a manager, shared by its shards.
#[derive(Debug)]
pub(crate) struct UnreadBudget {
    most: usize,
    used: AtomicUsize,
    /// The number of waiting sessions, so that a check without waiters needs no lock.
    waiting: AtomicUsize,
    line: Mutex<VecDeque<(SessionId, Waker)>>,
}

impl UnreadBudget {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::new(VecDeque::new()),
        }
    }

    /// The number of bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Adds bytes to those in use.
    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Subtracts bytes from those in use.
    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_waited_for() && self.is_below() {
            wake_first(&self.line());
        }
    }

    /// Returns whether a session that has not waited may encode a large answer.
    pub(super) fn has_room(&self) -> bool {
        !self.is_waited_for() && self.is_below()
    }

    /// Returns whether sessions wait for room.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Returns whether a session may encode a large answer. If not, the session joins the line, and is woken
    /// when it is first and there is room.
    pub(super) fn wait(&self, session: SessionId, waker: &Waker) -> bool {
        if self.has_room() {
            return true;
        }
        let mut line = self.line();
        match line.iter_mut().find(|(other, _)| *other == session) {
            Some((_, known)) => known.clone_from(waker),
            None => line.push_back((session, waker.clone())),
        }
        self.waiting.store(line.len(), Ordering::SeqCst);
        let is_first = line.front().is_some_and(|(first, _)| *first == session);
        if !is_first || !self.is_below() {
            return false;
        }
        self.strike(&mut line, session);
        true
    }

    /// Removes a session from the line.
    pub(super) fn leave(&self, session: SessionId) {
        if self.is_waited_for() {
            self.strike(&mut self.line(), session);
        }
    }

    fn strike(&self, line: &mut VecDeque<(SessionId, Waker)>, session: SessionId) {
        line.retain(|(other, _)| *other != session);
        self.waiting.store(line.len(), Ordering::SeqCst);
        if self.is_below() {
            wake_first(line);
        }
    }

    fn is_below(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.most
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<(SessionId, Waker)>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_first(line: &VecDeque<(SessionId, Waker)>) {
    if let Some((_, waker)) = line.front() {
        waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: SessionId = SessionId::new(1);
    const SECOND: SessionId = SessionId::new(2);
    const THIRD: SessionId = SessionId::new(3);

    #[test]
    fn room_is_given_in_the_order_of_the_line() {
        let (budget, waker) = (UnreadBudget::new(10), Waker::noop());
        assert!(budget.has_room() && budget.wait(FIRST, waker));
        // One answer may exceed the budget.
        budget.take(15);
        assert!(!budget.wait(SECOND, waker) && !budget.wait(THIRD, waker));
        budget.give(5);
        assert!(!budget.wait(SECOND, waker));
        budget.give(10);
        assert!(!budget.has_room() && !budget.wait(THIRD, waker));
        assert!(budget.wait(SECOND, waker) && budget.wait(THIRD, waker));
        assert!(budget.has_room() && !budget.is_waited_for());
    }

    #[test]
    fn session_that_leaves_the_line_lets_the_next_one_in() {
        let (budget, waker) = (UnreadBudget::new(10), Waker::noop());
        budget.take(10);
        assert!(!budget.wait(SECOND, waker) && !budget.wait(THIRD, waker));
        budget.leave(SECOND);
        budget.give(10);
        assert!(budget.wait(THIRD, waker));
    }
}

//! `UnreadBudget`: the bytes of encoded answers that all sessions of a manager keep for their clients.
//!
//! A session whose client does not read waits without a place: it is woken when there is room and the line is
//! empty, so it never blocks a session whose client reads.
//!
//! Invariant: sessions in the line get room in the order in which they began to wait.

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
    /// The number of sessions in the line, so that a check without waiters needs no lock.
    waiting: AtomicUsize,
    /// The number of sessions that wait without a place.
    aside: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug)]
struct Waiters {
    line: VecDeque<(SessionId, Waker)>,
    /// The sessions that wait without a place.
    aside: Vec<(SessionId, Waker)>,
}

/// How a session waits for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// In the line, because its client reads.
    InLine,
    /// Without a place, because its client does not read.
    Aside,
}

impl UnreadBudget {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            waiters: Mutex::new(Waiters {
                line: VecDeque::new(),
                aside: Vec::new(),
            }),
        }
    }

    /// The number of bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// The number of sessions that wait, in the line or without a place.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        let waiters = self.lock();
        waiters.line.len() + waiters.aside.len()
    }

    /// Adds bytes to those in use.
    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Subtracts bytes from those in use.
    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.has_waiters() && self.is_below() {
            self.wake_next(&mut self.lock());
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

    fn has_waiters(&self) -> bool {
        self.is_waited_for() || self.aside.load(Ordering::SeqCst) > 0
    }

    /// Returns whether a session may encode a large answer. If not, the session waits and is woken: in the line
    /// when it is first and there is room, without a place when there is room and the line is empty.
    pub(super) fn wait(&self, session: SessionId, waiting: Waiting, waker: &Waker) -> bool {
        if self.has_room() {
            return true;
        }
        let waiters = &mut *self.lock();
        match waiting {
            Waiting::InLine => {
                match waiters.line.iter_mut().find(|(other, _)| *other == session) {
                    Some((_, known)) => known.clone_from(waker),
                    None => waiters.line.push_back((session, waker.clone())),
                }
                waiters.aside.retain(|(other, _)| *other != session);
            }
            Waiting::Aside => {
                waiters.line.retain(|(other, _)| *other != session);
                waiters.aside.retain(|(other, _)| *other != session);
                waiters.aside.push((session, waker.clone()));
            }
        }
        self.count(waiters);
        // Another shard may have given room before this session was counted as a waiter, and has woken none.
        let is_next = match waiters.line.front() {
            Some((first, _)) => *first == session,
            None => true,
        };
        if !is_next || !self.is_below() {
            return false;
        }
        self.strike(waiters, session);
        true
    }

    /// Ends the wait of a session.
    pub(super) fn leave(&self, session: SessionId) {
        if self.has_waiters() {
            self.strike(&mut self.lock(), session);
        }
    }

    fn strike(&self, waiters: &mut Waiters, session: SessionId) {
        waiters.line.retain(|(other, _)| *other != session);
        waiters.aside.retain(|(other, _)| *other != session);
        self.count(waiters);
        if self.is_below() {
            self.wake_next(waiters);
        }
    }

    /// Wakes the first session of the line, or all that wait without a place if the line is empty. Those wait
    /// again if they find no room.
    fn wake_next(&self, waiters: &mut Waiters) {
        if let Some((_, waker)) = waiters.line.front() {
            return waker.wake_by_ref();
        }
        for (_, waker) in waiters.aside.drain(..) {
            waker.wake();
        }
        self.count(waiters);
    }

    fn count(&self, waiters: &Waiters) {
        self.waiting.store(waiters.line.len(), Ordering::SeqCst);
        self.aside.store(waiters.aside.len(), Ordering::SeqCst);
    }

    fn is_below(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.most
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    const FIRST: SessionId = SessionId::new(1);
    const SECOND: SessionId = SessionId::new(2);
    const THIRD: SessionId = SessionId::new(3);

    #[test]
    fn room_is_given_in_the_order_of_the_line() {
        let (budget, waker) = (UnreadBudget::new(10), Waker::noop());
        assert!(budget.has_room() && budget.wait(FIRST, Waiting::InLine, waker));
        // One answer may exceed the budget.
        budget.take(15);
        assert!(
            !budget.wait(SECOND, Waiting::InLine, waker)
                && !budget.wait(THIRD, Waiting::InLine, waker)
        );
        budget.give(5);
        assert!(!budget.wait(SECOND, Waiting::InLine, waker));
        budget.give(10);
        assert!(!budget.has_room() && !budget.wait(THIRD, Waiting::InLine, waker));
        assert!(
            budget.wait(SECOND, Waiting::InLine, waker)
                && budget.wait(THIRD, Waiting::InLine, waker)
        );
        assert!(budget.has_room() && !budget.is_waited_for());
    }

    #[test]
    fn session_that_leaves_the_line_lets_the_next_one_in() {
        let (budget, waker) = (UnreadBudget::new(10), Waker::noop());
        budget.take(10);
        assert!(
            !budget.wait(SECOND, Waiting::InLine, waker)
                && !budget.wait(THIRD, Waiting::InLine, waker)
        );
        budget.leave(SECOND);
        budget.give(10);
        assert!(budget.wait(THIRD, Waiting::InLine, waker));
    }

    #[test]
    fn session_without_a_place_delays_no_other_and_is_woken_once_the_line_is_empty() {
        let budget = UnreadBudget::new(10);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        budget.take(10);
        assert!(!budget.wait(FIRST, Waiting::Aside, &waker) && !budget.is_waited_for());
        assert!(!budget.wait(SECOND, Waiting::InLine, Waker::noop()));
        budget.give(10);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        assert!(!budget.wait(FIRST, Waiting::Aside, &waker));
        assert!(budget.wait(SECOND, Waiting::InLine, Waker::noop()));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(budget.wait(FIRST, Waiting::Aside, &waker) && budget.waiters() == 0);
    }

    #[test]
    fn session_that_stops_reading_gives_up_its_place() {
        let (budget, waker) = (UnreadBudget::new(10), Waker::noop());
        budget.take(10);
        assert!(!budget.wait(FIRST, Waiting::InLine, waker));
        assert!(!budget.wait(SECOND, Waiting::InLine, waker));
        assert!(!budget.wait(FIRST, Waiting::Aside, waker));
        budget.give(10);
        assert!(budget.wait(SECOND, Waiting::InLine, waker));
        assert_eq!(budget.waiters(), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

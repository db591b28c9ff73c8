//! `BufferBudget`: the bytes that the sessions of a manager keep in their buffers, for example encoded answers.
//!
//! One process may use as many bytes as are free, so at most half of all, however many sessions it has. A
//! session whose client does not read waits without a place: it is woken when there is room and nobody in the
//! line can use it, so it never blocks a session whose client reads.
//!
//! Invariant: sessions in the line get room in the order in which they began to wait, except those whose
//! process uses its share.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use lockkeeper_protocol::SessionId;

/// The budget of all sessions of a manager, shared by its shards.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    most: usize,
    used: AtomicUsize,
    /// The number of sessions in the line, so that a check without waiters needs no lock.
    waiting: AtomicUsize,
    /// The number of sessions that wait without a place.
    aside: AtomicUsize,
    waiters: Mutex<Waiters>,
    /// The processes that have sessions. Those without a known id count as one.
    processes: Mutex<HashMap<Option<u32>, Weak<Process>>>,
}

#[derive(Debug, Default)]
struct Waiters {
    line: VecDeque<Waiter>,
    /// The sessions that wait without a place.
    aside: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    session: SessionId,
    process: Arc<Process>,
    waker: Waker,
}

/// The bytes that the sessions of one process use.
#[derive(Debug, Default)]
struct Process(AtomicUsize);

/// How a session waits for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// In the line, because its client reads.
    InLine,
    /// Without a place, because its client does not read.
    Aside,
}

impl BufferBudget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            waiters: Mutex::default(),
            processes: Mutex::default(),
        }
    }

    /// Begins the account of a session of a process, whose id the kernel has told.
    pub(super) fn account(self: &Arc<Self>, session: SessionId, pid: Option<u32>) -> BufferAccount {
        let mut processes = lock(&self.processes);
        let known = processes.get(&pid).and_then(Weak::upgrade);
        let process = known.unwrap_or_else(|| {
            // A process that has ended leaves an entry until there are twice as many.
            if processes.len() == processes.capacity() {
                processes.retain(|_, process| process.strong_count() > 0);
            }
            let process = Arc::default();
            processes.insert(pid, Arc::downgrade(&process));
            process
        });
        BufferAccount {
            budget: Arc::clone(self),
            session,
            process,
            counted: Cell::new(0),
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
        let waiters = lock(&self.waiters);
        waiters.line.len() + waiters.aside.len()
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn has_waiters(&self) -> bool {
        self.is_waited_for() || self.aside.load(Ordering::SeqCst) > 0
    }

    /// Returns whether a process uses less than is free.
    fn has_room_for(&self, process: &Process) -> bool {
        let free = self.most.saturating_sub(self.used.load(Ordering::SeqCst));
        process.0.load(Ordering::SeqCst) < free
    }

    /// The first session of the line that can use the room.
    fn next<'a>(&self, waiters: &'a Waiters) -> Option<&'a Waiter> {
        let mut line = waiters.line.iter();
        line.find(|waiter| self.has_room_for(&waiter.process))
    }

    /// Wakes the next session of the line, or all others that can use the room if there is none. Those wait again
    /// if they find no room.
    fn wake_next(&self, waiters: &mut Waiters) {
        if let Some(next) = self.next(waiters) {
            return next.waker.wake_by_ref();
        }
        waiters.aside.retain(|waiter| {
            let has_room = self.has_room_for(&waiter.process);
            if has_room {
                waiter.waker.wake_by_ref();
            }
            !has_room
        });
        self.count(waiters);
    }

    fn strike(&self, waiters: &mut Waiters, session: SessionId) {
        waiters.line.retain(|waiter| waiter.session != session);
        waiters.aside.retain(|waiter| waiter.session != session);
        self.count(waiters);
        self.wake_next(waiters);
    }

    fn count(&self, waiters: &Waiters) {
        self.waiting.store(waiters.line.len(), Ordering::SeqCst);
        self.aside.store(waiters.aside.len(), Ordering::SeqCst);
    }
}

/// The bytes that one session uses. Its drop gives them back, and ends a wait.
#[derive(Debug)]
pub(super) struct BufferAccount {
    budget: Arc<BufferBudget>,
    session: SessionId,
    process: Arc<Process>,
    counted: Cell<usize>,
}

impl BufferAccount {
    /// The number of bytes that the session uses.
    pub(super) const fn counted(&self) -> usize {
        self.counted.get()
    }

    /// Sets the number of bytes that the session uses, even beyond the budget.
    pub(super) fn set(&self, bytes: usize) {
        let counted = self.counted.replace(bytes);
        let Self {
            budget, process, ..
        } = self;
        if bytes > counted {
            budget.used.fetch_add(bytes - counted, Ordering::SeqCst);
            process.0.fetch_add(bytes - counted, Ordering::SeqCst);
        } else if bytes < counted {
            process.0.fetch_sub(counted - bytes, Ordering::SeqCst);
            let used = budget.used.fetch_sub(counted - bytes, Ordering::SeqCst);
            if used - (counted - bytes) < budget.most && budget.has_waiters() {
                budget.wake_next(&mut lock(&budget.waiters));
            }
        }
    }

    /// Returns whether the session may use more without a wait: its process has room, and no session waits that
    /// could use it.
    pub(super) fn has_room(&self) -> bool {
        let budget = &self.budget;
        budget.has_room_for(&self.process)
            && (!budget.is_waited_for() || budget.next(&lock(&budget.waiters)).is_none())
    }

    /// Returns whether other sessions wait for room while this one uses some.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.counted.get() > 0 && self.budget.is_waited_for()
    }

    /// Returns whether the session may use more. If not, it waits and is woken: in the line when it is the first
    /// that can use the room, without a place when there is room that no session of the line can use.
    pub(super) fn wait(&self, waiting: Waiting, waker: &Waker) -> bool {
        if self.has_room() {
            return true;
        }
        let (budget, session) = (&self.budget, self.session);
        let waiters = &mut *lock(&budget.waiters);
        waiters.aside.retain(|waiter| waiter.session != session);
        let waiter = || Waiter {
            session,
            process: Arc::clone(&self.process),
            waker: waker.clone(),
        };
        let mut line = waiters.line.iter_mut();
        match (waiting, line.find(|waiter| waiter.session == session)) {
            (Waiting::InLine, Some(known)) => known.waker.clone_from(waker),
            (Waiting::InLine, None) => waiters.line.push_back(waiter()),
            (Waiting::Aside, _) => {
                waiters.line.retain(|waiter| waiter.session != session);
                waiters.aside.push(waiter());
            }
        }
        budget.count(waiters);
        // Another shard may have given room before this session was counted as a waiter, and has woken none.
        let is_next = match budget.next(waiters) {
            Some(next) => next.session == session,
            None => budget.has_room_for(&self.process),
        };
        if is_next {
            budget.strike(waiters, session);
        }
        is_next
    }

    /// Ends the wait of the session.
    pub(super) fn leave(&self) {
        if self.budget.has_waiters() {
            self.budget
                .strike(&mut lock(&self.budget.waiters), self.session);
        }
    }
}

impl Drop for BufferAccount {
    fn drop(&mut self) {
        self.set(0);
        self.leave();
    }
}

/// Locks a mutex. Poison is ignored, because no code inside panics between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    /// A budget, and the accounts of one session in each of some processes.
    fn budget_of<const N: usize>(
        most: usize,
        pids: [u32; N],
    ) -> (Arc<BufferBudget>, [BufferAccount; N]) {
        let budget = Arc::new(BufferBudget::new(most));
        let mut sessions = (1..).map(SessionId::new);
        let accounts = pids.map(|pid| {
            let session = sessions.next().expect("numbers do not end");
            budget.account(session, Some(pid))
        });
        (budget, accounts)
    }

    #[test]
    fn room_is_given_in_the_order_of_the_line() {
        let (_, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        assert!(first.has_room() && first.wait(Waiting::InLine, waker));
        // One answer may exceed the budget.
        first.set(15);
        assert!(!second.wait(Waiting::InLine, waker) && !third.wait(Waiting::InLine, waker));
        first.set(10);
        assert!(!second.wait(Waiting::InLine, waker));
        first.set(0);
        assert!(!first.has_room() && !third.wait(Waiting::InLine, waker));
        assert!(second.wait(Waiting::InLine, waker) && third.wait(Waiting::InLine, waker));
        assert!(first.has_room() && !first.budget.is_waited_for());
    }

    #[test]
    fn session_that_leaves_the_line_lets_the_next_one_in() {
        let (_, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        first.set(10);
        assert!(!second.wait(Waiting::InLine, waker) && !third.wait(Waiting::InLine, waker));
        drop(second);
        first.set(0);
        assert!(third.wait(Waiting::InLine, waker));
    }

    #[test]
    fn process_uses_as_much_as_is_free_however_many_sessions_it_has() {
        let (budget, greedy) = budget_of(100, [1; 20]);
        let waker = Waker::noop();
        for account in &greedy {
            if account.wait(Waiting::InLine, waker) {
                account.set(10);
            }
        }
        assert_eq!((budget.used(), budget.waiters()), (50, 15));
        // The sessions of the process wait in the line, and the others pass them.
        let other = budget.account(SessionId::new(99), Some(2));
        for _ in 0..3 {
            assert!(other.has_room() && other.wait(Waiting::InLine, waker));
            other.set(60);
            assert!(!other.has_room());
            other.set(0);
        }
        // A third process has room beside two that use their shares.
        other.set(25);
        let third = budget.account(SessionId::new(100), None);
        let same = budget.account(SessionId::new(101), None);
        assert!(!other.has_room() && third.has_room());
        third.set(15);
        assert!(!same.has_room());
        drop(third);
        assert!(same.has_room());
        // Room that another process gives back is for the first of the line that can use it.
        drop((other, same));
        let [first, .., last] = &greedy;
        assert!(!first.has_room() && !last.has_room());
        first.set(0);
        assert!(greedy[5].wait(Waiting::InLine, waker));
        drop(greedy);
        assert_eq!((budget.used(), budget.waiters()), (0, 0));
        assert_eq!(
            lock(&budget.processes)
                .values()
                .filter_map(Weak::upgrade)
                .count(),
            0
        );
    }

    #[test]
    fn processes_that_have_ended_are_forgotten() {
        let (budget, []) = budget_of(1, []);
        for pid in 0..10_000 {
            drop(budget.account(SessionId::new(1), Some(pid)));
        }
        assert!(lock(&budget.processes).len() < 100);
    }

    #[test]
    fn session_without_a_place_delays_no_other_and_is_woken_once_the_line_is_empty() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        third.set(10);
        assert!(!first.wait(Waiting::Aside, &waker) && !budget.is_waited_for());
        assert!(!second.wait(Waiting::InLine, Waker::noop()));
        third.set(0);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        assert!(!first.wait(Waiting::Aside, &waker));
        assert!(second.wait(Waiting::InLine, Waker::noop()));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(first.wait(Waiting::Aside, &waker) && budget.waiters() == 0);
    }

    #[test]
    fn session_without_a_place_is_woken_although_one_whose_process_has_no_room_is_in_the_line() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 2]);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let other = budget.account(SessionId::new(9), Some(3));
        second.set(5);
        other.set(5);
        assert!(!third.wait(Waiting::InLine, Waker::noop()));
        assert!(!first.wait(Waiting::Aside, &waker));
        other.set(1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(first.wait(Waiting::Aside, &waker) && budget.waiters() == 1);
    }

    #[test]
    fn session_that_stops_reading_gives_up_its_place() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        third.set(10);
        assert!(!first.wait(Waiting::InLine, waker));
        assert!(!second.wait(Waiting::InLine, waker));
        assert!(!first.wait(Waiting::Aside, waker));
        third.set(0);
        assert!(second.wait(Waiting::InLine, waker));
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

//! `BufferBudget`: the bytes that the sessions of a manager keep in their buffers, for example encoded answers.
//!
//! One process may use as many bytes as are free, so at most half of all, however many sessions it has. A
//! session whose client does not read waits outside the queue, so it never blocks a session whose client reads.
//! The budget wakes it when there is room that no queued session can use.
//!
//! Invariant: queued sessions get room in the order in which they began to wait, except those whose process uses
//! its share. A session that is told that it may use more no longer waits.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use crate::transport::stream::Stream;

/// The budget of all sessions of a manager, shared by its shards.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    most: usize,
    used: AtomicUsize,
    /// The number of queued sessions, so that a check without waiters needs no lock.
    queued: AtomicUsize,
    /// The number of sessions that wait outside the queue.
    unqueued: AtomicUsize,
    waiters: Mutex<Waiters>,
    /// The processes that have sessions.
    processes: Mutex<HashMap<Party, Weak<Process>>>,
}

/// Whose sessions count together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Party {
    /// All processes that have proved a key, by its name.
    Key(String),
    /// A process, by the id that the kernel reports.
    Process(u32),
    /// All processes of another machine, which could claim any id.
    Host(String),
    /// All others.
    Unknown,
}

impl Party {
    /// Returns the party at the other end of a stream, by its key if it has proved one, and by its process id if the
    /// kernel knows it.
    pub(super) fn of(key: Option<&str>, pid: Option<u32>, stream: &dyn Stream) -> Self {
        match (key, pid, stream.peer_host()) {
            (Some(key), _, _) => Self::Key(key.to_owned()),
            (None, Some(pid), _) => Self::Process(pid),
            (None, None, Some(host)) => Self::Host(host),
            (None, None, None) => Self::Unknown,
        }
    }
}

/// The bytes that the sessions of one party use.
#[derive(Debug)]
struct Process {
    party: Party,
    used: AtomicUsize,
}

/// The sessions that wait. Either all sessions of a process have room or none has, so a search for the next one
/// visits each process once.
#[derive(Debug, Default)]
struct Waiters {
    processes: BTreeMap<Party, WaitingProcess>,
    queued: usize,
    unqueued: usize,
    /// The number of the session that began to wait last.
    last: u64,
}

/// The sessions of a process that wait, by the numbers that they got when they began to wait.
#[derive(Debug)]
struct WaitingProcess {
    process: Arc<Process>,
    queued: BTreeMap<u64, Waker>,
    unqueued: BTreeMap<u64, Waker>,
}

/// How a session waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// In the queue, because its client reads.
    Queued,
    /// Outside the queue, because its client does not read.
    Unqueued,
}

impl Waiters {
    /// Adds a session that waits.
    fn insert(&mut self, process: &Arc<Process>, number: u64, waiting: Waiting, waker: Waker) {
        let of = self.processes.entry(process.party.clone());
        let of = of.or_insert_with(|| WaitingProcess {
            process: Arc::clone(process),
            queued: BTreeMap::new(),
            unqueued: BTreeMap::new(),
        });
        match waiting {
            Waiting::Queued => of.queued.insert(number, waker),
            Waiting::Unqueued => of.unqueued.insert(number, waker),
        };
        self.recount(waiting, 1);
    }

    /// Removes a session, and returns how it has waited.
    fn remove(&mut self, process: &Process, number: u64) -> Option<Waiting> {
        let of = self.processes.get_mut(&process.party)?;
        let waiting = if of.queued.remove(&number).is_some() {
            Waiting::Queued
        } else {
            of.unqueued.remove(&number)?;
            Waiting::Unqueued
        };
        if of.is_empty() {
            self.processes.remove(&process.party);
        }
        self.recount(waiting, -1);
        Some(waiting)
    }

    fn recount(&mut self, waiting: Waiting, change: isize) {
        let count = match waiting {
            Waiting::Queued => &mut self.queued,
            Waiting::Unqueued => &mut self.unqueued,
        };
        *count = count.saturating_add_signed(change);
    }
}

impl WaitingProcess {
    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.unqueued.is_empty()
    }
}

impl BufferBudget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            unqueued: AtomicUsize::new(0),
            waiters: Mutex::default(),
            processes: Mutex::default(),
        }
    }

    /// Begins the account of a session.
    pub(super) fn account(self: &Arc<Self>, party: Party) -> BufferAccount {
        let mut processes = lock(&self.processes);
        let known = processes.get(&party).and_then(Weak::upgrade);
        let process = known.unwrap_or_else(|| {
            // A process that has ended leaves an entry until there are twice as many.
            if processes.len() == processes.capacity() {
                processes.retain(|_, process| process.strong_count() > 0);
            }
            let used = AtomicUsize::new(0);
            let process = Arc::new(Process {
                party: party.clone(),
                used,
            });
            processes.insert(party, Arc::downgrade(&process));
            process
        });
        BufferAccount {
            budget: Arc::clone(self),
            process,
            counted: Cell::new(0),
            number: Cell::new(0),
        }
    }

    /// The number of bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// The number of sessions that wait, in the queue or outside it.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        let waiters = lock(&self.waiters);
        waiters.queued + waiters.unqueued
    }

    fn is_waited_for(&self) -> bool {
        self.queued.load(Ordering::SeqCst) > 0
    }

    fn has_waiters(&self) -> bool {
        self.is_waited_for() || self.unqueued.load(Ordering::SeqCst) > 0
    }

    /// Returns whether a process uses less than is free.
    fn has_room_for(&self, process: &Process) -> bool {
        let free = self.most.saturating_sub(self.used.load(Ordering::SeqCst));
        process.used.load(Ordering::SeqCst) < free
    }

    /// The first queued session that can use the room.
    fn next<'a>(&self, waiters: &'a Waiters) -> Option<(u64, &'a Waker)> {
        let processes = waiters.processes.values();
        let with_room = processes.filter(|of| self.has_room_for(&of.process));
        let firsts = with_room.filter_map(|of| of.queued.first_key_value());
        let first = firsts.min_by_key(|(number, _)| **number);
        first.map(|(number, waker)| (*number, waker))
    }

    /// Wakes the next queued session, or all others that can use the room if there is none. Those wait again if
    /// they find no room.
    fn wake_next(&self, waiters: &mut Waiters) {
        if let Some((_, waker)) = self.next(waiters) {
            return waker.wake_by_ref();
        }
        if waiters.unqueued == 0 {
            return;
        }
        let mut woken = 0;
        waiters.processes.retain(|_, of| {
            if self.has_room_for(&of.process) {
                woken += of.unqueued.len();
                mem::take(&mut of.unqueued)
                    .into_values()
                    .for_each(Waker::wake);
            }
            !of.is_empty()
        });
        waiters.unqueued -= woken;
        self.count(waiters);
    }

    /// Ends the wait of a session.
    fn remove(&self, waiters: &mut Waiters, process: &Process, number: u64) {
        waiters.remove(process, number);
        self.count(waiters);
        self.wake_next(waiters);
    }

    fn count(&self, waiters: &Waiters) {
        self.queued.store(waiters.queued, Ordering::SeqCst);
        self.unqueued.store(waiters.unqueued, Ordering::SeqCst);
    }
}

/// The bytes that one session uses. Its drop gives them back, and ends a wait.
#[derive(Debug)]
pub(super) struct BufferAccount {
    budget: Arc<BufferBudget>,
    process: Arc<Process>,
    counted: Cell<usize>,
    /// The number of the session among those that wait, or 0 if it does not wait.
    number: Cell<u64>,
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
            process.used.fetch_add(bytes - counted, Ordering::SeqCst);
        } else if bytes < counted {
            process.used.fetch_sub(counted - bytes, Ordering::SeqCst);
            let used = budget.used.fetch_sub(counted - bytes, Ordering::SeqCst);
            if used - (counted - bytes) < budget.most && budget.has_waiters() {
                budget.wake_next(&mut lock(&budget.waiters));
            }
        }
    }

    /// Returns whether the process of the session has room and no session is queued. It takes no lock.
    pub(super) fn is_uncontended(&self) -> bool {
        !self.budget.is_waited_for() && self.budget.has_room_for(&self.process)
    }

    /// Returns whether the session may use more without a wait: its process has room, and no session is queued
    /// that could use it.
    pub(super) fn has_room(&self) -> bool {
        let budget = &self.budget;
        budget.has_room_for(&self.process)
            && (!budget.is_waited_for() || budget.next(&lock(&budget.waiters)).is_none())
    }

    /// Returns whether other sessions are queued for room while this one uses some.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.counted.get() > 0 && self.budget.is_waited_for()
    }

    /// Returns whether the session may use more, and then ends its wait. If not, it waits and is woken: in the
    /// queue when it is the first that can use the room, outside it when there is room that no queued session
    /// can use.
    pub(super) fn wait(&self, waiting: Waiting, waker: &Waker) -> bool {
        if self.is_uncontended() {
            self.leave();
            return true;
        }
        let Self {
            budget, process, ..
        } = self;
        // One lock covers the decision and the removal. A session that was told that it has room does not ask
        // again, so it would block the queue if it stayed there.
        let waiters = &mut *lock(&budget.waiters);
        let known = self.number.get();
        let was = waiters.remove(process, known);
        let number = if (was, waiting) == (Some(Waiting::Queued), Waiting::Queued) {
            known
        } else {
            waiters.last += 1;
            waiters.last
        };
        waiters.insert(process, number, waiting, waker.clone());
        self.number.set(number);
        budget.count(waiters);
        // Another shard may have freed bytes before this session was counted as a waiter, and then it has woken
        // no session.
        let has_room = match budget.next(waiters) {
            Some((next, _)) => next == number,
            None => budget.has_room_for(process),
        };
        if has_room {
            self.number.set(0);
            budget.remove(waiters, process, number);
        }
        has_room
    }

    /// Ends the wait of the session, if it waits.
    pub(super) fn leave(&self) {
        let number = self.number.take();
        if number > 0 {
            let waiters = &mut *lock(&self.budget.waiters);
            self.budget.remove(waiters, &self.process, number);
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
    use std::{
        task::Wake,
        time::{Duration, Instant},
    };

    use super::*;

    /// A budget, and the accounts of one session in each of some processes.
    fn budget_of<const N: usize>(
        most: usize,
        pids: [u32; N],
    ) -> (Arc<BufferBudget>, [BufferAccount; N]) {
        let budget = Arc::new(BufferBudget::new(most));
        let accounts = pids.map(|pid| budget.account(Party::Process(pid)));
        (budget, accounts)
    }

    #[test]
    fn room_is_given_in_the_order_of_the_queue() {
        let (_, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        assert!(first.has_room() && first.wait(Waiting::Queued, waker));
        // One answer may exceed the budget.
        first.set(15);
        assert!(!second.wait(Waiting::Queued, waker) && !third.wait(Waiting::Queued, waker));
        first.set(10);
        assert!(!second.wait(Waiting::Queued, waker));
        first.set(0);
        assert!(!first.has_room() && !third.wait(Waiting::Queued, waker));
        assert!(second.wait(Waiting::Queued, waker) && third.wait(Waiting::Queued, waker));
        assert!(first.has_room() && !first.budget.is_waited_for());
    }

    #[test]
    fn session_that_leaves_the_queue_lets_the_next_one_in() {
        let (_, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        first.set(10);
        assert!(!second.wait(Waiting::Queued, waker) && !third.wait(Waiting::Queued, waker));
        drop(second);
        first.set(0);
        assert!(third.wait(Waiting::Queued, waker));
    }

    #[test]
    fn process_uses_as_much_as_is_free_however_many_sessions_it_has() {
        let (budget, greedy) = budget_of(100, [1; 20]);
        let waker = Waker::noop();
        for account in &greedy {
            if account.wait(Waiting::Queued, waker) {
                account.set(10);
            }
        }
        assert_eq!((budget.used(), budget.waiters()), (50, 15));
        // The sessions of the process wait in the queue, and the others pass them.
        let other = budget.account(Party::Process(2));
        for _ in 0..3 {
            assert!(other.has_room() && other.wait(Waiting::Queued, waker));
            other.set(60);
            assert!(!other.has_room());
            other.set(0);
        }
        // A third process has room beside two that use their shares.
        other.set(25);
        let third = budget.account(Party::Host("10.0.0.1".to_owned()));
        let same = budget.account(Party::Host("10.0.0.1".to_owned()));
        assert!(!other.has_room() && third.has_room());
        third.set(15);
        assert!(!same.has_room());
        drop(third);
        assert!(same.has_room());
        // Room that another process gives back is for the first of the queue that can use it.
        drop((other, same));
        let [first, .., last] = &greedy;
        assert!(!first.has_room() && !last.has_room());
        first.set(0);
        assert!(greedy[5].wait(Waiting::Queued, waker));
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
            drop(budget.account(Party::Process(pid)));
        }
        assert!(lock(&budget.processes).len() < 100);
    }

    #[test]
    fn unqueued_session_delays_no_other_and_is_woken_once_the_queue_is_empty() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        third.set(10);
        assert!(!first.wait(Waiting::Unqueued, &waker) && !budget.is_waited_for());
        assert!(!second.wait(Waiting::Queued, Waker::noop()));
        third.set(0);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        assert!(!first.wait(Waiting::Unqueued, &waker));
        assert!(second.wait(Waiting::Queued, Waker::noop()));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(first.wait(Waiting::Unqueued, &waker) && budget.waiters() == 0);
    }

    #[test]
    fn unqueued_session_is_woken_although_one_whose_process_has_no_room_is_queued() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 2]);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let other = budget.account(Party::Process(3));
        second.set(5);
        other.set(5);
        assert!(!third.wait(Waiting::Queued, Waker::noop()));
        assert!(!first.wait(Waiting::Unqueued, &waker));
        other.set(1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(first.wait(Waiting::Unqueued, &waker) && budget.waiters() == 1);
    }

    #[test]
    fn session_that_stops_reading_gives_up_its_place() {
        let (budget, [first, second, third]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        third.set(10);
        assert!(!first.wait(Waiting::Queued, waker));
        assert!(!second.wait(Waiting::Queued, waker));
        assert!(!first.wait(Waiting::Unqueued, waker));
        third.set(0);
        assert!(second.wait(Waiting::Queued, waker));
        assert_eq!(budget.waiters(), 0);
    }

    #[test]
    fn session_that_is_told_that_it_has_room_no_longer_waits() {
        let (budget, [first, second, other]) = budget_of(10, [1, 2, 3]);
        let waker = Waker::noop();
        for waiting in [Waiting::Queued, Waiting::Unqueued] {
            other.set(10);
            assert!(!first.wait(waiting, waker) && !second.wait(Waiting::Queued, waker));
            other.set(0);
            // It is alone in the budget, or the next one, or passes sessions that have no room.
            assert!(second.wait(Waiting::Queued, waker) == (waiting == Waiting::Unqueued));
            assert!(first.wait(waiting, waker) && first.number.get() == 0);
            assert!(second.wait(Waiting::Queued, waker) && second.number.get() == 0);
            assert_eq!(budget.waiters(), 0);
        }
        let same = budget.account(Party::Process(3));
        other.set(6);
        assert!(!same.wait(Waiting::Queued, waker) && !other.wait(Waiting::Unqueued, waker));
        assert!(first.wait(Waiting::Queued, waker) && budget.waiters() == 2);
        drop((same, other));
        assert!(budget.waiters() == 0 && lock(&budget.waiters).processes.is_empty());
    }

    #[test]
    fn processes_take_turns_in_the_order_of_their_first_sessions() {
        let (budget, accounts) = budget_of(100, [7, 7, 3, 5, 3, 7]);
        let waker = Waker::noop();
        let all = budget.account(Party::Unknown);
        all.set(100);
        for account in &accounts {
            assert!(!account.wait(Waiting::Queued, waker));
        }
        all.set(90);
        for (place, account) in accounts.iter().enumerate() {
            for later in &accounts[place + 1..] {
                assert!(!later.wait(Waiting::Queued, waker), "{place}");
            }
            assert!(account.wait(Waiting::Queued, waker), "{place}");
        }
    }

    #[test]
    fn many_waiting_sessions_of_one_process_cost_the_others_little() {
        const MANY: usize = 30_000;
        let (budget, [greedy, other]) = budget_of(10, [1, 2]);
        let begun = Instant::now();
        greedy.set(5);
        let waiting: Vec<_> = (0..MANY)
            .map(|_| budget.account(Party::Process(1)))
            .collect();
        for (count, session) in waiting.iter().enumerate() {
            let waiting = match count % 2 {
                0 => Waiting::Queued,
                _ => Waiting::Unqueued,
            };
            assert!(!session.wait(waiting, Waker::noop()));
        }
        for _ in 0..MANY {
            assert!(other.has_room() && other.wait(Waiting::Queued, Waker::noop()));
            other.set(5);
            other.set(0);
        }
        assert_eq!(budget.waiters(), MANY);
        drop(waiting);
        // A scan over the sessions takes minutes.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

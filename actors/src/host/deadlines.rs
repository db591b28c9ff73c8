//! The table of deadlines of a shard. This is the only file of the crate with a timer.
//!
//! Times are those of the runtime, so that a test can pause them.
//!
//! One task sleeps until the earliest deadline. An actix timer per waiting call would slow down every
//! later message to the same actor; an entry in this table takes about 50 bytes.
//!
//! Invariant: an expired deadline only sends a message to the host. The host decides in a turn of its
//! own whether the call was answered before, so a call receives its reply or a timeout, never both.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use lockkeeper_protocol::CallId;
use tokio::{
    sync::Notify,
    task,
    time::{self, Instant},
};

use crate::{
    host::input::{Input, Inputs, Mailbox},
    tables::slots::{NONE, Slots},
    waiting::call_index::CallIndex,
};

/// The deadlines of all calls that wait on this shard. Clones share the table.
#[derive(Clone)]
pub struct Deadlines(Rc<Shared>);

struct Shared {
    /// The zero of the table's times.
    epoch: Instant,
    /// A lower bound on all later times, in nanoseconds.
    least: Cell<u64>,
    table: RefCell<Table>,
    /// Notified when a new deadline is earlier than all others.
    earlier: Notify,
}

/// The entries of the table, and their order.
#[derive(Default)]
struct Table {
    entries: Slots<Entry>,
    /// The entries by their calls.
    index: CallIndex,
    /// The entries whose hosts were not asked yet, as a heap: no entry is due before the one at half of its
    /// position. Each entry knows its position, so it is found without a scan.
    times: Vec<Due>,
    hosts: Slots<HostEntry>,
}

/// A call that waits, or one whose host was asked and has not decided yet.
struct Entry {
    id: CallId,
    host: u32,
    /// The position in `times`; [`NONE`] once the host was asked.
    position: u32,
}

/// The time at which an entry is due, in nanoseconds, and its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    place: u32,
}

/// The most hosts to ask in one turn.
const MOST_ASKED: usize = 256;

/// A host with calls that have deadlines.
#[derive(Default)]
struct HostEntry {
    /// Kept while any of its calls waits.
    mailbox: Option<Mailbox>,
    waiting: u32,
}

/// A host's place in the table.
pub(crate) struct DeadlineHandle {
    deadlines: Deadlines,
    host: u32,
}

impl Table {
    /// Removes the entry of a call.
    fn remove(&mut self, id: CallId) -> bool {
        let entries = &self.entries;
        let id_at = |place| entries.get(place).map(|entry| entry.id);
        let Some(place) = self.index.remove(id, id_at) else {
            return false;
        };
        let Some(Entry { host, position, .. }) = self.entries.remove(place) else {
            return false;
        };
        self.strike(position);
        if let Some(host_entry) = self.hosts.get_mut(host) {
            host_entry.waiting -= 1;
            if host_entry.waiting == 0 {
                host_entry.mailbox = None;
            }
        }
        true
    }

    fn insert(&mut self, id: CallId, at: u64, host: u32) {
        let position = NONE;
        let Some(place) = self.entries.insert(Entry { id, host, position }) else {
            return;
        };
        let entries = &self.entries;
        let id_at = |place| entries.get(place).map(|entry| entry.id);
        self.index.insert(id, place, id_at);
        let last = self.times.len();
        self.times.push(Due { at, place });
        self.rise(last);
    }

    /// Returns whether a call is due at `now`. A call whose host was asked is due.
    fn is_due(&self, id: CallId, now: u64) -> bool {
        let id_at = |place| self.entries.get(place).map(|entry| entry.id);
        let place = self.index.find(id, id_at);
        let entry = place.and_then(|place| self.entries.get(place));
        entry.is_some_and(|entry| {
            let due = self.times.get(wide(entry.position));
            due.is_none_or(|due| due.at <= now)
        })
    }

    /// Takes the earliest entry that is due at `now`, and returns its call and the host to ask.
    fn next_due(&mut self, now: u64) -> Option<(CallId, u32)> {
        let Due { place, .. } = self.times.first().copied().filter(|due| due.at <= now)?;
        self.strike(0);
        let entry = self.entries.get_mut(place)?;
        entry.position = NONE;
        Some((entry.id, entry.host))
    }

    /// Removes a time from the heap; does nothing at [`NONE`].
    fn strike(&mut self, position: u32) {
        let position = wide(position);
        if position >= self.times.len() {
            return;
        }
        self.times.swap_remove(position);
        if position < self.times.len() {
            self.rise(position);
            self.sink(position);
        }
        if self.times.capacity() > 64 && self.times.len() < self.times.capacity() / 4 {
            self.times.shrink_to(64.max(2 * self.times.len()));
        }
    }

    /// Moves a time up the heap, before all later ones, and records its position.
    fn rise(&mut self, mut position: usize) {
        while let Some(above) = position.checked_sub(1).map(|below| below / 2)
            && self.times.get(position) < self.times.get(above)
        {
            self.times.swap(position, above);
            self.note(position);
            position = above;
        }
        self.note(position);
    }

    /// Moves a time down the heap, behind all earlier ones, and records its position.
    fn sink(&mut self, mut position: usize) {
        loop {
            let below = [2 * position + 1, 2 * position + 2];
            let below = below.into_iter().filter(|below| *below < self.times.len());
            let Some(least) = below.min_by_key(|below| self.times.get(*below)) else {
                break;
            };
            if self.times.get(position) <= self.times.get(least) {
                break;
            }
            self.times.swap(position, least);
            self.note(position);
            position = least;
        }
        self.note(position);
    }

    /// Records the position of a time in its entry.
    fn note(&mut self, position: usize) {
        let due = self.times.get(position);
        if let Some(entry) = due.and_then(|due| self.entries.get_mut(due.place)) {
            entry.position = u32::try_from(position).unwrap_or(NONE);
        }
    }
}

/// A position as an index.
const fn wide(position: u32) -> usize {
    position as usize
}

impl Deadlines {
    /// Creates an empty table whose times count from `epoch`.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self(Rc::new(Shared {
            epoch,
            least: Cell::new(0),
            table: RefCell::default(),
            earlier: Notify::new(),
        }))
    }

    /// Returns the time since the epoch. It never runs backwards.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// Returns a time above all earlier results; later results of `now` are not below it.
    pub(crate) fn later(&self) -> Duration {
        self.0.least.set(self.nanos().saturating_add(1));
        self.now()
    }

    fn nanos(&self) -> u64 {
        self.nanos_at(Instant::now()).max(self.0.least.get())
    }

    /// Returns the number of calls with a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.table.borrow().entries.len()
    }

    /// Returns whether no call has a deadline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of hosts in the table.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.0.table.borrow().hosts.len()
    }

    /// Assigns a place in the table to a host.
    pub(crate) fn handle(&self) -> DeadlineHandle {
        let host = self.0.table.borrow_mut().hosts.insert(HostEntry::default());
        DeadlineHandle {
            deadlines: self.clone(),
            host: host.unwrap_or(NONE),
        }
    }

    /// Removes a call that was answered.
    pub(crate) fn answered(&self, id: CallId) {
        let mut table = self.0.table.borrow_mut();
        if !table.entries.is_empty() {
            table.remove(id);
        }
    }

    /// Returns whether an expiring call still waits. The host asks once.
    pub(crate) fn decide(&self, id: CallId) -> bool {
        self.0.table.borrow_mut().remove(id)
    }

    /// Returns whether a call to withdraw has expired before, even if the table had no turn to ask its host.
    /// If so, the decision is made here.
    pub(crate) fn decide_overdue(&self, id: CallId) -> bool {
        let mut table = self.0.table.borrow_mut();
        if table.entries.is_empty() {
            return false;
        }
        let now = self.nanos();
        table.is_due(id, now) && table.remove(id)
    }

    /// Asks hosts to expire calls at their deadlines, for ever.
    pub async fn run(self) {
        loop {
            let earliest = self.ask_due();
            let earlier = self.0.earlier.notified();
            match earliest {
                Some(at) if at <= Instant::now() => task::yield_now().await,
                Some(at) => {
                    let _ = time::timeout_at(at, earlier).await;
                }
                None => earlier.await,
            }
        }
    }

    /// Asks the hosts of calls that are due, up to a limit, and returns the time of the next deadline.
    fn ask_due(&self) -> Option<Instant> {
        let now = self.nanos();
        let mut table = self.0.table.borrow_mut();
        for _ in 0..MOST_ASKED {
            let Some((id, host)) = table.next_due(now) else {
                break;
            };
            if let Some(host_entry) = table.hosts.get(host)
                && let Some(mailbox) = &host_entry.mailbox
            {
                mailbox.do_send(Inputs::one(Duration::from_nanos(now), Input::Expire(id)));
            }
        }
        let at = table.times.first()?.at;
        Some(self.0.epoch + Duration::from_nanos(at))
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl DeadlineHandle {
    /// Adds a call that expires after `timeout`. A timeout that exceeds the range of times never expires.
    pub(crate) fn enter(&self, id: CallId, timeout: Duration, mailbox: impl FnOnce() -> Mailbox) {
        let Some(at) = Instant::now().checked_add(timeout) else {
            return;
        };
        let at = self.deadlines.nanos_at(at);
        let mut table = self.deadlines.0.table.borrow_mut();
        let Some(host_entry) = table.hosts.get_mut(self.host) else {
            return;
        };
        host_entry.waiting += 1;
        host_entry.mailbox.get_or_insert_with(mailbox);
        let earliest = table.times.first().is_none_or(|due| at < due.at);
        table.insert(id, at, self.host);
        if earliest {
            self.deadlines.0.earlier.notify_one();
        }
    }
}

impl Drop for DeadlineHandle {
    fn drop(&mut self) {
        // A host that is dropped has no waiting calls: the table would have kept its mailbox.
        self.deadlines.0.table.borrow_mut().hosts.remove(self.host);
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadlines")
            .field(&self.0.table.borrow().entries.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockkeeper_protocol::SessionId;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn calls_are_due_in_order_of_their_times_and_without_those_that_were_answered() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut table, mut left) = (Table::default(), BTreeMap::new());
            let host = table.hosts.insert(HostEntry::default()).expect("a place");
            let mut now = 0;
            for seq in 1..3000 {
                let id = CallId::new(SessionId::new(seq % 3), seq);
                let at = now + random.random_range(0..500);
                table.insert(id, at, host);
                table.hosts.get_mut(host).expect("it is there").waiting += 1;
                left.insert(id, at);
                if random.random_range(0..3) == 0 {
                    let answered = *left.keys().nth(left.len() / 2).expect("a call");
                    let overdue = left.remove(&answered).is_some_and(|at| at <= now);
                    assert_eq!(table.is_due(answered, now), overdue, "seed {seed}");
                    assert!(table.remove(answered) && !table.remove(answered));
                }
                if random.random_range(0..10) == 0 {
                    now += random.random_range(0..300);
                    let mut last = 0;
                    while let Some((due, _)) = table.next_due(now) {
                        assert!(table.is_due(due, now) && table.remove(due));
                        let at = left.remove(&due).expect("it was not answered");
                        assert!(last <= at && at <= now, "seed {seed}");
                        last = at;
                    }
                    assert!(left.values().all(|at| *at > now), "seed {seed}");
                }
            }
            for id in left.keys() {
                assert!(table.remove(*id));
            }
            assert!(table.times.is_empty() && table.times.capacity() <= 64);
        }
    }
}

//! The table of deadlines of a shard. This is the only file of the crate with a timer.
//!
//! Times are those of the runtime, so that a test can pause them.
//!
//! One task sleeps until the earliest deadline. An actix timer per waiting call would slow down every
//! later message to the same actor; an entry in this table takes about 50 bytes.
//!
//! Invariant: an expired deadline only sends a message to the host. The host decides in a turn of its
//! own whether the call was answered before, so a call receives its reply or a timeout, never both.

use std::{cell::RefCell, cmp::Reverse, collections::BinaryHeap, fmt, rc::Rc, time::Duration};

use lockkeeper_protocol::CallId;
use slab::Slab;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::{
    host::input::{Input, Inputs, Mailbox},
    waiting::call_index::CallIndex,
};

/// The deadlines of all calls that wait on this shard. A handle: clones share the table.
#[derive(Clone)]
pub struct Deadlines(Rc<Shared>);

struct Shared {
    /// What the times of the table count from.
    epoch: Instant,
    table: RefCell<Table>,
    /// Told when a deadline is entered that is earlier than all others.
    earlier: Notify,
}

/// What the table knows.
#[derive(Default)]
struct Table {
    entries: Slab<Entry>,
    /// The entries by their calls.
    index: CallIndex,
    /// The entries by time, in nanoseconds; among them some whose call was answered since.
    times: BinaryHeap<Reverse<Due>>,
    hosts: Slab<HostEntry>,
    /// How many entries there have been.
    turns: u32,
}

/// A call that waits; or whose host has been asked, and has not decided yet.
struct Entry {
    id: CallId,
    host: u32,
    /// Zero once its host was asked.
    turn: u32,
}

/// When an entry is due. The turn tells it from others that had its place before and will have it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    place: u32,
    turn: u32,
}

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

/// A place in a slab, as it is written.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// The same, as it is looked up.
const fn wide(place: u32) -> usize {
    place as usize
}

impl Table {
    /// Takes out the entry of a call.
    fn remove(&mut self, id: CallId) -> bool {
        let entries = &self.entries;
        let id_at = |place| entries.get(wide(place)).map(|entry| entry.id);
        let Some(place) = self.index.remove(id, id_at) else {
            return false;
        };
        let Some(entry) = self.entries.try_remove(wide(place)) else {
            return false;
        };
        if let Some(host_entry) = self.hosts.get_mut(wide(entry.host)) {
            host_entry.waiting -= 1;
            if host_entry.waiting == 0 {
                host_entry.mailbox = None;
            }
        }
        self.tidy_up();
        true
    }

    fn insert(&mut self, id: CallId, at: u64, host: u32) {
        self.turns = self.turns.wrapping_add(1).max(1);
        let turn = self.turns;
        let place = narrow(self.entries.insert(Entry { id, host, turn }));
        let entries = &self.entries;
        let id_at = |place| entries.get(wide(place)).map(|entry| entry.id);
        self.index.insert(id, place, id_at);
        self.times.push(Reverse(Due { at, place, turn }));
    }

    /// The entry of a call.
    fn entry_of(&self, id: CallId) -> Option<&Entry> {
        let id_at = |place| self.entries.get(wide(place)).map(|entry| entry.id);
        let place = self.index.find(id, id_at)?;
        self.entries.get(wide(place))
    }

    /// The call that is due, whose host is to be asked, and that host; unless it was answered.
    fn next_due(&mut self, Due { place, turn, .. }: Due) -> Option<(CallId, u32)> {
        let entry = self.entries.get_mut(wide(place))?;
        if entry.turn != turn {
            return None;
        }
        entry.turn = 0;
        Some((entry.id, entry.host))
    }

    /// Forgets the times of calls that were answered, once they are more than the others.
    fn tidy_up(&mut self) {
        if self.times.len() > 64 && self.times.len() / 2 > self.entries.len() {
            let entries = &self.entries;
            self.times.retain(|Reverse(due)| {
                let entry = entries.get(wide(due.place));
                entry.is_some_and(|entry| entry.turn == due.turn)
            });
            self.times.shrink_to(64);
        }
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = Slab::new();
        }
    }
}

impl Deadlines {
    /// Makes an empty table whose times count from then.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self(Rc::new(Shared {
            epoch,
            table: RefCell::default(),
            earlier: Notify::new(),
        }))
    }

    /// How many calls have a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.table.borrow().entries.len()
    }

    /// Whether no call has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many hosts have a place in the table.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.0.table.borrow().hosts.len()
    }

    /// Gives a host its place in the table.
    pub(crate) fn handle(&self) -> DeadlineHandle {
        let host = narrow(self.0.table.borrow_mut().hosts.insert(HostEntry::default()));
        DeadlineHandle {
            deadlines: self.clone(),
            host,
        }
    }

    /// Strikes out a call that was answered.
    pub(crate) fn answered(&self, id: CallId) {
        let mut table = self.0.table.borrow_mut();
        if !table.entries.is_empty() {
            table.remove(id);
        }
    }

    /// Whether the call that is to expire waits still, asked once by its host.
    pub(crate) fn decide(&self, id: CallId) -> bool {
        self.0.table.borrow_mut().remove(id)
    }

    /// Whether the call that is to be withdrawn has expired, be it that its host was not asked yet:
    /// the table may have had no turn since. Then it is decided.
    pub(crate) fn decide_overdue(&self, id: CallId) -> bool {
        if self.0.table.borrow().entries.is_empty() {
            return false;
        }
        self.ask_due();
        let mut table = self.0.table.borrow_mut();
        table.entry_of(id).is_some_and(|entry| entry.turn == 0) && table.remove(id)
    }

    /// Asks hosts to expire calls, each at its time, for ever.
    pub async fn run(self) {
        loop {
            let earliest = self.ask_due();
            let earlier = self.0.earlier.notified();
            match earliest {
                Some(at) => {
                    let _ = time::timeout_at(at, earlier).await;
                }
                None => earlier.await,
            }
        }
    }

    /// Asks the hosts of all calls that are due, and returns when the next one is.
    fn ask_due(&self) -> Option<Instant> {
        let now = self.nanos_at(Instant::now());
        let mut table = self.0.table.borrow_mut();
        loop {
            let at = table.times.peek()?.0.at;
            if at > now {
                return Some(self.0.epoch + Duration::from_nanos(at));
            }
            let Reverse(due) = table.times.pop()?;
            let asked = table.next_due(due);
            if let Some((id, host)) = asked
                && let Some(host_entry) = table.hosts.get(wide(host))
                && let Some(mailbox) = &host_entry.mailbox
            {
                mailbox.do_send(Inputs::one(Duration::from_nanos(now), Input::Expire(id)));
            }
        }
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl DeadlineHandle {
    /// Enters a call that is to be expired once `timeout` is over. One too long to be counted
    /// never ends.
    pub(crate) fn enter(&self, id: CallId, timeout: Duration, mailbox: impl FnOnce() -> Mailbox) {
        let Some(at) = Instant::now().checked_add(timeout) else {
            return;
        };
        let at = self.deadlines.nanos_at(at);
        let mut table = self.deadlines.0.table.borrow_mut();
        let Some(host_entry) = table.hosts.get_mut(wide(self.host)) else {
            return;
        };
        host_entry.waiting += 1;
        host_entry.mailbox.get_or_insert_with(mailbox);
        let earliest = table.times.peek().is_none_or(|Reverse(due)| at < due.at);
        table.insert(id, at, self.host);
        if earliest {
            self.deadlines.0.earlier.notify_one();
        }
    }
}

impl Drop for DeadlineHandle {
    fn drop(&mut self) {
        // No call waits at a host that is dropped: the table would have kept it.
        self.deadlines
            .0
            .table
            .borrow_mut()
            .hosts
            .try_remove(wide(self.host));
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadlines")
            .field(&self.0.table.borrow().entries.len())
            .finish()
    }
}

//! One ordered table of deadlines an arbiter: the only file with timers.
//!
//! A timer of its own for every waiting call would make each later message to its actor slower;
//! here a deadline costs two tree entries, and one task sleeps until the earliest.
//!
//! Invariant: a deadline only asks. Its host decides, in a turn of its own, whether the call was
//! answered before; so a call gets its answer or a timeout, never both.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time};

use crate::{CallId, Input, Inputs, Mailbox};

/// The deadlines of all calls that wait on this arbiter. A handle: clones share the table.
#[derive(Clone)]
pub struct Deadlines(Rc<Shared>);

struct Shared {
    table: RefCell<Table>,
    /// Told when a deadline is entered that is earlier than all others.
    earlier: Notify,
}

#[derive(Default)]
struct Table {
    by_time: BTreeMap<(Instant, CallId), Mailbox>,
    /// Also the calls whose host has been asked and has not decided yet.
    by_call: HashMap<CallId, Instant>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadlines {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Shared {
            table: RefCell::default(),
            earlier: Notify::new(),
        }))
    }

    /// Enters a call that is to be expired once `timeout` is over. One too long to be counted
    /// never ends.
    pub(crate) fn enter(&self, id: CallId, timeout: Duration, mailbox: Mailbox) {
        let Some(at) = Instant::now().checked_add(timeout) else {
            return;
        };
        let mut table = self.0.table.borrow_mut();
        let earliest = table
            .by_time
            .first_key_value()
            .is_none_or(|((first, _), _)| at < *first);
        table.by_time.insert((at, id), mailbox);
        table.by_call.insert(id, at);
        if earliest {
            self.0.earlier.notify_one();
        }
    }

    /// Strikes out a call that was answered.
    pub(crate) fn answered(&self, id: CallId) {
        let mut table = self.0.table.borrow_mut();
        if table.by_call.is_empty() {
            return;
        }
        if let Some(at) = table.by_call.remove(&id) {
            table.by_time.remove(&(at, id));
        }
    }

    /// Whether the call that is to expire waits still, asked once by its host.
    pub(crate) fn decide(&self, id: CallId) -> bool {
        self.0.table.borrow_mut().by_call.remove(&id).is_some()
    }

    /// Asks hosts to expire calls, each at its time, for ever.
    pub async fn run(self) {
        loop {
            let earliest = self.ask_due(Instant::now());
            let earlier = self.0.earlier.notified();
            match earliest {
                Some(at) => {
                    let _ = time::timeout_at(at.into(), earlier).await;
                }
                None => earlier.await,
            }
        }
    }

    /// Asks the hosts of all calls that are due, and returns when the next one is.
    fn ask_due(&self, now: Instant) -> Option<Instant> {
        let mut table = self.0.table.borrow_mut();
        loop {
            let entry = table.by_time.first_entry()?;
            let (at, id) = *entry.key();
            if at > now {
                return Some(at);
            }
            entry.remove().do_send(Inputs::One(Input::Expire(id)));
        }
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadlines")
            .field(&self.0.table.borrow().by_call.len())
            .finish()
    }
}

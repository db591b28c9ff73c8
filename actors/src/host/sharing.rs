//! `Sharing`: the sessions of one client at a shard, which share one part of the manager's limits.
//!
//! What each session holds and waits for is counted by session, because each call would pay for another count. It is
//! added up only while the limits are tight, and not more often than the sum costs little.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
    time::Duration,
};

use lockkeeper_protocol::SessionId;

use crate::kind::budget::CALL_BYTES;

/// The sessions of one client, and what they use together.
#[derive(Default)]
pub struct Sharing {
    sessions: RefCell<BTreeSet<SessionId>>,
    /// The bytes of the objects that the sessions have opened and created.
    opened: Cell<usize>,
    sum: Cell<Option<Sum>>,
}

/// The bytes of all sessions at a time.
#[derive(Clone, Copy)]
struct Sum {
    at: Duration,
    bytes: usize,
}

/// The time for which the sum of as many sessions is used: some twenty times as long as it takes to add up one.
const TIME_OF_EACH: Duration = Duration::from_micros(1);

/// The most sessions whose sum is made anew each time.
const FEW: usize = 16;

impl Sharing {
    pub(super) fn enter(&self, session: SessionId) {
        self.sessions.borrow_mut().insert(session);
        self.sum.set(None);
    }

    pub(super) fn leave(&self, session: SessionId) {
        self.sessions.borrow_mut().remove(&session);
        self.sum.set(None);
    }

    /// The sum of the bytes of all sessions. Each request is made for a call, which the sum may not contain.
    pub(super) fn sum(&self, now: Duration, bytes_of: impl Fn(SessionId) -> usize) -> usize {
        let sessions = self.sessions.borrow();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let fresh = |sum: &Sum| now.saturating_sub(sum.at) < TIME_OF_EACH.saturating_mul(count);
        let known = self.sum.get().filter(fresh);
        let known = known.filter(|_| sessions.len() > FEW);
        let sum = match known {
            Some(Sum { at, bytes }) => Sum {
                at,
                bytes: bytes.saturating_add(CALL_BYTES),
            },
            None => Sum {
                at: now,
                bytes: sessions
                    .iter()
                    .fold(0, |sum, session| sum.saturating_add(bytes_of(*session))),
            },
        };
        self.sum.set(Some(sum));
        sum.bytes
    }

    /// Returns the bytes of the objects that all sessions have open.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.get()
    }

    /// Counts the bytes of an object that a session has opened.
    pub fn open(&self, bytes: usize) {
        self.opened.set(self.opened.get().saturating_add(bytes));
    }

    /// Stops counting bytes of objects.
    pub fn close(&self, bytes: usize) {
        self.opened.set(self.opened.get().saturating_sub(bytes));
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing")
            .field("sessions", &self.sessions.borrow().len())
            .field("opened", &self.opened.get())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_many_sessions_is_made_seldom_and_never_too_low() {
        for sessions in [1, 10, 100, 1_000] {
            let sharing = Sharing::default();
            (0..sessions).for_each(|number| sharing.enter(SessionId::new(number)));
            let (asked, calls) = (Cell::new(0_u64), Cell::new(0));
            let bytes_of = |session: SessionId| {
                asked.set(asked.get() + 1);
                let first = usize::from(session.number() == 0);
                first * calls.get() * CALL_BYTES
            };
            // Each request is for one more call, and 1,000 of them come in a tenth of a millisecond.
            for call in 1..=1_000_u32 {
                calls.set(usize::try_from(call).expect("a small number"));
                let sum = sharing.sum(Duration::from_nanos(100) * call, bytes_of);
                assert!(sum >= calls.get() * CALL_BYTES, "{sessions}: {sum}");
            }
            assert!(asked.get() <= 10_000 + sessions, "{sessions}: {asked:?}");
        }
    }
}

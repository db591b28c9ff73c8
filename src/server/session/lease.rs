//! The leases of sessions over a network: the time for which a client may be silent, and detached sessions.
//!
//! The end of a stream over a network does not prove that the client has noticed it. So the session keeps what
//! it holds until the lease has passed since the last bytes of the client; the client has given up by then,
//! because its own lease is shorter. A client that begins a new session names its former one, which then ends
//! at once.
//!
//! Invariant: a lease ends only after the stream was found to be empty, so a manager that was stopped ends no
//! session whose client has sent something since.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use lockkeeper_protocol::SessionId;
use tokio::time::{self, Sleep};

use crate::server::session::{
    context::{Context, End},
    lease_rule::LeaseRule,
    leased::{By, Entry},
};

/// A timer that is late by more than this fraction of the lease shows that the manager was stopped.
const LATE: u32 = 5;

/// The lease of a session. Times are those of the shard's clock.
pub(crate) struct Lease {
    length: Duration,
    frees_on_close: bool,
    /// When the client last sent something.
    last: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the timer is due.
    due: Duration,
    entry: Entry,
}

impl Lease {
    /// Begins the lease of a session, and lists it among those that have one.
    pub(crate) fn begin(rule: LeaseRule, id: SessionId, context: &Context) -> Self {
        let now = context.shell.now();
        let length = rule.length;
        Self {
            length,
            frees_on_close: rule.frees_on_close,
            last: now,
            timer: Box::pin(time::sleep(length)),
            due: now + length,
            entry: context.leased.enter(id),
        }
    }

    /// Renews the lease, because the client has sent something.
    pub(super) const fn renew(&mut self, now: Duration) {
        self.last = now;
    }

    /// Returns the end that another session or the manager has requested. Without one, the task is woken when
    /// one is requested.
    pub(super) fn requested(&self, task: &task::Context<'_>) -> Option<End> {
        self.entry.requested(task).map(|by| match by {
            By::Successor => End::Replaced,
            By::Manager => End::WithManager,
        })
    }

    /// Returns the end of the session if its lease has ended or a later session replaces it. Otherwise the task
    /// is woken to check again. The stream has no bytes to read.
    pub(super) fn poll_end(&mut self, now: Duration, task: &mut task::Context<'_>) -> Poll<End> {
        if let Some(end) = self.requested(task) {
            return Poll::Ready(end);
        }
        loop {
            ready!(self.timer.as_mut().poll(task));
            if now.saturating_sub(self.due) > self.length / LATE {
                // Frames that the client has sent meanwhile may still be in flight.
                self.renew(now);
            }
            let end = self.last + self.length;
            if end <= now {
                let length = self.length;
                let why = format!(
                    "its lease has ended: nothing came from it for {length:?}, because the network failed or the \
                     client was stopped"
                );
                return Poll::Ready(End::Lapsed(why));
            }
            self.timer.set(time::sleep(end - now));
            self.due = end;
        }
    }

    /// Returns whether the client may be unaware of the end of its session, so that its holds last as long as the lease.
    pub(super) const fn outlasts(&self, end: &End) -> bool {
        match end {
            End::Left | End::LeftUnread => !self.frees_on_close,
            End::Offence(_) | End::WithManager => true,
            End::Goodbye | End::Replaced | End::Lapsed(_) => false,
        }
    }

    /// The length of the lease: the longest time that the session lasts without a frame.
    pub(super) const fn length(&self) -> Duration {
        self.length
    }

    /// Records that the session begins to serve its client, whose hello has arrived.
    pub(super) const fn welcome(&mut self, now: Duration) {
        self.entry.note(true);
        self.renew(now);
    }

    /// Records that the session ends regularly, so its client has given up what it held.
    pub(super) const fn end(&mut self) {
        self.entry.note(false);
    }
}

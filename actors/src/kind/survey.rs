//! `Survey`: the holders and the waiters of an object at one moment, in order.
//!
//! `inspect` prints surveys, and the search for deadlocks builds its graph from them. A survey contains only
//! session ids; the manager adds object names and processes. It is built on request.

use std::time::Duration;

use lockkeeper_protocol::{CallId, Fence};

use crate::kind::call::Call;

/// The report of a kind about an object: one part, or one for each key of a keyed kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The state in a few words, such as `2 of 4 permits free`.
    pub state: String,
    /// The parts of the object that can be held.
    pub parts: Vec<Part>,
}

/// A part of an object that calls hold and wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The key of the part, if the object has several, as a keyed lock does.
    pub key: Option<String>,
    /// The number of units: 1 for a lock, the permits of a semaphore. `None` if the part has no holders, as
    /// an event.
    pub units: Option<u64>,
    /// The calls that hold units.
    pub holders: Vec<Holding>,
    /// The calls that wait for units, in the order in which they are granted.
    pub waiters: Vec<Waiting>,
    /// The number of holders that are not listed.
    pub more_holders: u64,
    /// The number of waiters behind those that are listed.
    pub more_waiters: u64,
}

/// A call that was granted units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The call that was granted.
    pub call: CallId,
    /// The number of units that it holds: a writer all, a nested entry none.
    pub units: u64,
    /// How it holds them, such as `read`; empty if there is only one way.
    pub mode: &'static str,
    /// The start of the hold, since the manager's start.
    pub since: Duration,
    /// The fence of the grant, if the kind draws one.
    pub fence: Option<Fence>,
}

/// A call that waits for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The call that waits.
    pub call: CallId,
    /// The number of units that it wants in addition to those that it holds.
    pub units: u64,
    /// How it wants them, or what it waits for.
    pub mode: &'static str,
    /// The start of the wait, since the manager's start: see [`Call::arrived`](crate::Call::arrived).
    pub since: Duration,
}

impl Survey {
    /// The most holders, waiters and parts that a kind lists, so that the turn of a survey is short. The
    /// others are only counted.
    pub const MOST: usize = 10_000;

    /// Returns how many of `count` are not listed.
    #[must_use]
    pub fn beyond(count: usize) -> u64 {
        let more = count.saturating_sub(Self::MOST);
        more.try_into().unwrap_or(u64::MAX)
    }

    /// All calls that hold or wait.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallId> {
        self.parts.iter().flat_map(|part| {
            let holders = part.holders.iter().map(|holder| holder.call);
            holders.chain(part.waiters.iter().map(|waiter| waiter.call))
        })
    }

    /// Returns whether a call waits and is listed.
    pub(crate) fn has_waiter(&self, id: CallId) -> bool {
        let mut waiters = self.parts.iter().flat_map(|part| &part.waiters);
        waiters.any(|waiter| waiter.call == id)
    }

    /// Returns whether any call waits.
    pub(crate) fn is_crowded(&self) -> bool {
        self.parts.iter().any(|part| !part.waiters.is_empty())
    }
}

impl Part {
    /// Creates a part without holders, with the calls that wait for it and their number.
    #[must_use]
    pub fn awaited(
        key: Option<&str>,
        count: usize,
        waiters: impl IntoIterator<Item = Waiting>,
    ) -> Self {
        Self {
            key: key.map(str::to_owned),
            waiters: waiters.into_iter().take(Survey::MOST).collect(),
            more_waiters: Survey::beyond(count),
            ..Self::default()
        }
    }
}

impl Waiting {
    /// Creates the entry of a call that waits for units.
    #[must_use]
    pub const fn new<R>(call: &Call<R>, units: u64, mode: &'static str) -> Self {
        Self {
            call: call.id(),
            units,
            mode,
            since: call.arrived(),
        }
    }
}

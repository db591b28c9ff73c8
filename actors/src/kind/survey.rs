//! `Survey`: the holders and the waiters of an object at one moment, in order.
//!
//! `inspect` prints surveys, and the search for deadlocks builds its graph from them. A survey has
//! session ids only; the manager adds object names and processes. It is built on request.

use std::time::Duration;

use lockkeeper_protocol::{CallId, Fence};

use crate::kind::call::Call;

/// What a kind tells of an object: one part, or one for each key of a keyed kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The state in a few words, such as `2 of 4 permits free`.
    pub state: String,
    /// What can be held of it.
    pub parts: Vec<Part>,
}

/// Something that is held and waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Which one, where an object has several: the key of a keyed lock.
    pub key: Option<String>,
    /// How many units there are in all: 1 for a lock, the permits of a semaphore. `None` where
    /// what is waited for has no holder, as at an event.
    pub units: Option<u64>,
    /// Who holds units.
    pub holders: Vec<Holding>,
    /// Who waits for units, in the order in which they will be granted.
    pub waiters: Vec<Waiting>,
    /// How many hold units beside those that are listed.
    pub more_holders: u64,
    /// How many wait behind those that are listed.
    pub more_waiters: u64,
}

/// A call that was granted units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The call that was granted.
    pub call: CallId,
    /// How many units it holds: a writer all, and who enters again none.
    pub units: u64,
    /// How it holds them, such as `read`; nothing where there is one way only.
    pub mode: &'static str,
    /// Since when, counted from the manager's start.
    pub since: Duration,
    /// The token of the grant, where the kind draws one.
    pub fence: Option<Fence>,
}

/// A call that waits for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The call.
    pub call: CallId,
    /// How many units it wants beside those that it holds.
    pub units: u64,
    /// How it wants them, or what it waits for.
    pub mode: &'static str,
    /// Since when, counted from the manager's start: see [`Call::since`](crate::Call::since).
    pub since: Duration,
}

impl Survey {
    /// A kind lists so many holders and so many waiters at the most, and so many parts: a survey is one turn,
    /// which must not be long. Of the others it tells how many there are.
    pub const MOST: usize = 10_000;

    /// How many of a number are not listed.
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

    /// Whether a call waits, and is listed.
    pub(crate) fn has_waiter(&self, id: CallId) -> bool {
        let mut waiters = self.parts.iter().flat_map(|part| &part.waiters);
        waiters.any(|waiter| waiter.call == id)
    }

    /// Whether any call waits.
    pub(crate) fn is_crowded(&self) -> bool {
        self.parts.iter().any(|part| !part.waiters.is_empty())
    }
}

impl Part {
    /// A part without holders, with the calls that wait for it, and how many they are.
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
    /// A call that waits for units.
    #[must_use]
    pub const fn new<R>(call: &Call<R>, units: u64, mode: &'static str) -> Self {
        Self {
            call: call.id(),
            units,
            mode,
            since: call.since(),
        }
    }
}

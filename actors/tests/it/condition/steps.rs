//! The steps of a few callers of a condition, and where each of their calls is.
//!
//! Invariant: a step and a place name no more than a promise does; grants are not predicted.

use lockkeeper_actors::{CallId, sync::Wake};

/// What happens next. A call is named by its place in the ledger, where calls stand as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Which session.
    Acquire(u64, Patience),
    Sleep(usize, Set, Patience),
    NotifyOne(usize, Set),
    NotifyAll(usize, Set),
    Release(usize),
    /// Which session takes the hold of which call.
    Adopt(u64, usize),
    Withdraw(usize),
    HangUp(u64),
    /// All deadlines pass.
    Tick,
    ForceUnlock,
    /// Calls that are not inside are used as if they were.
    Misuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Patience {
    Endless,
    UntilTick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Unnamed,
    Named,
}

impl Set {
    pub(crate) const ALL: [Self; 2] = [Self::Unnamed, Self::Named];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Unnamed => String::new(),
            Self::Named => "not full".to_owned(),
        }
    }
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Asleep(Set),
    /// What it was woken by, if it slept.
    InLine(Option<Wake>),
    Inside,
    Over,
}

/// A call that waits, or has waited, for the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: CallId,
    pub(crate) place: Place,
    /// The set of the counted notification that it was woken by and has not used.
    pub(crate) carries: Option<Set>,
    /// Whether a deadline of it is to come.
    pub(crate) patience: Patience,
    pub(crate) asks_for: AsksFor,
    /// How often it must have been answered.
    pub(crate) answers: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AsksFor {
    Lock,
    Sleep,
    Hold,
}

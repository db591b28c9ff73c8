//! The steps of a few callers of a condition, and the states of their calls.
//!
//! Invariant: a step does not predict its grants.

use lockkeeper_actors::{CallId, sync::Wake};

/// A step of a schedule. A call is identified by its index in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The session acquires.
    Acquire(u64, Patience),
    Sleep(usize, Set, Patience),
    NotifyOne(usize, Set),
    NotifyAll(usize, Set),
    Release(usize),
    /// The session adopts the hold of the call.
    Adopt(u64, usize),
    Withdraw(usize),
    HangUp(u64),
    /// All deadlines pass.
    Tick,
    ForceUnlock,
    /// Calls without a hold are used as if they had one.
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

/// The state of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Asleep(Set),
    /// What woke it, if it slept.
    InLine(Option<Wake>),
    Inside,
    Over,
}

/// A call that waits or waited for the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: CallId,
    pub(crate) place: Place,
    /// The set of the counted notification that woke the call and that it has not used.
    pub(crate) carries: Option<Set>,
    /// Whether it has a deadline in the future.
    pub(crate) patience: Patience,
    pub(crate) asks_for: AsksFor,
    /// The expected number of answers.
    pub(crate) answers: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AsksFor {
    Lock,
    Sleep,
    Hold,
}

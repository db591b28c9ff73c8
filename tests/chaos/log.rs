//! The log lines of barrier calls, before and after each call.

use std::{
    fmt, process,
    str::{FromStr, SplitWhitespace},
    sync::atomic::{AtomicU64, Ordering},
};

/// One call at a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Arrival {
    pub(crate) pid: u32,
    serial: u64,
}

impl Arrival {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Self {
            pid: process::id(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// One line of a barrier's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An event of a call.
    Call(Arrival, Event),
    /// The barrier has noticed that the process with this id is dead.
    KnownDead(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The call begins.
    Begins,
    /// The party has run the action.
    HasActed,
    /// The call has passed the barrier.
    Passed {
        generation: u64,
        index: u32,
        is_leader: bool,
    },
    /// The call was refused.
    Failed,
    /// The call was dropped, and the manager has processed this: it has answered a later call of
    /// the same process.
    Dropped,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Arrival { pid, serial }, event) = match self {
            Self::KnownDead(pid) => return write!(f, "{pid} buried"),
            Self::Call(arrival, event) => (arrival, event),
        };
        write!(f, "{pid} {serial} ")?;
        match event {
            Event::Begins => f.write_str("comes"),
            Event::HasActed => f.write_str("acted"),
            Event::Passed {
                generation,
                index,
                is_leader,
            } => write!(f, "passed {generation} {index} {is_leader}"),
            Event::Failed => f.write_str("failed"),
            Event::Dropped => f.write_str("dropped"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        parse(&mut words).ok_or_else(|| format!("not a log line: {line:?}"))
    }
}

fn parse(words: &mut SplitWhitespace<'_>) -> Option<Line> {
    let pid = next(words)?;
    let serial = match words.next()? {
        "buried" => return Some(Line::KnownDead(pid)),
        serial => serial.parse().ok()?,
    };
    let arrival = Arrival { pid, serial };
    let event = match words.next()? {
        "comes" => Event::Begins,
        "acted" => Event::HasActed,
        "passed" => Event::Passed {
            generation: next(words)?,
            index: next(words)?,
            is_leader: next(words)?,
        },
        "failed" => Event::Failed,
        "dropped" => Event::Dropped,
        _ => return None,
    };
    Some(Line::Call(arrival, event))
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

//! `Deadlock`: callers that wait for one another, as data and as text.
//!
//! This module does not search for deadlocks; it defines the report that a manager attaches to the
//! [`Fault`](crate::Fault) of a call.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ids::Fence, peer::Peer, printable::Printable};

/// Callers that wait for one another. None of them can proceed unless one gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Deadlock {
    /// The callers, at most 64. The first one began to wait last. In a simple cycle each caller is followed
    /// by the one that it waits for.
    pub members: Vec<Caller>,
    /// The total number of callers, including those that are not listed.
    pub size: u64,
}

/// A caller in a deadlock: a task or a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Caller {
    /// The process of the caller.
    pub process: Peer,
    /// The number of the caller within the session of its process.
    pub caller: u64,
    /// The holds that other callers of the deadlock wait for, at most 64.
    pub holds: Vec<Claim>,
    /// The waits of the caller, at most 64. There are several if branches of it wait concurrently.
    pub waits: Vec<WaitsFor>,
}

/// A hold of one object, or a request for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claim {
    /// The kind of the object.
    pub kind: String,
    /// The name of the object in the manager. The name of an anonymous object begins with `#`.
    pub name: String,
    /// The key of the part, if the object has several parts, as a keyed lock does.
    pub key: Option<String>,
    /// How it is held or wanted, such as `read`; empty if there is only one way.
    pub mode: String,
    /// The number of units: the permits of a semaphore, 1 for a lock.
    pub units: u64,
    /// The duration of the hold or the wait so far.
    pub elapsed: Duration,
    /// The fence of the grant, if it is held.
    pub fence: Option<Fence>,
}

/// A wait of a caller, and the callers that block it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitsFor {
    /// The request.
    pub wants: Claim,
    /// The indices in [`Deadlock::members`] of the callers that hold it.
    pub held_by: Vec<u64>,
    /// The index in [`Deadlock::members`] of the caller directly before it in the queue of waiters.
    pub behind: Option<u64>,
}

impl Deadlock {
    /// The most callers that a report lists.
    pub const MOST_MEMBERS: usize = 64;

    /// Creates a report of `size` callers, which lists the first of `members`.
    #[must_use]
    pub fn new(mut members: Vec<Caller>, size: u64) -> Self {
        members.truncate(Self::MOST_MEMBERS);
        Self { members, size }
    }
}

impl Caller {
    /// Creates a caller with its holds and waits.
    #[must_use]
    pub const fn new(process: Peer, caller: u64, holds: Vec<Claim>, waits: Vec<WaitsFor>) -> Self {
        Self {
            process,
            caller,
            holds,
            waits,
        }
    }
}

impl Claim {
    /// Creates a claim to an object, with its duration so far.
    #[must_use]
    pub const fn new(kind: String, name: String, units: u64, elapsed: Duration) -> Self {
        Self {
            kind,
            name,
            key: None,
            mode: String::new(),
            units,
            elapsed,
            fence: None,
        }
    }
}

impl WaitsFor {
    /// Creates a wait, with the indices of the members that hold it or wait before it.
    #[must_use]
    pub const fn new(wants: Claim, held_by: Vec<u64>, behind: Option<u64>) -> Self {
        Self {
            wants,
            held_by,
            behind,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            elapsed,
            ..
        } = self;
        if self.units > 1 && self.units < u64::MAX {
            write!(f, "{} of ", self.units)?;
        }
        write!(f, "{} {name:?}", Printable(kind))?;
        if let Some(key) = &self.key {
            write!(f, " [{key:?}]")?;
        }
        if !self.mode.is_empty() {
            write!(f, " ({})", Printable(&self.mode))?;
        }
        write!(f, " for {elapsed:.1?}")
    }
}

/// Writes a list in words: `a, b and c`.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, things: &[T]) -> fmt::Result {
    for (place, thing) in things.iter().enumerate() {
        match place {
            0 => {}
            _ if place + 1 == things.len() => f.write_str(" and ")?,
            _ => f.write_str(", ")?,
        }
        thing.fmt(f)?;
    }
    Ok(())
}

impl Caller {
    /// The process and the number of the caller, which distinguishes callers of one process.
    fn name(&self) -> String {
        format!("{}, caller {}", self.process, self.caller)
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock of {}", self.size)?;
        for (place, caller) in self.members.iter().enumerate() {
            f.write_str(if place == 0 { ": " } else { "; " })?;
            f.write_str(&caller.name())?;
            if !caller.holds.is_empty() {
                f.write_str(" holds ")?;
                list(f, &caller.holds)?;
                f.write_str(" and")?;
            }
            for (place, wait) in caller.waits.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { " and" })?;
                self.tell_wait(f, wait)?;
            }
        }
        let listed = self.members.len().try_into().unwrap_or(u64::MAX);
        let untold = self.size.saturating_sub(listed);
        if untold > 0 {
            write!(f, "; and {untold} more")?;
        }
        Ok(())
    }
}

impl Deadlock {
    fn tell_wait(&self, f: &mut fmt::Formatter<'_>, wait: &WaitsFor) -> fmt::Result {
        write!(f, " waits for {}", wait.wants)?;
        let name = |place: &u64| {
            let caller = self.members.get(usize::try_from(*place).ok()?);
            caller.map(Caller::name)
        };
        let holders: Vec<String> = wait.held_by.iter().filter_map(name).collect();
        if !holders.is_empty() {
            f.write_str(", held by ")?;
            list(f, &holders)?;
        }
        if let Some(before) = wait.behind.as_ref().and_then(name) {
            write!(f, ", behind {before}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, millis: u64) -> Claim {
        let elapsed = Duration::from_millis(millis);
        Claim::new("lock".to_owned(), name.to_owned(), 1, elapsed)
    }

    #[test]
    fn circle_is_told_in_words() {
        let ingest = Peer::new(12, "ingest", "third");
        let serve = Peer::new(14, "serve", "");
        let first = WaitsFor::new(claim("b", 1100), vec![1], None);
        let mut second = WaitsFor::new(claim("a", 1000), vec![0], Some(0));
        second.wants.key = Some("k".to_owned());
        (second.wants.mode, second.wants.units) = ("read".to_owned(), 2);
        let deadlock = Deadlock::new(
            vec![
                Caller::new(ingest, 3, vec![claim("a", 1200)], vec![first]),
                Caller::new(
                    serve,
                    0,
                    vec![claim("b", 900), claim("c", 10)],
                    vec![second],
                ),
            ],
            2,
        );
        assert_eq!(
            deadlock.to_string(),
            "deadlock of 2: process 12 (ingest, \"third\"), caller 3 holds lock \"a\" for 1.2s and \
             waits for lock \"b\" for 1.1s, held by process 14 (serve), caller 0; \
             process 14 (serve), caller 0 holds lock \"b\" for 900.0ms and lock \"c\" for 10.0ms and \
             waits for 2 of lock \"a\" [\"k\"] (read) for 1.0s, \
             held by process 12 (ingest, \"third\"), caller 3, \
             behind process 12 (ingest, \"third\"), caller 3"
        );
    }

    #[test]
    fn large_circle_lists_its_first_members_and_tells_how_many_there_are() {
        let member = |caller| Caller::new(Peer::new(1, "p", ""), caller, vec![], vec![]);
        let deadlock = Deadlock::new((0..100).map(member).collect(), 100);
        assert_eq!((deadlock.members.len(), deadlock.size), (64, 100));
        assert!(deadlock.to_string().ends_with("; and 36 more"));
    }
}

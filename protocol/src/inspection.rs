//! The result of an inspection: the objects of a manager with their holders and waiters, as data and as
//! a table.
//!
//! How a manager queries its objects is part of the manager, not of this module.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ids::Fence,
    peer::Peer,
    printable::{Printable, PrintableText},
};

/// The objects of a manager at one instant, with their holders and waiters.
///
/// Its `Display` is a table for people, without a newline at its end, with a line for each object and lines for its holders and waiters below:
///
/// | column | contents |
/// | --- | --- |
/// | `NAME`, `KIND` | the name, which begins with `#` if the object was made without one, and the kind |
/// | `STATE` | what the kind reports in a few words |
/// | `HELD` | the calls that hold something: a semaphore of which one call holds two permits has 1 |
/// | `WAITING` | the calls that wait now |
/// | `WAITED` | the calls that had to wait so far; `-` if none had to |
/// | `P50 / P99` | the median and the 99th percentile of the waits that ended with an answer |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.named("jobs").lock().await?;
/// let guard = lock.acquire().await?;
/// let snapshot = manager.inspect().await?;
/// let holder = &snapshot.objects[0].parts[0].holders[0];
/// assert_eq!(holder.process.pid, std::process::id());
/// assert_eq!(holder.fence, Some(guard.fence()));
/// println!("{snapshot}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The objects in the order of their creation. The objects of several shards are in the order of their
    /// numbers, which each shard assigns by itself.
    pub objects: Vec<ObjectInfo>,
    /// The number of instants that the snapshot describes: one for each shard, unless it is too large for one
    /// message. The manager serves no call between the reports of objects at the same instant.
    pub instants: u64,
}

/// An object at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// The name of the object in the manager. The name of an anonymous object begins with `#`.
    pub name: String,
    /// The kind of the object.
    pub kind: String,
    /// The state in a few words.
    pub state: String,
    /// The parts that can be held or waited for: one, or one for each key of a keyed kind. If there are more
    /// than 1,000 keys, those with waiters come first, and the last part counts all keys that are not listed:
    /// it has numbers, and no key.
    pub parts: Vec<PartInfo>,
    /// The statistics since a call first had to wait for the object.
    pub stats: Option<Stats>,
}

/// A part of an object that is held or waited for at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartInfo {
    /// The key of the part, if the object has several.
    pub key: Option<String>,
    /// The number of units: 1 for a lock, the permits of a semaphore. `None` if the part cannot be held, or
    /// if every client may add units.
    pub units: Option<u64>,
    /// The number of calls that hold units.
    pub held: u64,
    /// The number of calls that wait.
    pub waiting: u64,
    /// The holders, the longest hold first, at most 1,000 per object.
    pub holders: Vec<CallInfo>,
    /// The waiters in the order in which they are granted, at most 1,000 per object.
    pub waiters: Vec<CallInfo>,
}

/// A call that holds something or waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallInfo {
    /// The process of the call.
    pub process: Peer,
    /// The number of the calling task or thread in that process, if the manager requests it because it
    /// searches for deadlocks.
    pub caller: Option<u64>,
    /// The number of units that it holds or wants.
    pub units: u64,
    /// How it holds or wants them, such as `read`; empty if there is only one way.
    pub mode: String,
    /// The duration of the hold or the wait so far.
    pub elapsed: Duration,
    /// The fence of the grant, if the call holds.
    pub fence: Option<Fence>,
}

impl ObjectInfo {
    /// Returns the number of calls that hold units of the object.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.parts.iter().map(|part| part.held).sum()
    }

    /// Returns the number of calls that wait for the object.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.parts.iter().map(|part| part.waiting).sum()
    }
}

/// The titles of the table's columns.
const HEAD: [&str; 7] = [
    "NAME",
    "KIND",
    "STATE",
    "HELD",
    "WAITING",
    "WAITED",
    "P50 / P99",
];

/// The most calls of each sort that the table lists for a part.
const MOST_TOLD: usize = 5;

impl ObjectInfo {
    /// The cells as printed, so that a column is as wide as its widest cell.
    fn row(&self) -> [String; 7] {
        let stats = self.stats.as_ref();
        // A kind without a survey reports nothing about its objects, which differs from reporting no holders.
        let is_told = !self.state.is_empty() || !self.parts.is_empty();
        let told = |text: String| if is_told { text } else { "-".to_owned() };
        let times = stats
            .map(|stats| stats.waited)
            .filter(|times| times.count > 0);
        [
            Printable(&self.name).to_string(),
            Printable(&self.kind).to_string(),
            told(PrintableText(&self.state).to_string()),
            told(self.held().to_string()),
            told(self.waiting().to_string()),
            stats.map_or_else(|| "-".to_owned(), |stats| stats.waits.to_string()),
            times.map_or_else(
                || "-".to_owned(),
                |times| format!("{:.1?} / {:.1?}", times.p50, times.p99),
            ),
        ]
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, self.objects.iter())
    }
}

/// The same table as that of a [`Snapshot`], of one object.
impl fmt::Display for ObjectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, std::iter::once(self))
    }
}

fn table<'a>(
    f: &mut fmt::Formatter<'_>,
    objects: impl Iterator<Item = &'a ObjectInfo> + Clone,
) -> fmt::Result {
    let rows: Vec<_> = objects.clone().map(ObjectInfo::row).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        let head = HEAD.get(column).map_or(0, |head| head.len());
        widths.fold(head, usize::max)
    });
    line(f, &HEAD, &widths)?;
    for (object, row) in objects.zip(&rows) {
        writeln!(f)?;
        line(f, &row.each_ref().map(String::as_str), &widths)?;
        for part in &object.parts {
            part.tell(f, &object.kind)?;
        }
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[&str; 7], widths: &[usize; 7]) -> fmt::Result {
    let cells = cells.iter().zip(widths);
    let line: Vec<String> = cells
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    f.write_str(line.join("  ").trim_end())
}

impl PartInfo {
    /// Writes the holders and waiters, each in a line below that of the object.
    fn tell(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        let key = self.key.as_ref();
        let key = key.map_or_else(String::new, |key| format!(" [{key:?}]"));
        for (role, calls, count) in [
            (Role::Holder, &self.holders, self.held),
            (Role::Waiter, &self.waiters, self.waiting),
        ] {
            let verb = match role {
                Role::Holder => "holds",
                Role::Waiter => "waits",
            };
            for call in calls.iter().take(MOST_TOLD) {
                write!(f, "\n    {verb}{key} ")?;
                call.tell(f, words(kind, role, &call.mode))?;
            }
            let told = calls.len().min(MOST_TOLD);
            let untold = count.saturating_sub(told.try_into().unwrap_or(u64::MAX));
            if untold > 0 {
                write!(f, "\n    {verb}{key} {untold} more")?;
            }
        }
        Ok(())
    }
}

/// Whether a call of a [`PartInfo`] holds or waits.
#[derive(Clone, Copy, Debug)]
enum Role {
    Holder,
    Waiter,
}

/// The words for a mode of a built-in kind. A mode of any other kind stands for itself.
fn words<'a>(kind: &str, role: Role, mode: &'a str) -> &'a str {
    match (kind, role, mode) {
        ("rw_lock", Role::Holder, "read") => "as a reader",
        ("rw_lock", Role::Holder, "write") => "as the writer",
        ("rw_lock", Role::Waiter, "read") => "to read",
        ("rw_lock", Role::Waiter, "write") => "to write",
        ("queue", Role::Holder, "take") => "an item",
        ("queue", Role::Waiter, "put") => "to put",
        ("queue", Role::Waiter, "get") => "to get",
        ("queue", Role::Waiter, "join") => "until all items are done",
        ("event", Role::Waiter, "set") => "until it is set",
        ("latch", Role::Waiter, "open") => "until it is zero",
        ("value", Role::Waiter, "change") => "for a change",
        ("barrier", Role::Waiter, "others") => "for the other parties",
        ("barrier", Role::Holder, "action") => "in the action",
        (_, Role::Holder | Role::Waiter, other) => other,
    }
}

impl CallInfo {
    fn tell(&self, f: &mut fmt::Formatter<'_>, mode: &str) -> fmt::Result {
        write!(f, "{}", self.process)?;
        if let Some(caller) = self.caller {
            write!(f, ", caller {caller}")?;
        }
        write!(f, " for {:.1?}", self.elapsed)?;
        if self.units > 1 && self.units < u64::MAX {
            write!(f, ", {} units", self.units)?;
        }
        if !mode.is_empty() {
            write!(f, ", {}", Printable(mode))?;
        }
        if let Some(fence) = self.fence {
            write!(f, ", fence {fence}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CallInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, &self.mode)
    }
}

/// The statistics of an object since a call first had to wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Grants, for kinds that draw a fence for each.
    pub grants: u64,
    /// Calls that had to wait.
    pub waits: u64,
    /// Waits that ended with a timeout.
    pub timeouts: u64,
    /// Waits that the caller gave up or withdrew.
    pub cancellations: u64,
    /// Waits whose session ended, or whose object was removed.
    pub disconnections: u64,
    /// Waits that ended because of a deadlock.
    pub deadlocks: u64,
    /// Holds that ended with their session, and left a mark.
    pub abandonments: u64,
    /// The wait times of calls that were answered after a wait.
    pub waited: Times,
    /// The durations of the holds.
    pub held: Times,
}

/// A distribution of times. The minimum and the maximum are exact, the other values within 7 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Times {
    /// The number of times.
    pub count: u64,
    /// The shortest time.
    pub min: Duration,
    /// The mean time.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest time.
    pub max: Duration,
}

/// A question about the objects of a manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The objects with numbers above that one, as many as fit into a message.
    All(u64),
    /// Those of them that calls wait for.
    Contended(u64),
    /// The object with that name.
    Named(String),
    /// The deadlocks.
    Deadlocks,
}

/// A page of objects.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The objects, in the order of their numbers.
    pub objects: Vec<ObjectInfo>,
    /// The number to continue from, if there are more objects.
    pub next: Option<u64>,
    /// The numbers of the objects, if objects of several shards have to be sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pid: u32, units: u64, fence: Option<u64>) -> CallInfo {
        CallInfo {
            process: Peer::new(pid, "demo", ""),
            caller: None,
            units,
            mode: String::new(),
            elapsed: Duration::from_millis(1500),
            fence: fence.map(Fence::new),
        }
    }

    #[test]
    fn snapshot_is_a_table_with_columns_below_one_another() {
        let stats = Stats {
            waits: 31,
            ..Stats::default()
        };
        let mut waiter = call(7, 2, None);
        (waiter.caller, waiter.mode) = (Some(3), "read".to_owned());
        let locks = ObjectInfo {
            name: "jobs".to_owned(),
            kind: "lock".to_owned(),
            state: "held".to_owned(),
            parts: vec![PartInfo {
                key: Some("k".to_owned()),
                units: Some(1),
                held: 1,
                waiting: 8,
                holders: vec![call(4711, 1, Some(12))],
                waiters: vec![waiter; 6],
            }],
            stats: Some(stats),
        };
        let event = ObjectInfo {
            name: "\u{e9}t\u{e9}".to_owned(),
            kind: "event".to_owned(),
            state: "not set, generation 0".to_owned(),
            ..ObjectInfo::default()
        };
        let snapshot = Snapshot {
            objects: vec![locks, event],
            instants: 1,
        };
        let waits = "    waits [\"k\"] process 7 (demo), caller 3 for 1.5s, 2 units, read\n";
        let expected = [
            "NAME  KIND   STATE                  HELD  WAITING  WAITED  P50 / P99\n",
            "jobs  lock   held                   1     8        31      -\n",
            "    holds [\"k\"] process 4711 (demo) for 1.5s, fence 12\n",
            &waits.repeat(5),
            "    waits [\"k\"] 3 more\n",
            "\u{e9}t\u{e9}   event  not set, generation 0  0     0        -       -",
        ];
        assert_eq!(snapshot.to_string(), expected.concat());
        let alone = snapshot.objects[1].to_string();
        assert!(alone.starts_with("NAME  KIND   STATE "), "{alone}");
    }

    #[test]
    fn modes_of_built_in_kinds_have_words_for_holders_and_for_waiters_and_other_kinds_have_their_own()
     {
        let told = |kind: &str, mode: &str| {
            let mut call = call(7, 1, None);
            call.mode = mode.to_owned();
            let (holders, waiters) = (vec![call.clone()], vec![call]);
            let object = ObjectInfo {
                kind: kind.to_owned(),
                parts: vec![PartInfo {
                    holders,
                    waiters,
                    ..PartInfo::default()
                }],
                ..ObjectInfo::default()
            };
            let told = object.to_string();
            let words = told
                .lines()
                .filter_map(|line| Some(line.rsplit_once(", ")?.1));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told("rw_lock", "read"), ["as a reader", "to read"]);
        assert_eq!(told("rw_lock", "upgradable"), ["upgradable"; 2]);
        assert_eq!(told("latch", "open"), ["open", "until it is zero"]);
        for mode in ["open", "set", "join", "read"] {
            assert_eq!(told("demo.door", mode), [mode; 2]);
        }
    }
}

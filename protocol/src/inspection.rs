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

/// The objects of a manager at one moment: who holds each of them, and who waits.
///
/// Its `Display` is a table for people.
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
    /// The objects, in the order in which they were made; those of several shards in the order of
    /// their numbers, which each shard counts up by itself.
    pub objects: Vec<ObjectInfo>,
    /// Of how many moments it is: one for each shard, unless it is too large for one message. Objects
    /// that are of one moment have been looked at with no call served between.
    pub moments: u64,
}

/// An object at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name with the manager. That of an anonymous one begins with `#`.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its state in a few words.
    pub state: String,
    /// What can be held or waited for: one part, or one for each key of a keyed kind. Of more than 1,000
    /// keys, those with waiters come first, and the last part is all that are not told: it has numbers, and
    /// no key.
    pub parts: Vec<PartInfo>,
    /// What was measured since a call had to wait for it for the first time.
    pub stats: Option<Stats>,
}

/// Something that is held or waited for at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartInfo {
    /// Which one, where an object has several.
    pub key: Option<String>,
    /// How many units there are: 1 of a lock, the permits of a semaphore. `None` if what the calls
    /// wait for cannot be held, or if every client may add units.
    pub units: Option<u64>,
    /// How many calls hold units.
    pub held: u64,
    /// How many calls wait.
    pub waiting: u64,
    /// Those that hold, at most 1,000 in an object.
    pub holders: Vec<CallInfo>,
    /// Those that wait, in the order in which they will be granted, at most 1,000 in an object.
    pub waiters: Vec<CallInfo>,
}

/// A call that holds something or waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallInfo {
    /// Whose call it is.
    pub process: Peer,
    /// Which task or thread of that process, by its number, where the manager asks for that: one
    /// that looks for deadlocks does.
    pub caller: Option<u64>,
    /// How many units it holds or wants.
    pub units: u64,
    /// How it holds or wants them, such as `read`; empty where there is one way only.
    pub mode: String,
    /// For how long already.
    pub lasted: Duration,
    /// The token of the grant, of what holds.
    pub fence: Option<Fence>,
}

impl ObjectInfo {
    /// How many calls hold units of it.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.parts.iter().map(|part| part.held).sum()
    }

    /// How many calls wait for it.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.parts.iter().map(|part| part.waiting).sum()
    }
}

/// What the columns of the table are called.
const HEAD: [&str; 7] = [
    "NAME",
    "KIND",
    "STATE",
    "HELD",
    "WAITING",
    "WAITED",
    "P50 / P99",
];

/// The most calls of each sort that are told of a part.
const MOST_TOLD: usize = 5;

impl ObjectInfo {
    /// The cells as they are shown, so that a column is as wide as its widest cell on the screen.
    fn row(&self) -> [String; 7] {
        let stats = self.stats.as_ref();
        // A kind without a survey tells nothing of its objects, which is not the same as none.
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
        let rows: Vec<_> = self.objects.iter().map(ObjectInfo::row).collect();
        let widths: [usize; 7] = std::array::from_fn(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widths = cells.map(|cell| cell.chars().count());
            let head = HEAD.get(column).map_or(0, |head| head.len());
            widths.fold(head, usize::max)
        });
        line(f, &HEAD, &widths)?;
        for (object, row) in self.objects.iter().zip(&rows) {
            line(f, &row.each_ref().map(String::as_str), &widths)?;
            for part in &object.parts {
                part.tell(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ObjectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row();
        let widths = row.each_ref().map(|cell| cell.chars().count());
        line(f, &row.each_ref().map(String::as_str), &widths)?;
        self.parts.iter().try_for_each(|part| part.tell(f))
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[&str; 7], widths: &[usize; 7]) -> fmt::Result {
    let cells = cells.iter().zip(widths);
    let line: Vec<String> = cells
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    writeln!(f, "{}", line.join("  ").trim_end())
}

impl PartInfo {
    /// Tells who holds and who waits, each in a line below the object's.
    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref();
        let key = key.map_or_else(String::new, |key| format!(" [{key:?}]"));
        for (verb, calls, count) in [
            ("holds", &self.holders, self.held),
            ("waits", &self.waiters, self.waiting),
        ] {
            for call in calls.iter().take(MOST_TOLD) {
                writeln!(f, "    {verb}{key} {call}")?;
            }
            let told = calls.len().min(MOST_TOLD);
            let untold = count.saturating_sub(told.try_into().unwrap_or(u64::MAX));
            if untold > 0 {
                writeln!(f, "    {verb}{key} {untold} more")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for CallInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.process)?;
        if let Some(caller) = self.caller {
            write!(f, ", caller {caller}")?;
        }
        write!(f, " for {:.1?}", self.lasted)?;
        if self.units > 1 && self.units < u64::MAX {
            write!(f, ", {} units", self.units)?;
        }
        if !self.mode.is_empty() {
            write!(f, ", {}", Printable(&self.mode))?;
        }
        if let Some(fence) = self.fence {
            write!(f, ", fence {fence}")?;
        }
        Ok(())
    }
}

/// What happened to an object since a call had to wait for it for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Grants, of those kinds that draw a fence for each.
    pub grants: u64,
    /// Calls that had to wait.
    pub waits: u64,
    /// Those of them whose time was over first.
    pub timeouts: u64,
    /// Those that their callers gave up, or that were taken back.
    pub withdrawals: u64,
    /// Those whose session ended, or that waited when the object was removed.
    pub departures: u64,
    /// Those that were ended because they would have waited for ever.
    pub deadlocks: u64,
    /// Holds that ended with their session, and left a mark.
    pub abandonments: u64,
    /// How long calls waited that were answered then.
    pub waited: Times,
    /// How long it was held.
    pub held: Times,
}

/// A number of times: exact at both ends, and within 7 % between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// The shortest.
    pub min: Duration,
    /// Their mean.
    pub mean: Duration,
    /// What half of them did not exceed.
    pub p50: Duration,
    /// What nine of ten did not exceed.
    pub p90: Duration,
    /// What ninety-nine of a hundred did not exceed.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// A question about the objects of a manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The objects with numbers above that one, as many as go into a message.
    All(u64),
    /// Those of them that have waiters.
    Contended(u64),
    /// The object of that name.
    Named(String),
    /// Who waits for whom in a circle.
    Deadlocks,
}

/// Some objects, and the number to ask on from, if there are more.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The objects, in the order of their numbers.
    pub objects: Vec<ObjectInfo>,
    /// The number to ask on from, if there are more.
    pub next: Option<u64>,
    /// The numbers of the objects, where those of several shards are to be put in order.
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
            lasted: Duration::from_millis(1500),
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
            moments: 1,
        };
        let waits = "    waits [\"k\"] process 7 (demo), caller 3 for 1.5s, 2 units, read\n";
        let expected = [
            "NAME  KIND   STATE                  HELD  WAITING  WAITED  P50 / P99\n",
            "jobs  lock   held                   1     8        31      -\n",
            "    holds [\"k\"] process 4711 (demo) for 1.5s, fence 12\n",
            &waits.repeat(5),
            "    waits [\"k\"] 3 more\n",
            "\u{e9}t\u{e9}   event  not set, generation 0  0     0        -       -\n",
        ];
        assert_eq!(snapshot.to_string(), expected.concat());
    }
}

//! The log of a queue's items, and the checks of it.
//!
//! A killed process may or may not have completed its last action. For all other actions the log
//! has the outcome. So each item that was put must be done exactly once, with or without a line in
//! the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::notes::Notes;

/// An event of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemEvent {
    /// A process begins to put the item.
    BeginsPut,
    /// The item was put.
    Put,
    /// The item was not put, and never will be.
    NotPut,
    /// A process begins to report the item as done.
    BeginsDone,
    /// The queue has confirmed that the item is done.
    Done,
    /// The process reports the item as done without waiting. It is done unless the process is
    /// killed.
    Dropped(u32),
    /// A process begins to wait until all items are done. The wait has a number instead of an item.
    BeginsJoin,
    /// The wait was answered.
    Joined,
}

impl fmt::Display for ItemEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeginsPut => "puts",
            Self::Put => "put",
            Self::NotPut => "full",
            Self::BeginsDone => "ends",
            Self::Done => "done",
            Self::BeginsJoin => "joins",
            Self::Joined => "joined",
            Self::Dropped(pid) => return write!(f, "goes {pid}"),
        })
    }
}

impl FromStr for ItemEvent {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        Ok(match words {
            "puts" => Self::BeginsPut,
            "put" => Self::Put,
            "full" => Self::NotPut,
            "ends" => Self::BeginsDone,
            "done" => Self::Done,
            "joins" => Self::BeginsJoin,
            "joined" => Self::Joined,
            _ => {
                let pid = words.strip_prefix("goes ").and_then(|pid| pid.parse().ok());
                Self::Dropped(pid.ok_or_else(|| format!("no deed: {words:?}"))?)
            }
        })
    }
}

/// The state of an item.
#[derive(Clone, Copy, Debug, Default)]
struct ItemState {
    has_begun: bool,
    is_put: bool,
    is_refused: bool,
    /// How often it was certainly done.
    done: u64,
    /// How often a process began to report it as done, and has not logged the outcome.
    perhaps: u64,
}

/// The items of a queue.
#[derive(Debug)]
pub(crate) struct Items {
    name: String,
    states: BTreeMap<u64, ItemState>,
    /// Items that were in the queue although a wait for all to be done was answered.
    overlooked: BTreeSet<u64>,
}

impl Items {
    pub(crate) fn read(notes: &Notes, name: &str, killed: &BTreeSet<u32>) -> Self {
        let lines = notes.records(name);
        Self::new(name, lines.iter().map(String::as_str), killed)
    }

    fn new<'a>(name: &str, lines: impl Iterator<Item = &'a str>, killed: &BTreeSet<u32>) -> Self {
        let mut items = Self {
            name: name.to_owned(),
            states: BTreeMap::new(),
            overlooked: BTreeSet::new(),
        };
        // The items in the queue that no process has begun to report as done, and those of them
        // that were in it when each wait began.
        let mut inside = BTreeSet::new();
        let mut joining = BTreeMap::new();
        for line in lines {
            let (item, event) = line.split_once(' ').expect("an item and a deed");
            let item = item.parse().expect("an item is a number");
            let event = event.parse().expect("a deed");
            match event {
                ItemEvent::Put if items.ends(item) == 0 => drop(inside.insert(item)),
                ItemEvent::BeginsDone | ItemEvent::Dropped(_) => drop(inside.remove(&item)),
                ItemEvent::BeginsJoin => drop(joining.insert(item, inside.clone())),
                ItemEvent::Joined => {
                    let before = joining.remove(&item).expect("the wait has begun");
                    items.overlooked.extend(before.intersection(&inside));
                }
                ItemEvent::BeginsPut | ItemEvent::Put | ItemEvent::NotPut | ItemEvent::Done => {}
            }
            items.note(item, event, killed);
        }
        items
    }

    fn note(&mut self, item: u64, event: ItemEvent, killed: &BTreeSet<u32>) {
        if matches!(event, ItemEvent::BeginsJoin | ItemEvent::Joined) {
            return;
        }
        let state = self.states.entry(item).or_default();
        match event {
            ItemEvent::BeginsPut => state.has_begun = true,
            ItemEvent::Put => state.is_put = true,
            ItemEvent::NotPut => state.is_refused = true,
            ItemEvent::BeginsDone => state.perhaps += 1,
            ItemEvent::Done => {
                state.perhaps = state.perhaps.saturating_sub(1);
                state.done += 1;
            }
            ItemEvent::Dropped(pid) if killed.contains(&pid) => state.perhaps += 1,
            ItemEvent::Dropped(_) => state.done += 1,
            ItemEvent::BeginsJoin | ItemEvent::Joined => {}
        }
    }

    /// Returns how often an item was done, or a process began to report it.
    fn ends(&self, item: u64) -> u64 {
        let state = self.states.get(&item);
        state.map_or(0, |state| state.done + state.perhaps)
    }

    /// Returns how many items were certainly done.
    pub(crate) fn done(&self) -> usize {
        self.states.values().filter(|state| state.done > 0).count()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.states.iter().filter_map(|(item, state)| {
            let ends = self.ends(*item);
            let words = if !state.has_begun {
                "was never put"
            } else if state.is_refused && ends > 0 {
                "was refused, and done"
            } else if state.done > 1 {
                "was done twice"
            } else if state.is_put && ends == 0 {
                "was put, and is lost"
            } else {
                return None;
            };
            Some(format!("{}: {item} {words}: {state:?}", self.name))
        });
        let overlooked = self.overlooked.iter().map(|item| {
            let name = &self.name;
            format!("{name}: {item} was in the queue when a wait for all to be done was answered")
        });
        faults.chain(overlooked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the faults of a queue's log, if process 9 was killed.
    fn faults(log: &str) -> Vec<String> {
        let lines = log.lines().map(str::trim);
        Items::new("it", lines, &BTreeSet::from([9])).faults()
    }

    #[track_caller]
    fn assert_only(log: &str, words: &str) {
        let faults = faults(log);
        assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
    }

    #[test]
    fn items_that_are_done_once_and_items_that_were_not_put_are_correct() {
        let log = "1 puts
                   1 put
                   1 ends
                   1 done
                   2 puts
                   2 full
                   3 puts
                   4 puts
                   4 put
                   4 goes 1";
        assert_eq!(faults(log), [""; 0]);
    }

    #[test]
    fn item_that_was_put_and_not_done_is_lost() {
        assert_only("1 puts\n1 put", "is lost");
        assert_eq!(
            faults("1 puts\n1 put\n1 ends"),
            [""; 0],
            "the item may be done"
        );
    }

    #[test]
    fn item_is_done_once_by_processes_that_were_not_killed() {
        assert_only("1 puts\n1 put\n1 goes 1\n1 ends\n1 done", "twice");
        let log = "1 puts\n1 put\n1 goes 9\n1 ends\n1 done";
        assert_eq!(
            faults(log),
            [""; 0],
            "the killed process may not have done it"
        );
    }

    #[test]
    fn item_that_was_never_put_is_reported() {
        assert_only("1 ends\n1 done", "never put");
        assert_only("1 puts\n1 full\n1 ends\n1 done", "refused");
    }

    #[test]
    fn wait_that_is_answered_before_an_item_is_done_is_reported() {
        let early = "1 puts\n1 put\n5 joins\n5 joined\n1 ends\n1 done";
        assert_only(early, "all to be done was answered");
        let late = "5 joins\n1 puts\n1 put\n5 joined\n1 ends\n1 done";
        assert_eq!(faults(late), [""; 0], "the item was put later");
        let right = "1 puts\n1 put\n5 joins\n1 ends\n5 joined\n1 done";
        assert_eq!(faults(right), [""; 0]);
    }
}

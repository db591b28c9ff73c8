//! The log of a queue's items, and its faults.
//!
//! A killed process may or may not have done what it was about to do; of all others the log tells.
//! So each item that was put is done, and never twice, with or without a line in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::notes::Notes;

/// What a process does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is about to be put.
    Puts,
    /// It was put.
    HasPut,
    /// It was not, and never will be.
    NotPut,
    /// It is about to be said to be done.
    Ends,
    /// The queue knows that it is done.
    IsDone,
    /// That process says without waiting that it is done, and does so unless it is killed.
    LetsGo(u32),
    /// A process is about to wait until all is done. That wait has a number instead of an item.
    Joins,
    /// It was told that all is done.
    HasJoined,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Puts => "puts",
            Self::HasPut => "put",
            Self::NotPut => "full",
            Self::Ends => "ends",
            Self::IsDone => "done",
            Self::Joins => "joins",
            Self::HasJoined => "joined",
            Self::LetsGo(pid) => return write!(f, "goes {pid}"),
        })
    }
}

impl FromStr for Deed {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        Ok(match words {
            "puts" => Self::Puts,
            "put" => Self::HasPut,
            "full" => Self::NotPut,
            "ends" => Self::Ends,
            "done" => Self::IsDone,
            "joins" => Self::Joins,
            "joined" => Self::HasJoined,
            _ => {
                let pid = words.strip_prefix("goes ").and_then(|pid| pid.parse().ok());
                Self::LetsGo(pid.ok_or_else(|| format!("no deed: {words:?}"))?)
            }
        })
    }
}

/// What is known of an item.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    has_begun: bool,
    is_put: bool,
    is_refused: bool,
    /// How often it was done for sure.
    done: u64,
    /// How often a process was about to say so, and has not logged the outcome.
    perhaps: u64,
}

/// All items of a queue.
#[derive(Debug)]
pub(crate) struct Items {
    name: String,
    fates: BTreeMap<u64, Fate>,
    /// Items that were in while a wait for all to be done was answered.
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
            fates: BTreeMap::new(),
            overlooked: BTreeSet::new(),
        };
        // What is in that nobody was about to end, and what of that was in when each wait began.
        let mut inside = BTreeSet::new();
        let mut joining = BTreeMap::new();
        for line in lines {
            let (item, deed) = line.split_once(' ').expect("an item and a deed");
            let item = item.parse().expect("an item is a number");
            let deed = deed.parse().expect("a deed");
            match deed {
                Deed::HasPut if items.ends(item) == 0 => drop(inside.insert(item)),
                Deed::Ends | Deed::LetsGo(_) => drop(inside.remove(&item)),
                Deed::Joins => drop(joining.insert(item, inside.clone())),
                Deed::HasJoined => {
                    let before = joining.remove(&item).expect("it has begun");
                    items.overlooked.extend(before.intersection(&inside));
                }
                Deed::Puts | Deed::HasPut | Deed::NotPut | Deed::IsDone => {}
            }
            items.note(item, deed, killed);
        }
        items
    }

    fn note(&mut self, item: u64, deed: Deed, killed: &BTreeSet<u32>) {
        if matches!(deed, Deed::Joins | Deed::HasJoined) {
            return;
        }
        let fate = self.fates.entry(item).or_default();
        match deed {
            Deed::Puts => fate.has_begun = true,
            Deed::HasPut => fate.is_put = true,
            Deed::NotPut => fate.is_refused = true,
            Deed::Ends => fate.perhaps += 1,
            Deed::IsDone => {
                fate.perhaps = fate.perhaps.saturating_sub(1);
                fate.done += 1;
            }
            Deed::LetsGo(pid) if killed.contains(&pid) => fate.perhaps += 1,
            Deed::LetsGo(_) => fate.done += 1,
            Deed::Joins | Deed::HasJoined => {}
        }
    }

    /// How often an item was done, or a process was about to say so.
    fn ends(&self, item: u64) -> u64 {
        let fate = self.fates.get(&item);
        fate.map_or(0, |fate| fate.done + fate.perhaps)
    }

    /// How many were done for sure.
    pub(crate) fn done(&self) -> usize {
        self.fates.values().filter(|fate| fate.done > 0).count()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.fates.iter().filter_map(|(item, fate)| {
            let ends = self.ends(*item);
            let words = if !fate.has_begun {
                "was never put"
            } else if fate.is_refused && ends > 0 {
                "was refused, and done"
            } else if fate.done > 1 {
                "was done twice"
            } else if fate.is_put && ends == 0 {
                "was put, and is lost"
            } else {
                return None;
            };
            Some(format!("{}: {item} {words}: {fate:?}", self.name))
        });
        let overlooked = self.overlooked.iter().map(|item| {
            let name = &self.name;
            format!("{name}: {item} was in when somebody was told that all is done")
        });
        faults.chain(overlooked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a queue's log, if process 9 was killed.
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
    fn items_that_are_done_once_and_those_that_were_not_put_are_in_order() {
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
        assert_eq!(faults("1 puts\n1 put\n1 ends"), [""; 0], "it may be done");
    }

    #[test]
    fn item_is_done_once_by_those_who_live() {
        assert_only("1 puts\n1 put\n1 goes 1\n1 ends\n1 done", "twice");
        let log = "1 puts\n1 put\n1 goes 9\n1 ends\n1 done";
        assert_eq!(faults(log), [""; 0], "the killed one had no time to");
    }

    #[test]
    fn item_that_nobody_put_is_told_of() {
        assert_only("1 ends\n1 done", "never put");
        assert_only("1 puts\n1 full\n1 ends\n1 done", "refused");
    }

    #[test]
    fn wait_for_the_end_that_ends_before_an_item_does_is_told_of() {
        let early = "1 puts\n1 put\n5 joins\n5 joined\n1 ends\n1 done";
        assert_only(early, "told that all is done");
        let late = "5 joins\n1 puts\n1 put\n5 joined\n1 ends\n1 done";
        assert_eq!(faults(late), [""; 0], "it came later");
        let right = "1 puts\n1 put\n5 joins\n1 ends\n5 joined\n1 done";
        assert_eq!(faults(right), [""; 0]);
    }
}

//! What the log of a barrier says: whether each generation had its parties, and no others.
//!
//! A line is written before a call or after its answer, so the checks use only what follows from
//! that. A call that was dropped, or whose process was killed, may have passed: it may stand in
//! once for a missing party, of a generation that was released while it may have waited.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    log::{Arrival, Event, Line},
    notes::Notes,
};

/// What became of one arrival, with the places of its lines.
#[derive(Debug)]
struct Fate {
    came: usize,
    acted: Option<usize>,
    end: Option<(usize, Event)>,
}

/// One arrival that passed.
#[derive(Debug)]
struct Pass {
    arrival: Arrival,
    at: usize,
    index: u32,
    is_leader: bool,
}

/// The logs of one barrier, sorted.
#[derive(Debug)]
pub(crate) struct Verdict<'a> {
    name: &'a str,
    parties: usize,
    fates: BTreeMap<Arrival, Fate>,
    /// When the barrier knew which process to be dead.
    buried: BTreeMap<u32, usize>,
    /// Those who passed, by generation; one for each that the barrier has counted.
    generations: Vec<Vec<Pass>>,
    faults: Vec<String>,
}

impl<'a> Verdict<'a> {
    /// Reads the log of a barrier that was passed so many times, when all calls have ended.
    pub(crate) fn read(notes: &Notes, name: &'a str, parties: u32, generations: u64) -> Self {
        let lines = notes.records(name).into_iter();
        let lines = lines.map(|line| line.parse().expect("a log is whole"));
        Self::new(name, parties, generations, lines)
    }

    fn new(
        name: &'a str,
        parties: u32,
        generations: u64,
        lines: impl Iterator<Item = Line>,
    ) -> Self {
        let mut verdict = Self {
            name,
            parties: parties.try_into().expect("a few"),
            fates: BTreeMap::new(),
            buried: BTreeMap::new(),
            generations: (0..generations).map(|_| Vec::new()).collect(),
            faults: Vec::new(),
        };
        for (at, line) in lines.enumerate() {
            match line {
                Line::Call(arrival, event) => verdict.take_in(at, arrival, event),
                Line::Buried(pid) => {
                    verdict.buried.insert(pid, at);
                }
            }
        }
        verdict
    }

    fn take_in(&mut self, at: usize, arrival: Arrival, event: Event) {
        if event == Event::Comes {
            let fate = Fate {
                came: at,
                acted: None,
                end: None,
            };
            self.fates.insert(arrival, fate);
            return;
        }
        let fate = self.fates.get_mut(&arrival).expect("who ends has come");
        match event {
            Event::Comes => {}
            Event::HasActed => fate.acted = Some(at),
            Event::Dropped | Event::Failed => fate.end = Some((at, event)),
            Event::Passed {
                generation,
                index,
                is_leader,
            } => {
                fate.end = Some((at, event));
                let place = usize::try_from(generation).expect("it is counted");
                match self.generations.get_mut(place) {
                    Some(passes) => passes.push(Pass {
                        arrival,
                        at,
                        index,
                        is_leader,
                    }),
                    None => self.blame(&format!(
                        "{arrival:?} passed in {generation}, which is none"
                    )),
                }
            }
        }
    }

    /// How many passed each generation that any did, as far as is known.
    pub(crate) fn passes(&self) -> usize {
        self.generations.iter().map(Vec::len).sum()
    }

    /// Everything that should not have been, when these are the processes that were killed.
    pub(crate) fn faults(mut self, killed: &BTreeSet<u32>) -> Vec<String> {
        for (arrival, fate) in &self.fates {
            if fate.end.is_none() && !killed.contains(&arrival.pid) {
                let words = format!("{}: {arrival:?} had no answer", self.name);
                self.faults.push(words);
            }
        }
        let bounds = self.bounds();
        let mut unknown = self.unknown().into_iter().peekable();
        let (mut last_came, mut stand_ins) = (0, BinaryHeap::new());
        for (generation, bound) in bounds.into_iter().enumerate() {
            for words in self.look_at(generation, bound) {
                self.blame(&format!("generation {generation}: {words}"));
            }
            let passes = &self.generations[generation];
            // All these had arrived before the release.
            let came = passes.iter().map(|pass| self.fates[&pass.arrival].came);
            last_came = came.fold(last_came, usize::max);
            while let Some((_, left)) = unknown.next_if(|(came, _)| *came < bound) {
                stand_ins.push(Reverse(left));
            }
            while stand_ins
                .peek()
                .is_some_and(|Reverse(left)| *left < last_came)
            {
                stand_ins.pop();
            }
            // The one that leaves first: the others may be needed later.
            let missing = self.parties.saturating_sub(passes.len());
            let found = (0..missing).map_while(|_| stand_ins.pop()).count();
            if found < missing {
                let passes = passes.len();
                self.blame(&format!(
                    "generation {generation}: {passes} passed, and {found} dropped or killed \
                     cannot be all the others",
                ));
            }
        }
        self.faults
    }

    /// For each generation the first line that is known to come after its release: the first pass
    /// of it, or of one after it.
    fn bounds(&self) -> Vec<usize> {
        let mut bound = usize::MAX;
        let mut bounds: Vec<usize> = self
            .generations
            .iter()
            .rev()
            .map(|passes| {
                bound = passes.iter().map(|pass| pass.at).fold(bound, usize::min);
                bound
            })
            .collect();
        bounds.reverse();
        bounds
    }

    /// Looks at those who passed a generation.
    fn look_at(&self, generation: usize, bound: usize) -> Vec<String> {
        let passes = &self.generations[generation];
        let indices: BTreeSet<u32> = passes.iter().map(|pass| pass.index).collect();
        let leaders = passes.iter().filter(|pass| pass.is_leader).count();
        let mut faults = Vec::new();
        if indices.len() < passes.len() || passes.len() > self.parties {
            faults.push(format!("{} passed: {passes:?}", passes.len()));
        }
        let too_high =
            |index: &u32| usize::try_from(*index).is_ok_and(|index| index >= self.parties);
        if indices.iter().any(too_high) {
            faults.push(format!("its places are {indices:?}"));
        }
        if leaders > 1 || (leaders == 0 && passes.len() == self.parties) {
            faults.push(format!("{leaders} lead"));
        }
        for pass in passes {
            let fate = &self.fates[&pass.arrival];
            if fate.came > bound {
                faults.push(format!("released before {:?} came", pass.arrival));
            }
            if fate
                .acted
                .is_some_and(|acted| acted > bound || !pass.is_leader)
            {
                faults.push(format!(
                    "released before {:?} acted, or it leads not",
                    pass.arrival
                ));
            }
        }
        faults
    }

    /// The arrivals that may have passed without telling, in the order in which they came: when
    /// each came, and when at the latest it had left.
    fn unknown(&self) -> Vec<(usize, usize)> {
        let unknown = self.fates.iter().filter_map(|(arrival, fate)| {
            let left = match fate.end {
                None => self.buried.get(&arrival.pid).copied().unwrap_or(usize::MAX),
                Some((at, Event::Dropped)) => at,
                Some(_) => return None,
            };
            Some((fate.came, left))
        });
        let mut unknown: Vec<_> = unknown.collect();
        unknown.sort_unstable();
        unknown
    }

    fn blame(&mut self, words: &str) {
        let words = format!("{}: {words}", self.name);
        self.faults.push(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a barrier's log, if process 9 was killed.
    fn faults(parties: u32, generations: u64, log: &str) -> Vec<String> {
        let lines = log.lines().map(|line| line.trim().parse().unwrap());
        let verdict = Verdict::new("it", parties, generations, lines);
        verdict.faults(&BTreeSet::from([9]))
    }

    #[track_caller]
    fn assert_only(faults: &[String], words: &str) {
        assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
    }

    #[test]
    fn generations_with_all_their_parties_are_in_order() {
        let log = "1 0 comes
                   2 0 comes
                   2 0 passed 0 1 true
                   2 1 comes
                   1 0 passed 0 0 false
                   1 1 comes
                   1 1 acted
                   2 1 passed 1 0 false
                   1 1 passed 1 1 true
                   1 2 comes
                   1 2 failed";
        assert!(faults(2, 2, log).is_empty());
        assert_eq!(faults(3, 2, log).len(), 2, "both have too few");
        assert_only(&faults(2, 3, log), "generation 2: 0 passed");
        let none = faults(2, 1, log);
        assert!(none.len() == 2 && none[0].contains("which is none"));
    }

    #[test]
    fn dropped_wait_stands_in_for_one_party_of_one_generation() {
        let one = "1 0 comes
                   2 0 comes
                   1 0 passed 0 1 true
                   1 1 comes";
        // Its line is written late, by a process that was stopped: it may have passed in either.
        let late = format!("{one}\n1 1 passed 1 1 true\n2 0 dropped");
        assert_only(
            &faults(2, 2, &late),
            "generation 1: 1 passed, and 0 dropped",
        );
        let other = format!("2 1 comes\n{late}\n2 1 dropped");
        assert!(faults(2, 2, &other).is_empty());
        assert_only(&faults(3, 2, &other), "generation 1: 1 passed");
    }

    #[test]
    fn dropped_wait_stands_in_for_nobody_after_it_was_taken_back() {
        let log = "2 0 comes
                   2 0 dropped
                   1 0 comes
                   1 0 passed 0 1 true";
        assert_only(&faults(2, 1, log), "1 passed, and 0 dropped");
        let log = "1 0 comes
                   1 0 passed 0 1 true
                   2 0 comes
                   2 0 dropped";
        assert_only(&faults(2, 1, log), "1 passed, and 0 dropped");
    }

    #[test]
    fn those_who_left_first_stand_in_first() {
        let log = "2 0 comes
                   3 0 comes
                   1 0 comes
                   1 0 passed 0 1 true
                   3 0 dropped
                   1 1 comes
                   1 1 passed 1 1 true
                   2 0 dropped";
        assert!(faults(2, 2, log).is_empty());
    }

    #[test]
    fn killed_process_stands_in_until_the_barrier_knows_that_it_is_dead() {
        let log = "9 0 comes
                   1 0 comes
                   9 buried
                   1 0 passed 0 1 true";
        assert!(
            faults(2, 1, log).is_empty(),
            "it may have been released before"
        );
        let log = "9 0 comes
                   9 buried
                   1 0 comes
                   1 0 passed 0 1 true";
        assert_only(&faults(2, 1, log), "1 passed, and 0 dropped or killed");
        let log = "9 0 comes
                   1 0 comes
                   1 0 passed 0 1 true
                   1 1 comes
                   1 1 passed 1 1 true";
        assert_only(&faults(2, 2, log), "generation 1: 1 passed");
    }

    #[test]
    fn call_without_an_answer_is_blamed_unless_its_process_was_killed() {
        assert!(faults(2, 0, "9 0 comes").is_empty());
        assert_only(&faults(2, 0, "1 0 comes"), "had no answer");
    }

    #[test]
    fn release_before_a_party_came_or_acted_is_blamed() {
        let early = "1 0 comes
                     1 0 passed 0 0 false
                     2 0 comes
                     2 0 passed 0 1 true";
        assert_only(&faults(2, 1, early), "released before");
        let acts = "1 0 comes
                    2 0 comes
                    1 0 passed 0 0 false
                    2 0 acted
                    2 0 passed 0 1 true";
        assert_only(&faults(2, 1, acts), "acted");
    }

    #[test]
    fn places_and_leads_that_are_given_twice_are_blamed() {
        let log = "1 0 comes
                   2 0 comes
                   1 0 passed 0 PLACE
                   2 0 passed 0 1 true";
        let place = |place| faults(2, 1, &log.replace("PLACE", place));
        assert!(place("0 false").is_empty());
        assert_only(&place("0 true"), "2 lead");
        assert_only(&place("1 false"), "2 passed: ");
        assert_only(&place("2 false"), "its places are");
    }
}

//! Checks the log of a barrier: each generation must have had its parties, and no others.
//!
//! A line is written before a call or after its answer, and the checks use only what follows from
//! that. A call that was dropped, or whose process was killed, may have passed. So it may replace
//! one missing party, of a generation that was released while the call may have waited.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    log::{Arrival, Event, Line},
    notes::Notes,
};

/// The events of one arrival, with the indices of their lines.
#[derive(Debug)]
struct CallState {
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

/// The logs of one barrier, by arrival and by generation.
#[derive(Debug)]
pub(crate) struct BarrierCheck<'a> {
    name: &'a str,
    parties: usize,
    calls: BTreeMap<Arrival, CallState>,
    /// The line at which the barrier had noticed the death of each process.
    known_dead: BTreeMap<u32, usize>,
    /// The passed arrivals, by generation, for each generation that the barrier has counted.
    generations: Vec<Vec<Pass>>,
    faults: Vec<String>,
}

impl<'a> BarrierCheck<'a> {
    /// Reads the log of a barrier after all calls have ended. The barrier was passed `generations`
    /// times.
    pub(crate) fn read(notes: &Notes, name: &'a str, parties: u32, generations: u64) -> Self {
        let lines = notes.records(name).into_iter();
        let lines = lines.map(|line| line.parse().expect("the log is complete"));
        Self::new(name, parties, generations, lines)
    }

    fn new(
        name: &'a str,
        parties: u32,
        generations: u64,
        lines: impl Iterator<Item = Line>,
    ) -> Self {
        let mut barrier_check = Self {
            name,
            parties: parties.try_into().expect("a few"),
            calls: BTreeMap::new(),
            known_dead: BTreeMap::new(),
            generations: (0..generations).map(|_| Vec::new()).collect(),
            faults: Vec::new(),
        };
        for (at, line) in lines.enumerate() {
            match line {
                Line::Call(arrival, event) => barrier_check.take_in(at, arrival, event),
                Line::KnownDead(pid) => {
                    barrier_check.known_dead.insert(pid, at);
                }
            }
        }
        barrier_check
    }

    fn take_in(&mut self, at: usize, arrival: Arrival, event: Event) {
        if event == Event::Begins {
            let call = CallState {
                came: at,
                acted: None,
                end: None,
            };
            self.calls.insert(arrival, call);
            return;
        }
        let call = self.calls.get_mut(&arrival).expect("the arrival has begun");
        match event {
            Event::Begins => {}
            Event::HasActed => call.acted = Some(at),
            Event::Dropped | Event::Failed => call.end = Some((at, event)),
            Event::Passed {
                generation,
                index,
                is_leader,
            } => {
                call.end = Some((at, event));
                let place = usize::try_from(generation).expect("the generation fits into usize");
                match self.generations.get_mut(place) {
                    Some(passes) => passes.push(Pass {
                        arrival,
                        at,
                        index,
                        is_leader,
                    }),
                    None => self.report(&format!(
                        "{arrival:?} passed in {generation}, which does not exist"
                    )),
                }
            }
        }
    }

    /// Returns the number of logged passes.
    pub(crate) fn passes(&self) -> usize {
        self.generations.iter().map(Vec::len).sum()
    }

    /// Returns all faults, given the processes that were killed.
    pub(crate) fn faults(mut self, killed: &BTreeSet<u32>) -> Vec<String> {
        for (arrival, call) in &self.calls {
            if call.end.is_none() && !killed.contains(&arrival.pid) {
                let words = format!("{}: {arrival:?} had no answer", self.name);
                self.faults.push(words);
            }
        }
        let bounds = self.bounds();
        let mut unknown = self.unknown().into_iter().peekable();
        let (mut last_came, mut stand_ins) = (0, BinaryHeap::new());
        for (generation, bound) in bounds.into_iter().enumerate() {
            for words in self.check_grant(generation, bound) {
                self.report(&format!("generation {generation}: {words}"));
            }
            let passes = &self.generations[generation];
            // All of these had arrived before the release.
            let came = passes.iter().map(|pass| self.calls[&pass.arrival].came);
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
            // The arrival that left first is used, because later generations may need the others.
            let missing = self.parties.saturating_sub(passes.len());
            let found = (0..missing).map_while(|_| stand_ins.pop()).count();
            if found < missing {
                let passes = passes.len();
                self.report(&format!(
                    "generation {generation}: {passes} passed, and {found} dropped or killed \
                     cannot be all the others",
                ));
            }
        }
        self.faults
    }

    /// Returns for each generation the first line that was certainly written after its release: the
    /// first pass of it or of a later one.
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

    /// Checks the passes of a generation.
    fn check_grant(&self, generation: usize, bound: usize) -> Vec<String> {
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
            let call = &self.calls[&pass.arrival];
            if call.came > bound {
                faults.push(format!("released before {:?} arrived", pass.arrival));
            }
            if call
                .acted
                .is_some_and(|acted| acted > bound || !pass.is_leader)
            {
                faults.push(format!(
                    "released before {:?} ran the action, or it is not the leader",
                    pass.arrival
                ));
            }
        }
        faults
    }

    /// Returns the arrivals that may have passed without a log line, in order of arrival: the line
    /// at which each arrived, and the latest line at which it had left.
    fn unknown(&self) -> Vec<(usize, usize)> {
        let unknown = self.calls.iter().filter_map(|(arrival, call)| {
            let left = match call.end {
                None => self
                    .known_dead
                    .get(&arrival.pid)
                    .copied()
                    .unwrap_or(usize::MAX),
                Some((at, Event::Dropped)) => at,
                Some(_) => return None,
            };
            Some((call.came, left))
        });
        let mut unknown: Vec<_> = unknown.collect();
        unknown.sort_unstable();
        unknown
    }

    fn report(&mut self, words: &str) {
        let words = format!("{}: {words}", self.name);
        self.faults.push(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the faults of a barrier's log, if process 9 was killed.
    fn faults(parties: u32, generations: u64, log: &str) -> Vec<String> {
        let lines = log.lines().map(|line| line.trim().parse().unwrap());
        let barrier_check = BarrierCheck::new("it", parties, generations, lines);
        barrier_check.faults(&BTreeSet::from([9]))
    }

    #[track_caller]
    fn assert_only(faults: &[String], words: &str) {
        assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
    }

    #[test]
    fn generations_with_all_their_parties_are_correct() {
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
        assert!(none.len() == 2 && none[0].contains("which does not exist"));
    }

    #[test]
    fn dropped_wait_replaces_one_party_of_one_generation() {
        let one = "1 0 comes
                   2 0 comes
                   1 0 passed 0 1 true
                   1 1 comes";
        // A stopped process writes its line late, so the call may have passed in either generation.
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
    fn dropped_wait_replaces_no_party_after_its_withdrawal() {
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
    fn arrivals_that_left_first_are_used_first() {
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
    fn killed_process_replaces_a_party_until_the_barrier_notices_its_death() {
        let log = "9 0 comes
                   1 0 comes
                   9 buried
                   1 0 passed 0 1 true";
        assert!(
            faults(2, 1, log).is_empty(),
            "the generation may have been released before"
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
    fn call_without_an_answer_is_reported_unless_its_process_was_killed() {
        assert!(faults(2, 0, "9 0 comes").is_empty());
        assert_only(&faults(2, 0, "1 0 comes"), "had no answer");
    }

    #[test]
    fn release_before_a_party_arrived_or_acted_is_reported() {
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
        assert_only(&faults(2, 1, acts), "ran the action");
    }

    #[test]
    fn duplicate_indices_and_leaders_are_reported() {
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

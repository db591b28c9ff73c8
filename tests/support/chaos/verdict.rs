//! What the logs of a barrier say: whether each generation had its parties, and no others.
//!
//! A line is written before a call or after its answer, never at the moment that counts; so what is
//! checked is only what follows from that. Of a call that was dropped, or whose process was killed,
//! nobody knows whether it passed; it may stand in for a party that is missing.

use std::collections::{BTreeMap, BTreeSet};

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
            generations: (0..generations).map(|_| Vec::new()).collect(),
            faults: Vec::new(),
        };
        for (at, Line { arrival, event }) in lines.enumerate() {
            verdict.take_in(at, arrival, event);
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
        let (mut last_came, mut stand_ins) = (0, 0);
        for (generation, bound) in bounds.into_iter().enumerate() {
            for words in self.look_at(generation, bound) {
                self.blame(&format!("generation {generation}: {words}"));
            }
            let passes = &self.generations[generation];
            // All these had arrived before the release.
            let came = passes.iter().map(|pass| self.fates[&pass.arrival].came);
            last_came = came.fold(last_came, usize::max);
            let missing = self.parties.saturating_sub(passes.len());
            if missing > 0 {
                let (dropped, dead) = self.unknown(last_came, bound);
                stand_ins += missing.saturating_sub(dropped);
                if stand_ins > dead {
                    let passes = passes.len();
                    self.blame(&format!(
                        "generation {generation}: {passes} passed, and {dropped} dropped and \
                         {dead} killed cannot be the others",
                    ));
                    stand_ins = dead;
                }
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

    /// How many arrivals may have been released after one line and before another without telling:
    /// those that were dropped, and those whose process was killed.
    fn unknown(&self, after: usize, before: usize) -> (usize, usize) {
        let (mut dropped, mut dead) = (0, 0);
        for fate in self.fates.values().filter(|fate| fate.came < before) {
            match fate.end {
                None => dead += 1,
                Some((at, Event::Dropped)) if at > after => dropped += 1,
                Some(_) => {}
            }
        }
        (dropped, dead)
    }

    fn blame(&mut self, words: &str) {
        let words = format!("{}: {words}", self.name);
        self.faults.push(words);
    }
}

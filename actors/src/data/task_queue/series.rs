//! Series of tasks: outcomes that have not been reported to their submitter yet.
//!
//! Invariant: at the end of each turn, a submitter that waits receives all outcomes of its series.

use std::{collections::BTreeMap, mem};

use lockkeeper_protocol::{
    CallId, Fault, SessionId,
    operations::{ChunkOutcome, Ended},
};

use crate::kind::{budget::Stored, call::Call};

/// Several jobs, or outcomes, go in one message only if they have no more bytes together.
pub(super) const MOST_BYTES_AT_A_TIME: usize = 1 << 20;

/// All series that somebody collects, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Series {
    open: BTreeMap<CallId, Outcomes>,
    /// Those that this turn may have something to tell of.
    stirred: Vec<CallId>,
}

/// What is kept of one of them.
#[derive(Debug, Default)]
struct Outcomes {
    /// What became of tasks, in the order in which it did.
    ended: Vec<Ended>,
    /// Their bytes, from the first one on.
    stored: Option<Stored>,
    /// Why some tasks were never taken in, if that is so.
    fault: Option<Fault>,
    /// Who waits to be told.
    collector: Option<Call<Vec<Ended>>>,
}

impl Outcomes {
    /// Takes the first that have ended: at least one, and more only if they fit in a message.
    fn take(&mut self) -> Vec<Ended> {
        let mut bytes = 0;
        let fit = self.ended.iter().take_while(|ended| {
            let is_first = bytes == 0;
            bytes += bytes_of(&ended.outcome);
            is_first || bytes <= MOST_BYTES_AT_A_TIME
        });
        let rest = self.ended.split_off(fit.count());
        let taken = mem::replace(&mut self.ended, rest);
        if let Some(stored) = &mut self.stored {
            let bytes: usize = taken.iter().map(|ended| bytes_of(&ended.outcome)).sum();
            stored.set(stored.bytes().saturating_sub(bytes));
        }
        taken
    }
}

fn bytes_of(outcome: &ChunkOutcome) -> usize {
    match outcome {
        Ok(outputs) => outputs.0.len().max(1),
        Err(_) => FAULT_BYTES,
    }
}

/// How many bytes a fault has at the most, by and large.
const FAULT_BYTES: usize = 1 << 12;

impl Series {
    /// Begins a series, unless it is there.
    pub(super) fn begin(&mut self, series: CallId) {
        self.open.entry(series).or_default();
    }

    /// Takes note of what became of a task, if somebody cares. `stored` is what is kept of the task: its
    /// outcome is never lost, whatever the limit says.
    pub(super) fn end(
        &mut self,
        series: CallId,
        number: u64,
        outcome: ChunkOutcome,
        stored: &mut Stored,
    ) {
        if let Some(outcomes) = self.open.get_mut(&series) {
            let kept = outcomes.stored.get_or_insert_with(|| stored.split(0));
            kept.set(kept.bytes() + bytes_of(&outcome));
            outcomes.ended.push(Ended { number, outcome });
            self.stir(series);
        }
    }

    /// Takes note that tasks of a series were not taken in: its collector is told.
    pub(super) fn fail(&mut self, series: CallId, fault: Fault) {
        if let Some(outcomes) = self.open.get_mut(&series) {
            outcomes.fault = Some(fault);
            self.stir(series);
        }
    }

    /// Has a call wait for outcomes, in place of the one that waits.
    pub(super) fn collect(&mut self, series: CallId, call: Call<Vec<Ended>>) {
        match self.open.get_mut(&series) {
            Some(outcomes) => {
                outcomes.collector = Some(call);
                self.stir(series);
            }
            None => call.fail(Fault::BadArguments(
                "no task of that series was submitted".to_owned(),
            )),
        }
    }

    fn stir(&mut self, series: CallId) {
        if self.stirred.last() != Some(&series) {
            self.stirred.push(series);
        }
    }

    /// Tells all who wait what there is to tell, as far as it fits a message.
    pub(super) fn tell(&mut self) {
        for series in self.stirred.drain(..) {
            let Some(outcomes) = self.open.get_mut(&series) else {
                continue;
            };
            if outcomes.ended.is_empty() && outcomes.fault.is_none() {
                continue;
            }
            let Some(call) = outcomes.collector.take() else {
                continue;
            };
            match &outcomes.fault {
                Some(fault) if outcomes.ended.is_empty() => call.fail(fault.clone()),
                Some(_) | None => call.reply(outcomes.take()),
            }
        }
    }

    /// Those of a session.
    pub(super) fn of_session(&self, session: SessionId) -> Vec<CallId> {
        CallId::of_session(&self.open, session)
    }

    /// Forgets some.
    pub(super) fn remove(&mut self, left: &[CallId]) {
        for series in left {
            self.open.remove(series);
        }
    }

    /// Has a call wait no longer.
    pub(super) fn withdraw(&mut self, call: CallId) {
        let (least, greatest) = CallId::span(call.session());
        for outcomes in self.open.range_mut(least..=greatest) {
            drop(outcomes.1.collector.take_if(|waits| waits.id() == call));
        }
    }

    /// The calls that wait for outcomes.
    pub(super) fn collectors(&self) -> impl Iterator<Item = &Call<Vec<Ended>>> {
        self.open
            .values()
            .filter_map(|outcomes| outcomes.collector.as_ref())
    }
}

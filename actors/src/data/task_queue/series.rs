//! `Series`: the outcomes of series of tasks that were not collected yet, and the calls that wait for them.
//!
//! Invariant: at the end of each turn, a series has no call that waits, or no outcomes.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    rc::Rc,
};

use lockkeeper_protocol::{
    CallId, Fault,
    codec::Blob,
    operations::{Ended, TaskFailure, outcome_bytes},
};

use crate::kind::{
    budget::{CALL_BYTES, StoredBytes},
    call::{Call, Outbox},
    hang_up::HangUp,
};

/// The bytes after which a message takes no further jobs or outcomes.
pub(super) const MOST_BYTES_AT_A_TIME: usize = 1 << 20;

/// All series whose outcomes are collected, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Series {
    open: BTreeMap<CallId, Outcomes>,
    /// The series whose outcomes each waiting call collects.
    collectors: BTreeMap<CallId, CallId>,
    /// The series that may have outcomes to report in this turn.
    stirred: Vec<CallId>,
}

/// The state of one series.
#[derive(Debug, Default)]
struct Outcomes {
    /// The outcomes of tasks, in the order in which the tasks ended.
    ended: VecDeque<Kept>,
    /// The counted bytes of the series and of its outcomes.
    stored: Option<StoredBytes>,
    /// The fault if tasks were refused.
    fault: Option<Fault>,
    /// The call that waits for outcomes.
    collector: Option<Call<Vec<Ended>>>,
}

/// The outcome of a task.
#[derive(Debug)]
struct Kept {
    number: u64,
    outcome: Told,
}

/// The outcome of a chunk as the queue keeps it: tasks that end together share their failure.
pub(super) type Told = Result<Blob, Rc<TaskFailure>>;

impl Outcomes {
    /// Takes the first outcomes: at least one, and more only if they fit into a message.
    fn take(&mut self) -> Vec<Ended> {
        let (mut bytes, mut fit) = (0, 0);
        for ended in &self.ended {
            let length = told_bytes(&ended.outcome);
            if fit > 0 && bytes + length > MOST_BYTES_AT_A_TIME {
                break;
            }
            bytes += length;
            fit += 1;
        }
        let taken = self.ended.drain(..fit).map(|Kept { number, outcome }| {
            let outcome = outcome.map_err(told_failure);
            Ended { number, outcome }
        });
        let taken = taken.collect();
        if let Some(stored) = &mut self.stored {
            let kept = bytes + fit * KEPT_BYTES;
            stored.set(stored.bytes().saturating_sub(kept));
        }
        taken
    }
}

/// The failure as its submitter is told.
pub(super) fn told_failure(failure: Rc<TaskFailure>) -> Box<TaskFailure> {
    Box::new(Rc::unwrap_or_clone(failure))
}

/// The approximate bytes of an outcome in a message.
pub(super) fn told_bytes(outcome: &Told) -> usize {
    outcome_bytes(outcome.as_ref().map_err(Rc::as_ref))
}

/// The stored bytes of an outcome in addition to its content.
const KEPT_BYTES: usize = size_of::<Kept>();

impl Series {
    /// Begins a series, unless it exists.
    ///
    /// # Errors
    ///
    /// Returns a fault when the manager has no room for it.
    pub(super) fn begin(&mut self, series: CallId, outbox: &Outbox) -> Result<(), Fault> {
        if let Entry::Vacant(place) = self.open.entry(series) {
            let stored = Some(outbox.store(CALL_BYTES)?);
            place.insert(Outcomes {
                stored,
                ..Outcomes::default()
            });
        }
        Ok(())
    }

    pub(super) fn has(&self, series: CallId) -> bool {
        self.open.contains_key(&series)
    }

    /// Stores the outcome of a task, if its series is still collected. `stored` counts the task's bytes. The
    /// outcome is stored even beyond the limit, so that it is never lost.
    pub(super) fn end(
        &mut self,
        series: CallId,
        number: u64,
        outcome: Told,
        stored: &mut StoredBytes,
    ) {
        if let Some(outcomes) = self.open.get_mut(&series) {
            let kept = outcomes.stored.get_or_insert_with(|| stored.split(0));
            kept.set(kept.bytes() + told_bytes(&outcome) + KEPT_BYTES);
            outcomes.ended.push_back(Kept { number, outcome });
            self.stir(series);
        }
    }

    /// Records that tasks of a series were refused, which is reported to its collector.
    pub(super) fn fail(&mut self, series: CallId, fault: Fault) {
        if let Some(outcomes) = self.open.get_mut(&series) {
            outcomes.fault = Some(fault);
            self.stir(series);
        }
    }

    /// Makes a call wait for outcomes, in place of the call that waits now, which fails.
    pub(super) fn collect(&mut self, series: CallId, call: Call<Vec<Ended>>) {
        match self.open.get_mut(&series) {
            Some(outcomes) => {
                self.collectors.insert(call.id(), series);
                if let Some(former) = outcomes.collector.replace(call) {
                    self.collectors.remove(&former.id());
                    former.fail(Fault::Withdrawn);
                }
                self.stir(series);
            }
            None => call.fail(Fault::BadArguments(
                "no task of that series was taken in".to_owned(),
            )),
        }
    }

    fn stir(&mut self, series: CallId) {
        if self.stirred.last() != Some(&series) {
            self.stirred.push(series);
        }
    }

    /// Reports the stored outcomes to all waiting calls, as far as they fit into a message.
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
            self.collectors.remove(&call.id());
            match &outcomes.fault {
                Some(fault) if outcomes.ended.is_empty() => call.fail(fault.clone()),
                Some(_) | None => call.reply(outcomes.take()),
            }
        }
    }

    /// Removes the series of an ended session.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        for series in ended.some_of(&self.open) {
            drop(self.remove(series));
        }
    }

    /// Removes a series. Returns the call that waits for its outcomes.
    pub(super) fn remove(&mut self, series: CallId) -> Option<Call<Vec<Ended>>> {
        let call = self.open.remove(&series)?.collector?;
        self.collectors.remove(&call.id());
        Some(call)
    }

    /// Removes a waiting call.
    pub(super) fn withdraw(&mut self, call: CallId) {
        let series = self.collectors.remove(&call);
        if let Some(outcomes) = series.and_then(|series| self.open.get_mut(&series)) {
            outcomes.collector = None;
        }
    }

    /// The calls that wait for outcomes.
    pub(super) fn collectors(&self) -> impl Iterator<Item = &Call<Vec<Ended>>> {
        let series = self.collectors.values();
        series.filter_map(|series| self.open.get(series)?.collector.as_ref())
    }
}

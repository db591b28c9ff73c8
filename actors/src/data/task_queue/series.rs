//! Series of tasks: the outcomes that were not reported to their submitter yet, and the limits of outcomes.
//!
//! Invariant: at the end of each turn, a submitter that waits receives all outcomes of its series. A series
//! with a limit keeps at most the outcomes that reach it, and those of the tasks that workers have.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    rc::Rc,
};

use lockkeeper_protocol::{
    CallId, Fault,
    codec::Blob,
    operations::{Ended, ReleaseOutcomes, TaskFault, outcome_bytes},
};

use crate::{
    data::task_queue::job::Pending,
    kind::{
        budget::{CALL_BYTES, StoredBytes},
        call::{Call, Outbox},
        hang_up::HangUp,
    },
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
    /// Whether limits have no effect any more, because the queue is closed. A pool that is joined while a
    /// stream is not read would otherwise wait for ever.
    is_unlimited: bool,
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
    limit: Option<Limit>,
}

/// The limit of a series, and what counts.
#[derive(Debug, Default)]
struct Limit {
    most: u64,
    /// The bytes of the outcomes that were not released.
    kept: u64,
    /// The number of tasks that were submitted.
    submitted: u64,
    /// The number of outcomes that were released.
    released: u64,
}

/// The outcome of a task.
#[derive(Debug)]
struct Kept {
    number: u64,
    outcome: Told,
}

/// The outcome of a chunk as the queue keeps it: tasks that end together share their fault.
pub(super) type Told = Result<Blob, Rc<TaskFault>>;

impl Limit {
    fn keep(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.kept = self.kept.saturating_add(bytes);
    }
}

impl Outcomes {
    /// Takes the first outcomes: at least one, and more only if they fit into a message.
    fn take(&mut self) -> Vec<Ended> {
        let (mut bytes, mut fit) = (0, 0);
        for ended in &self.ended {
            let length = bytes_of(&ended.outcome);
            if fit > 0 && bytes + length > MOST_BYTES_AT_A_TIME {
                break;
            }
            bytes += length;
            fit += 1;
        }
        let taken = self.ended.drain(..fit).map(|Kept { number, outcome }| {
            let outcome = outcome.map_err(Rc::unwrap_or_clone);
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

/// The approximate bytes of an outcome in a message.
fn bytes_of(outcome: &Told) -> usize {
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

    /// Begins a series with a limit, or changes its limit. A series that was begun without one stays so: its
    /// tasks were not counted.
    ///
    /// # Errors
    ///
    /// Returns a fault when the manager has no room for it.
    pub(super) fn limit(
        &mut self,
        series: CallId,
        most: u64,
        outbox: &Outbox,
    ) -> Result<(), Fault> {
        let is_new = !self.open.contains_key(&series);
        self.begin(series, outbox)?;
        if is_new && let Some(outcomes) = self.open.get_mut(&series) {
            outcomes.limit = Some(Limit::default());
        }
        if let Some(limit) = self.limit_of(series) {
            limit.most = most;
        }
        Ok(())
    }

    /// Ends the effect of all limits.
    pub(super) const fn unlimit(&mut self) {
        self.is_unlimited = true;
    }

    /// Counts tasks that are submitted to a series with a limit. Returns the number of those that were
    /// submitted before.
    pub(super) fn submit(&mut self, series: CallId, tasks: usize) -> Option<u64> {
        let limit = self.limit_of(series)?;
        let place = limit.submitted;
        let tasks = u64::try_from(tasks).unwrap_or(u64::MAX);
        limit.submitted = place.saturating_add(tasks);
        Some(place)
    }

    /// Returns how many tasks of a job may be given to a worker now.
    pub(super) fn open_tasks(&self, job: &Pending) -> usize {
        match self.limit_at(job.series()) {
            Some(limit) if limit.kept >= limit.most => usize::from(job.place <= limit.released),
            Some(_) | None => usize::MAX,
        }
    }

    /// Releases outcomes.
    pub(super) fn release(&mut self, series: CallId, released: &ReleaseOutcomes) {
        if let Some(limit) = self.limit_of(series) {
            limit.kept = limit.kept.saturating_sub(released.bytes);
            limit.released = limit.released.saturating_add(released.count);
        }
    }

    /// Counts an outcome that is kept until it is released.
    pub(super) fn keep(&mut self, series: CallId, outcome: &Told) {
        if let Some(limit) = self.limit_of(series) {
            limit.keep(bytes_of(outcome));
        }
    }

    fn limit_of(&mut self, series: CallId) -> Option<&mut Limit> {
        self.open.get_mut(&series)?.limit.as_mut()
    }

    fn limit_at(&self, series: Option<CallId>) -> Option<&Limit> {
        let series = series.filter(|_| !self.is_unlimited)?;
        self.open.get(&series)?.limit.as_ref()
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
            let bytes = bytes_of(&outcome);
            kept.set(kept.bytes() + bytes + KEPT_BYTES);
            if let Some(limit) = &mut outcomes.limit {
                limit.keep(bytes);
            }
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

    /// Makes a call wait for outcomes, in place of the call that waits now.
    pub(super) fn collect(&mut self, series: CallId, call: Call<Vec<Ended>>) {
        match self.open.get_mut(&series) {
            Some(outcomes) => {
                self.collectors.insert(call.id(), series);
                if let Some(former) = outcomes.collector.replace(call) {
                    self.collectors.remove(&former.id());
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
            self.remove(series);
        }
    }

    pub(super) fn remove(&mut self, series: CallId) {
        let outcomes = self.open.remove(&series);
        if let Some(call) = outcomes.and_then(|outcomes| outcomes.collector) {
            self.collectors.remove(&call.id());
        }
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

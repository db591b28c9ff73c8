//! `DelayedJobs`: the jobs that pause before another attempt.
//!
//! Invariant: `due` and `jobs` contain the same jobs.

use std::collections::{BTreeMap, BTreeSet};

use lockkeeper_protocol::{CallId, JobId};

use crate::{
    data::task_queue::job::Pending,
    kind::hang_up::{HangUp, SLICE},
};

#[derive(Debug, Default)]
pub(super) struct DelayedJobs {
    /// The times at which the pauses end, in nanoseconds.
    due: BTreeSet<(u64, Key)>,
    jobs: BTreeMap<Key, (u64, Pending)>,
}

/// The receiver of a job's outcome, and the job.
type Key = (CallId, JobId);

impl DelayedJobs {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.jobs.values().map(|(_, job)| job)
    }

    pub(super) fn push(&mut self, due: u64, job: Pending) {
        let key = (job.told(), job.id);
        self.due.insert((due, key));
        self.jobs.insert(key, (due, job));
    }

    /// The time at which the first pause ends.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the job whose pause ends first, if it ends by `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<Pending> {
        let (due, key) = *self.due.first()?;
        (due <= now).then(|| self.take(key)).flatten()
    }

    /// Removes a chunk.
    pub(super) fn remove(&mut self, chunk: CallId) -> Option<Pending> {
        self.take((chunk, chunk.into()))
    }

    /// Removes the jobs of a series.
    pub(super) fn leave(&mut self, series: CallId) -> Vec<Pending> {
        let (first, last) = JobId::span_of_series(series.session());
        let keys = self.jobs.range((series, first)..=(series, last));
        let keys: Vec<Key> = keys.map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Removes some jobs of an ended session.
    pub(super) fn hang_up(&mut self, ended: &HangUp) -> Vec<Pending> {
        let (least, greatest) = CallId::span(ended.session);
        let (_, last) = JobId::span_of_series(ended.session);
        let span = (least, least.into())..=(greatest, last);
        let mut theirs = self.jobs.range(span).map(|(key, _)| *key);
        let some: Vec<Key> = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            ended.continue_next_turn();
        }
        some.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Takes all jobs.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Pending> + use<> {
        self.due.clear();
        let jobs = std::mem::take(&mut self.jobs);
        jobs.into_values().map(|(_, job)| job)
    }

    fn take(&mut self, key: Key) -> Option<Pending> {
        let (due, job) = self.jobs.remove(&key)?;
        self.due.remove(&(due, key));
        Some(job)
    }
}

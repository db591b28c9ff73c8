//! `Backlog`: the jobs that wait for workers.
//!
//! A job that reaches the front of the line while its series is at its limit is paused: it leaves the line, so
//! that jobs behind it are found without a scan. Invariant: `of_series` contains each job of a series in the
//! line, `places` each paused job, and `tasks` is the number of tasks in all jobs.

use std::collections::{BTreeMap, BTreeSet};

use lockkeeper_protocol::{CallId, JobId};

use crate::{
    data::task_queue::{
        job::{Pending, Submitter},
        series::Series,
    },
    kind::hang_up::{HangUp, SLICE},
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

#[derive(Debug, Default)]
pub(super) struct Backlog {
    line: WaitQueue<Pending>,
    of_series: BTreeSet<(CallId, JobId)>,
    /// The paused jobs, by their series and their places in it.
    paused: BTreeMap<Place, Pending>,
    places: BTreeMap<CallId, Place>,
    tasks: usize,
}

/// A series, and the number of its tasks before a job.
type Place = (CallId, u64);

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.paused.is_empty()
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.paused.len()
    }

    /// The number of tasks in these jobs.
    pub(super) const fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        let line = self.line.iter().map(|(_, job)| job);
        line.chain(self.paused.values())
    }

    pub(super) fn push(&mut self, job: Pending) {
        self.enter(&job);
        self.line.push(job);
    }

    pub(super) fn push_front(&mut self, job: Pending) {
        self.enter(&job);
        self.line.push_front(job);
    }

    pub(super) fn pop_front(&mut self) -> Option<Pending> {
        let job = self.line.pop_front()?;
        self.strike(&job);
        Some(job)
    }

    /// Takes any job, paused or not.
    pub(super) fn pop_any(&mut self) -> Option<Pending> {
        let first = self.places.keys().next().copied();
        self.pop_front().or_else(|| self.remove(first?))
    }

    /// Pauses jobs until the front of the line is one that may be given to a worker. Returns whether there is
    /// one.
    pub(super) fn find_open(&mut self, series: &Series) -> bool {
        while let Some(job) = self.line.front() {
            if series.open_tasks(job) > 0 {
                return true;
            }
            if let Some(job) = self.pop_front() {
                self.pause(job);
            }
        }
        false
    }

    fn pause(&mut self, job: Pending) {
        // Only the job of a series is paused.
        if let Some(series) = job.series() {
            let place = (series, job.place);
            self.tasks += job.row.len();
            self.places.insert(job.id(), place);
            self.paused.insert(place, job);
        }
    }

    /// Returns the paused jobs of a series to the front of the line, in order, if the first may be given to a
    /// worker.
    pub(super) fn resume(&mut self, id: CallId, series: &Series) {
        let mut paused = self.paused.range((id, 0)..=(id, u64::MAX));
        let is_open = paused
            .next()
            .is_some_and(|(_, job)| series.open_tasks(job) > 0);
        while is_open && let Some(job) = self.pop_last_paused(id) {
            self.push_front(job);
        }
    }

    /// Returns all paused jobs to the front of the line.
    pub(super) fn resume_all(&mut self) {
        while let Some((_, job)) = self.paused.pop_last() {
            self.forget_place(&job);
            self.push_front(job);
        }
    }

    fn pop_last_paused(&mut self, series: CallId) -> Option<Pending> {
        let mut theirs = self.paused.range((series, 0)..=(series, u64::MAX));
        let (place, _) = theirs.next_back()?;
        let place = *place;
        let job = self.paused.remove(&place)?;
        self.forget_place(&job);
        Some(job)
    }

    fn forget_place(&mut self, job: &Pending) {
        self.places.remove(&job.id());
        self.tasks -= job.row.len();
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<Pending> {
        if let Some(job) = self.line.remove(id) {
            self.strike(&job);
            return Some(job);
        }
        let place = self.places.get(&id)?;
        let job = self.paused.remove(place)?;
        self.forget_place(&job);
        Some(job)
    }

    /// Removes the jobs of a series.
    pub(super) fn remove_series(&mut self, series: CallId) {
        let (first, last) = JobId::span_of_series(series.session());
        while let Some((_, job)) = self
            .of_series
            .range((series, first)..=(series, last))
            .next()
        {
            let job = *job;
            if self.remove(job.into()).is_none() {
                break;
            }
        }
        while self.pop_last_paused(series).is_some() {}
    }

    /// Removes the jobs of an ended session.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        for job in self.line.hang_up(ended) {
            self.strike(&job);
        }
        let (least, greatest) = CallId::span(ended.session);
        let mut theirs = self
            .paused
            .range((least, 0)..=(greatest, u64::MAX))
            .map(|(_, job)| job.id());
        let some: Vec<_> = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            ended.continue_next_turn();
        }
        for job in some {
            drop(self.remove(job));
        }
    }

    fn enter(&mut self, job: &Pending) {
        // The line drops a job whose id it already contains.
        drop(self.remove(job.id()));
        self.tasks += job.row.len();
        if let Submitter::Series { series, .. } = job.submitter {
            self.of_series.insert((series, job.id));
        }
    }

    fn strike(&mut self, job: &Pending) {
        self.tasks -= job.row.len();
        if let Submitter::Series { series, .. } = job.submitter {
            self.of_series.remove(&(series, job.id));
        }
    }
}

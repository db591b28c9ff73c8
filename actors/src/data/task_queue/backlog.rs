//! `Backlog`: the jobs that wait for workers.
//!
//! Invariant: `of_series` contains each waiting job of a series, and `tasks` is the number of tasks in all
//! jobs.

use std::collections::BTreeSet;

use lockkeeper_protocol::{CallId, JobId};

use crate::{
    data::task_queue::job::{Pending, Submitter},
    kind::hang_up::HangUp,
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

#[derive(Debug, Default)]
pub(super) struct Backlog {
    line: WaitQueue<Pending>,
    of_series: BTreeSet<(CallId, JobId)>,
    tasks: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// The number of tasks in these jobs.
    pub(super) const fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.line.iter().map(|(_, job)| job)
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

    pub(super) fn remove(&mut self, id: CallId) -> Option<Pending> {
        let job = self.line.remove(id)?;
        self.strike(&job);
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
    }

    /// Removes the jobs of an ended session.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        for job in self.line.hang_up(ended) {
            self.strike(&job);
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

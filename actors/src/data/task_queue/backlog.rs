//! `Backlog`: the jobs that wait for workers.
//!
//! The jobs of series with limits wait by themselves in [`LimitedJobs`], so that jobs behind a series at its
//! limit are found without a scan. All others wait in `line`. Each job has a turn, and the job with the least
//! turn that may be given to a worker is the next one. Jobs that pause before another attempt are in
//! [`DelayedJobs`].
//!
//! Invariant: `of_series` contains each job of a series in the line, and `tasks` is the number of tasks in all
//! jobs.

use std::collections::BTreeSet;

use lockkeeper_protocol::{CallId, JobId};

use crate::{
    data::task_queue::{
        delayed::DelayedJobs,
        job::{Pending, Submitter, Turn},
        limited::LimitedJobs,
    },
    kind::hang_up::HangUp,
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

#[derive(Debug, Default)]
pub(super) struct Backlog {
    line: WaitQueue<Pending>,
    of_series: BTreeSet<(CallId, JobId)>,
    pub(super) limited: LimitedJobs,
    delayed: DelayedJobs,
    tasks: usize,
    /// The least and the greatest turn that a job was given.
    first: Turn,
    last: Turn,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a job may be given to a worker.
    pub(super) fn has_open(&self) -> bool {
        !self.line.is_empty() || self.limited.first_turn().is_some()
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.limited.len() + self.delayed.len()
    }

    /// The number of tasks in these jobs.
    pub(super) const fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        let line = self.line.iter().map(|(_, job)| job);
        line.chain(self.limited.iter()).chain(self.delayed.iter())
    }

    pub(super) fn push(&mut self, mut job: Pending) {
        self.last += 1;
        job.turn = self.last;
        if let Some(job) = self.enter(job) {
            self.line.push(job);
        }
    }

    pub(super) fn push_front(&mut self, mut job: Pending) {
        self.first -= 1;
        job.turn = self.first;
        if let Some(job) = self.enter(job) {
            self.line.push_front(job);
        }
    }

    /// Adds a job that waits until `due`, in nanoseconds.
    pub(super) fn delay(&mut self, due: u64, job: Pending) {
        self.tasks += job.row.len();
        self.delayed.push(due, job);
    }

    /// The time at which the first pause ends.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.delayed.next_due()
    }

    /// Makes jobs whose pause is over wait before all others, at most `most`.
    pub(super) fn end_pauses(&mut self, now: u64, most: usize) {
        let over: Vec<Pending> = (0..most).map_while(|_| self.delayed.pop_due(now)).collect();
        for job in over.into_iter().rev() {
            self.tasks -= job.row.len();
            self.push_front(job);
        }
    }

    /// Takes the next job, and returns how many of its tasks may be given to a worker.
    pub(super) fn pop_front(&mut self) -> Option<(Pending, usize)> {
        let in_line = self.line.front().map(|job| job.turn);
        let next = match (in_line, self.limited.first_turn()) {
            (Some(in_line), Some(limited)) if in_line > limited => self.limited.pop_first(),
            (None, _) => self.limited.pop_first(),
            (Some(_), _) => self.line.pop_front().map(|job| (job, usize::MAX)),
        };
        let (job, tasks) = next?;
        self.strike(&job);
        Some((job, tasks))
    }

    /// Takes all jobs.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Pending> + use<> {
        self.tasks = 0;
        self.of_series.clear();
        let all = self.line.take_all().chain(self.limited.take_all());
        all.chain(self.delayed.take_all())
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<Pending> {
        let job = self.line.remove(id).or_else(|| self.limited.remove(id));
        let job = job.or_else(|| self.delayed.remove(id))?;
        self.strike(&job);
        Some(job)
    }

    /// Removes a series. Returns its jobs.
    pub(super) fn leave(&mut self, series: CallId) -> Vec<Pending> {
        let mut jobs = self.limited.leave(series);
        jobs.extend(self.delayed.leave(series));
        jobs.iter().for_each(|job| self.strike(job));
        let (first, last) = JobId::span_of_series(series.session());
        while let Some((_, job)) = self
            .of_series
            .range((series, first)..=(series, last))
            .next()
            && let Some(job) = self.remove((*job).into())
        {
            jobs.push(job);
        }
        jobs
    }

    /// Removes some jobs of an ended session.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        let mut jobs = self.line.hang_up(ended);
        jobs.extend(self.limited.hang_up(ended));
        jobs.extend(self.delayed.hang_up(ended));
        jobs.iter().for_each(|job| self.strike(job));
    }

    /// Counts a job, and adds it to its series if that has a limit. Returns it if not.
    fn enter(&mut self, job: Pending) -> Option<Pending> {
        // The line drops a job whose id it already contains.
        drop(self.remove(job.id()));
        self.tasks += job.row.len();
        if let Some(series) = job.series().filter(|series| self.limited.has(*series)) {
            self.limited.push(series, job);
            return None;
        }
        if let Submitter::Series { series, .. } = job.submitter {
            self.of_series.insert((series, job.id));
        }
        Some(job)
    }

    fn strike(&mut self, job: &Pending) {
        self.tasks -= job.row.len();
        if let Submitter::Series { series, .. } = job.submitter {
            self.of_series.remove(&(series, job.id));
        }
    }
}

//! `LimitedJobs`: the waiting jobs of the series that limit the bytes of their outcomes.
//!
//! The jobs of a series wait in the order of their submission, and only the first one competes with other jobs
//! for a worker. So a release takes the same time however many jobs wait.
//!
//! Invariant: `open` contains each series whose first job may be given to a worker, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use lockkeeper_protocol::{CallId, JobId, operations::ReleaseOutcomes};

use crate::{
    data::task_queue::{
        job::{Pending, Turn},
        series::{Told, told_bytes},
    },
    kind::hang_up::{HangUp, SLICE},
};

#[derive(Debug, Default)]
pub(super) struct LimitedJobs {
    limits: BTreeMap<CallId, Limit>,
    jobs: BTreeMap<Key, Pending>,
    /// The key of each waiting chunk.
    chunks: BTreeMap<CallId, Key>,
    open: BTreeSet<(Turn, CallId)>,
    /// Whether limits have no effect any more, because the queue is closed. A pool that is joined while a
    /// stream is not read would otherwise wait for ever.
    is_unlimited: bool,
}

/// The series of a job, its position and its id. Two jobs have the same position if a client uses the number
/// of a series again while a worker still has a chunk of the former series.
type Key = (CallId, u64, JobId);

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
    /// The turn of the first job, while the series is in `open`.
    turn: Option<Turn>,
}

impl Limit {
    const fn is_reached(&self) -> bool {
        self.kept >= self.most
    }

    /// Returns how many tasks of the first job may be given to a worker.
    fn open_tasks(&self, first: &Pending) -> usize {
        if self.is_reached() {
            usize::from(first.position <= self.released)
        } else {
            usize::MAX
        }
    }
}

impl LimitedJobs {
    /// Begins a series with a limit, or changes the limit.
    pub(super) fn limit(&mut self, series: CallId, most: u64) {
        self.limits.entry(series).or_default().most = most;
        self.update(series);
    }

    pub(super) fn has(&self, series: CallId) -> bool {
        self.limits.contains_key(&series)
    }

    /// Counts tasks that are submitted to a series with a limit. Returns the position of the first.
    pub(super) fn submit(&mut self, series: CallId, tasks: usize) -> Option<u64> {
        let limit = self.limits.get_mut(&series)?;
        let position = limit.submitted;
        let tasks = u64::try_from(tasks).unwrap_or(u64::MAX);
        limit.submitted = position.saturating_add(tasks);
        Some(position)
    }

    /// Counts an outcome that is kept until it is released.
    pub(super) fn keep(&mut self, series: CallId, outcome: &Told) {
        if let Some(limit) = self.limits.get_mut(&series) {
            let was_reached = limit.is_reached();
            let bytes = u64::try_from(told_bytes(outcome)).unwrap_or(u64::MAX);
            limit.kept = limit.kept.saturating_add(bytes);
            if limit.is_reached() != was_reached {
                self.update(series);
            }
        }
    }

    pub(super) fn release(&mut self, series: CallId, released: &ReleaseOutcomes) {
        if let Some(limit) = self.limits.get_mut(&series) {
            limit.kept = limit.kept.saturating_sub(released.bytes);
            limit.released = limit.released.saturating_add(released.count);
            self.update(series);
        }
    }

    /// Ends the effect of all limits.
    pub(super) fn unlimit(&mut self) {
        self.is_unlimited = true;
        let all: Vec<CallId> = self.limits.keys().copied().collect();
        all.into_iter().for_each(|series| self.update(series));
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.jobs.values()
    }

    /// Adds a job of a series that has a limit.
    pub(super) fn push(&mut self, series: CallId, job: Pending) {
        let key = (series, job.position, job.id);
        if let Some(call) = job.call() {
            self.chunks.insert(call.id(), key);
        }
        self.jobs.insert(key, job);
        self.update(series);
    }

    /// The first turn of a job that may be given to a worker.
    pub(super) fn first_turn(&self) -> Option<Turn> {
        self.open.first().map(|(turn, _)| *turn)
    }

    /// Takes the first job that may be given to a worker, and returns how many of its tasks may be given.
    pub(super) fn pop_first(&mut self) -> Option<(Pending, usize)> {
        let (_, series) = *self.open.first()?;
        let limit = self.limits.get(&series)?;
        let (key, first) = self.first_of(series)?;
        let tasks = match self.is_unlimited {
            true => usize::MAX,
            false => limit.open_tasks(first),
        };
        let job = self.take(key)?;
        Some((job, tasks))
    }

    /// Removes a chunk.
    pub(super) fn remove(&mut self, chunk: CallId) -> Option<Pending> {
        let key = *self.chunks.get(&chunk)?;
        self.take(key)
    }

    /// Removes a series. Returns its jobs.
    pub(super) fn leave(&mut self, series: CallId) -> Vec<Pending> {
        self.forget(series);
        let jobs = self.jobs.range(span(series, series));
        let jobs: Vec<Key> = jobs.map(|(key, _)| *key).collect();
        jobs.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Removes some jobs and series of an ended session. Returns the jobs.
    pub(super) fn hang_up(&mut self, ended: &HangUp) -> Vec<Pending> {
        for series in ended.some_of(&self.limits) {
            self.forget(series);
        }
        let (least, greatest) = CallId::span(ended.session);
        let mut theirs = self.jobs.range(span(least, greatest)).map(|(key, _)| *key);
        let some: Vec<Key> = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            ended.continue_next_turn();
        }
        some.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Takes all jobs.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Pending> + use<> {
        self.chunks.clear();
        self.open.clear();
        let limits = self.limits.values_mut();
        limits.for_each(|limit| limit.turn = None);
        std::mem::take(&mut self.jobs).into_values()
    }

    fn first_of(&self, series: CallId) -> Option<(Key, &Pending)> {
        let (key, first) = self.jobs.range(span(series, series)).next()?;
        Some((*key, first))
    }

    fn take(&mut self, key: Key) -> Option<Pending> {
        let job = self.jobs.remove(&key)?;
        if let Some(call) = job.call() {
            self.chunks.remove(&call.id());
        }
        self.update(key.0);
        Some(job)
    }

    fn forget(&mut self, series: CallId) {
        let limit = self.limits.remove(&series);
        if let Some(turn) = limit.and_then(|limit| limit.turn) {
            self.open.remove(&(turn, series));
        }
    }

    /// Adds a series to `open` or removes it. Every path that changes a limit or the jobs ends here.
    fn update(&mut self, series: CallId) {
        let first = self.first_of(series).map(|(_, first)| first);
        let Some(limit) = self.limits.get(&series) else {
            return;
        };
        let is_open = |first: &&Pending| self.is_unlimited || limit.open_tasks(first) > 0;
        let turn = first.filter(is_open).map(|first| first.turn);
        if turn == limit.turn {
            return;
        }
        if let Some(former) = limit.turn {
            self.open.remove(&(former, series));
        }
        self.open.extend(turn.map(|turn| (turn, series)));
        if let Some(limit) = self.limits.get_mut(&series) {
            limit.turn = turn;
        }
    }
}

/// The keys of all jobs of the series from `first` to `last`, which belong to one session.
fn span(first: CallId, last: CallId) -> RangeInclusive<Key> {
    let (least, _) = CallId::span(first.session());
    let (_, greatest) = JobId::span_of_series(last.session());
    (first, 0, least.into())..=(last, u64::MAX, greatest)
}

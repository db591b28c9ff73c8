//! `AssignedJobs`: the jobs that workers have.
//!
//! A worker receives jobs in an order and may report them in any order. Each worker therefore has an index by
//! job, and all workers together have one by submitter, so that no step visits unrelated jobs.
//!
//! A job is *awaited* while its submitter waits for the outcome. Invariant: `awaited` contains each such job,
//! `running` is the number of their tasks, and `held` is the number of all tasks that workers have.

use std::collections::BTreeMap;

use lockkeeper_protocol::{CallId, JobId, SessionId};

use crate::{
    data::task_queue::job::Pending,
    kind::{
        budget::StoredBytes,
        hang_up::{HangUp, SLICE},
    },
};

/// The jobs of all workers.
#[derive(Debug, Default)]
pub(super) struct AssignedJobs {
    /// Workers without jobs are removed.
    workers: BTreeMap<SessionId, JobsOfWorker>,
    /// The worker of each awaited job, by the call or the series that receives its outcome. The job id is
    /// that of the first job of its entry.
    awaited: BTreeMap<(CallId, JobId), SessionId>,
    /// The number of awaited tasks.
    running: usize,
    /// The number of tasks, awaited or not.
    held: usize,
    /// The number of tasks that were ever given out.
    given: u64,
}

/// The jobs of one worker.
#[derive(Debug, Default)]
struct JobsOfWorker {
    jobs: BTreeMap<Given, TakenJobs>,
    /// The key of each entry, by its first job. That job may be finished already: ids are never reused.
    places: BTreeMap<JobId, Given>,
    /// The worker's last report that was a call.
    reported: Option<CallId>,
    /// Whether the worker has begun none of the jobs.
    has_begun_none: bool,
    /// When the worker has begun the first of the jobs, in nanoseconds: when it was given it, or has reported the
    /// job before it.
    since: u64,
}

/// The key of an entry: the call for work that was answered with it, and its number.
type Given = (CallId, u64);

/// The jobs that a worker received as one entry, without those that it has finished.
#[derive(Debug)]
struct TakenJobs {
    /// The first job and the number of jobs.
    id: JobId,
    count: usize,
    /// The time limit of each job, in nanoseconds. It applies also while the entry is not awaited.
    limit: Option<u64>,
    /// `None` once the entry is not awaited. The worker may still be running it.
    job: Option<Pending>,
}

/// The first job of a worker, which it runs.
pub(super) struct First<'a> {
    pub(super) worker: SessionId,
    pub(super) id: JobId,
    /// When it began, in nanoseconds.
    pub(super) since: u64,
    pub(super) limit: Option<u64>,
    /// Whether the worker has no other job.
    pub(super) is_alone: bool,
    /// The entry that contains it, if that is awaited.
    pub(super) job: Option<&'a Pending>,
}

impl AssignedJobs {
    /// Returns whether a worker has any job.
    pub(super) fn has(&self, worker: SessionId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The number of awaited tasks that workers have.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// The number of tasks that workers have, awaited or not.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// The awaited jobs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        let taken = self.workers.values().flat_map(|held| held.jobs.values());
        taken.filter_map(|taken| taken.job.as_ref())
    }

    /// Gives a job to the worker that made a call for work.
    pub(super) fn give(&mut self, by: CallId, job: Pending, now: u64) {
        let place = self.given;
        let is_first = !self.has(by.session());
        let (id, count) = (job.id, job.row.len());
        self.given += u64::try_from(count).unwrap_or_default();
        self.running += count;
        self.held += count;
        let limit = job.limit();
        let job = Some(job);
        let taken = TakenJobs {
            id,
            count,
            limit,
            job,
        };
        self.put((by, place), taken);
        if is_first {
            self.begin(by.session(), now);
        }
    }

    /// Records that a worker begins its first job.
    pub(super) fn begin(&mut self, worker: SessionId, now: u64) {
        if let Some(held) = self.workers.get_mut(&worker) {
            held.since = now;
        }
    }

    /// The first job of each worker that has jobs.
    pub(super) fn firsts(&self) -> impl Iterator<Item = First<'_>> {
        let workers = self.workers.iter();
        workers.filter_map(|(worker, held)| held.first(*worker))
    }

    pub(super) fn first(&self, worker: SessionId) -> Option<First<'_>> {
        self.workers.get(&worker)?.first(worker)
    }

    /// Marks an awaited chunk as killed. Returns its worker.
    pub(super) fn kill(&mut self, chunk: CallId) -> Option<SessionId> {
        let job = JobId::from(chunk);
        let worker = *self.awaited.get(&(chunk, job))?;
        let held = self.workers.get_mut(&worker)?;
        let given = held.places.get(&job)?;
        held.jobs.get_mut(given)?.job.as_mut()?.is_killed = true;
        Some(worker)
    }

    /// Returns whether a worker has a job.
    pub(super) fn has_job(&self, worker: SessionId, job: JobId) -> bool {
        let held = self.workers.get(&worker);
        held.is_some_and(|held| {
            let given = held.place_of(job).map(|(_, given)| given);
            let taken = given.and_then(|given| held.jobs.get(&given));
            taken.is_some_and(|taken| taken.place_of(job).is_some())
        })
    }

    /// Takes an awaited chunk from the queue's records. Its worker still counts as having it.
    pub(super) fn give_up(&mut self, worker: SessionId, job: JobId) -> Option<Pending> {
        let held = self.workers.get_mut(&worker)?;
        let given = held.places.get(&job)?;
        let taken = held.jobs.get_mut(given)?;
        self.running -= taken.awaited();
        let pending = taken.job.take()?;
        self.awaited.remove(&(pending.told(), job));
        Some(pending)
    }

    /// Takes the first of several awaited tasks of a series, which is the usual case. Returns the series, the
    /// number of the task and its counted bytes. The worker begins the next task `now`.
    pub(super) fn take_first(
        &mut self,
        worker: SessionId,
        job: JobId,
        now: u64,
    ) -> Option<(CallId, u64, StoredBytes)> {
        let held = self.workers.get_mut(&worker)?;
        let (_, given) = held.place_of(job)?;
        let taken = held.jobs.get_mut(&given)?;
        if taken.id != job || taken.count < 2 {
            return None;
        }
        let ended = taken.job.as_mut()?.pop_front()?;
        taken.id = taken.id.plus(1);
        taken.count -= 1;
        held.since = now;
        self.running -= 1;
        self.held -= 1;
        Some(ended)
    }

    /// Takes a job from a worker. Returns it if it is awaited. If the worker has reported it, the worker `begins` the
    /// next one.
    pub(super) fn take(
        &mut self,
        worker: SessionId,
        job: JobId,
        begins: Option<u64>,
    ) -> Option<Pending> {
        let held = self.workers.get_mut(&worker)?;
        let (first, given) = held.place_of(job)?;
        let place = held.jobs.get(&given)?.place_of(job)?;
        held.places.remove(&first);
        let mut taken = held.jobs.remove(&given)?;
        held.since = begins.unwrap_or(held.since);
        let since = held.since;
        if held.jobs.is_empty() {
            self.workers.remove(&worker);
        }
        self.await_no_more(first, taken.job.as_ref());
        let (by, number) = given;
        let is_split = taken.count > 1;
        if taken.count > place + 1 {
            let (until, behind) = taken.split(place + 1);
            let further = u64::try_from(place + 1).unwrap_or_default();
            self.put((by, number + further), behind);
            taken = until;
        }
        if place > 0 {
            let (before, one) = taken.split(place);
            self.put(given, before);
            taken = one;
        }
        if is_split {
            self.begin(worker, since);
        }
        self.running -= taken.awaited();
        self.held -= taken.count;
        taken.job
    }

    /// Takes all jobs with which a call for work was answered.
    pub(super) fn take_answer(&mut self, by: CallId) -> Vec<Pending> {
        let mut jobs = Vec::new();
        while let Some(held) = self.workers.get_mut(&by.session())
            && let Some((given, taken)) = held.jobs.range((by, 0)..=(by, u64::MAX)).next()
        {
            let (given, id) = (*given, taken.id);
            let Some((first, _)) = held.place_of(id) else {
                break;
            };
            held.places.remove(&first);
            let taken = held.jobs.remove(&given);
            if held.jobs.is_empty() {
                self.workers.remove(&by.session());
            }
            self.held -= taken.as_ref().map_or(0, |taken| taken.count);
            let job = taken.and_then(|taken| taken.job);
            self.await_no_more(first, job.as_ref());
            self.running -= job.as_ref().map_or(0, |job| job.row.len());
            jobs.extend(job);
        }
        jobs
    }

    /// Records a report that a worker makes as a call. The worker begins no job before it has the answer.
    pub(super) fn reported(&mut self, call: CallId) {
        self.last_report(call.session(), Some(call));
    }

    /// Records that a worker requests jobs, so it has the answers to its reports.
    pub(super) fn requests(&mut self, worker: SessionId) {
        self.last_report(worker, None);
    }

    fn last_report(&mut self, worker: SessionId, call: Option<CallId>) {
        if let Some(held) = self.workers.get_mut(&worker) {
            (held.reported, held.has_begun_none) = (call, false);
        }
    }

    /// Records that a worker has not received the answer to a call.
    pub(super) fn is_unseen(&mut self, call: CallId) {
        if let Some(held) = self.workers.get_mut(&call.session())
            && held.reported == Some(call)
        {
            held.has_begun_none = true;
        }
    }

    /// Returns whether a worker is known to have begun none of its jobs.
    pub(super) fn has_begun_none(&self, worker: SessionId) -> bool {
        let held = self.workers.get(&worker);
        held.is_some_and(|held| held.has_begun_none)
    }

    /// The number of a worker's entries.
    pub(super) fn entries(&self, worker: SessionId) -> usize {
        let held = self.workers.get(&worker);
        held.map_or(0, |held| held.jobs.len())
    }

    /// Takes the latest entry of a worker, and returns it if it is awaited.
    pub(super) fn take_last(&mut self, worker: SessionId) -> Option<Pending> {
        let held = self.workers.get_mut(&worker)?;
        let (_, taken) = held.jobs.pop_last()?;
        let place = held.place_of(taken.id);
        if let Some((first, _)) = place {
            held.places.remove(&first);
        }
        if held.jobs.is_empty() {
            self.workers.remove(&worker);
        }
        if let Some((first, _)) = place {
            self.await_no_more(first, taken.job.as_ref());
        }
        self.running -= taken.awaited();
        self.held -= taken.count;
        taken.job
    }

    /// Takes all awaited jobs. Their workers still count as having them.
    pub(super) fn take_awaited(&mut self) -> Vec<Pending> {
        self.awaited.clear();
        self.running = 0;
        let assigned = self.workers.values_mut();
        let taken = assigned.flat_map(|held| held.jobs.values_mut());
        taken.filter_map(|taken| taken.job.take()).collect()
    }

    /// Marks a chunk as no longer awaited.
    pub(super) fn forget(&mut self, chunk: CallId) {
        self.forget_awaited((chunk, chunk.into()));
    }

    /// Marks the jobs of a series as no longer awaited.
    pub(super) fn forget_series(&mut self, series: CallId) {
        let (first, last) = JobId::span_of_series(series.session());
        while let Some((key, _)) = self.awaited.range((series, first)..=(series, last)).next() {
            self.forget_awaited(*key);
        }
    }

    /// Marks the jobs that an ended session submitted as no longer awaited.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        let (least, greatest) = CallId::span(ended.session);
        let (_, last) = JobId::span_of_series(ended.session);
        let span = (least, least.into())..=(greatest, last);
        let mut theirs = self.awaited.range(span).map(|(key, _)| *key);
        let some: Vec<_> = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            ended.continue_next_turn();
        }
        for key in some {
            self.forget_awaited(key);
        }
    }

    fn forget_awaited(&mut self, key: (CallId, JobId)) {
        let worker = self.awaited.remove(&key);
        let held = worker.and_then(|worker| self.workers.get_mut(&worker));
        if let Some(held) = held
            && let Some(given) = held.places.get(&key.1)
            && let Some(taken) = held.jobs.get_mut(given)
        {
            self.running -= taken.awaited();
            taken.job = None;
        }
    }

    /// Returns whether no job is stored.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.awaited.is_empty() && (self.running, self.held) == (0, 0)
    }

    fn put(&mut self, given: Given, taken: TakenJobs) {
        let worker = given.0.session();
        if let Some(job) = &taken.job {
            self.awaited.insert((job.told(), taken.id), worker);
        }
        let held = self.workers.entry(worker).or_default();
        held.places.insert(taken.id, given);
        held.jobs.insert(given, taken);
    }

    fn await_no_more(&mut self, first: JobId, job: Option<&Pending>) {
        if let Some(job) = job {
            self.awaited.remove(&(job.told(), first));
        }
    }
}

impl JobsOfWorker {
    fn first(&self, worker: SessionId) -> Option<First<'_>> {
        let (_, taken) = self.jobs.first_key_value()?;
        Some(First {
            worker,
            id: taken.id,
            since: self.since,
            limit: taken.limit,
            is_alone: self.jobs.len() == 1 && taken.count == 1,
            job: taken.job.as_ref(),
        })
    }

    /// The key of the entry that contains a job, with the entry's first job.
    fn place_of(&self, job: JobId) -> Option<(JobId, Given)> {
        let (first, given) = self.places.range(..=job).next_back()?;
        Some((*first, *given))
    }
}

impl TakenJobs {
    /// The index of a job in the entry.
    fn place_of(&self, job: JobId) -> Option<usize> {
        job.behind(self.id).filter(|place| *place < self.count)
    }

    /// The number of awaited tasks in the entry.
    fn awaited(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.row.len())
    }

    /// Splits the first `count` jobs from the others.
    fn split(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.job.map(|job| job.split_at(count)).unzip();
        let first = Self {
            id: self.id,
            count,
            limit: self.limit,
            job: first,
        };
        let rest = Self {
            id: self.id.plus(count),
            count: self.count.saturating_sub(count),
            limit: self.limit,
            job: rest.flatten(),
        };
        (first, rest)
    }
}

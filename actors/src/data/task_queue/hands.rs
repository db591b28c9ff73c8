//! `Hands`: the jobs that workers have.
//!
//! A worker has them in the order in which it was given them, and names them in any order. So each hand has
//! an index by job, and all hands have one by submitter: no step visits the jobs that it does not concern.
//!
//! A job is *awaited* while its submitter waits for the outcome. Invariant: `awaited` has each such job, and
//! `running` counts its tasks.
//! `held` counts all tasks that workers have.

use std::collections::BTreeMap;

use lockkeeper_protocol::{CallId, JobId, SessionId};

use crate::{
    data::task_queue::job::Pending,
    kind::{
        budget::Stored,
        hang_up::{HangUp, SLICE},
    },
};

/// What workers have.
#[derive(Debug, Default)]
pub(super) struct Hands {
    /// Empty hands are forgotten.
    workers: BTreeMap<SessionId, Hand>,
    /// The worker that has each awaited job, by the call or the series that is told of its outcome. The job is the
    /// first that was given with it.
    awaited: BTreeMap<(CallId, JobId), SessionId>,
    /// How many tasks are awaited.
    running: usize,
    /// How many tasks there are, awaited or not.
    held: usize,
    /// How many tasks were given out.
    given: u64,
}

/// What one worker has.
#[derive(Debug, Default)]
struct Hand {
    jobs: BTreeMap<Given, Taken>,
    /// Where each entry is, by its first job. That job may be finished already: ids are not used again.
    places: BTreeMap<JobId, Given>,
}

/// When a worker was given something: by the call for work that was answered with it, and in which order.
type Given = (CallId, u64);

/// What a worker was given at once, without what it has finished.
#[derive(Debug)]
struct Taken {
    /// The first, and how many there are.
    id: JobId,
    count: usize,
    /// Empty once it is not awaited any more. The worker may still be running it.
    job: Option<Pending>,
}

impl Hands {
    /// Whether a worker has anything.
    pub(super) fn has(&self, worker: SessionId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// How many awaited tasks workers have.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// How many tasks workers have, awaited or not.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// The awaited jobs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        let taken = self.workers.values().flat_map(|hand| hand.jobs.values());
        taken.filter_map(|taken| taken.job.as_ref())
    }

    /// Gives a job to the worker that has made a call for work.
    pub(super) fn give(&mut self, by: CallId, job: Pending) {
        let place = self.given;
        let (id, count) = (job.id, job.row.len());
        self.given += u64::try_from(count).unwrap_or_default();
        self.running += count;
        self.held += count;
        let job = Some(job);
        self.put((by, place), Taken { id, count, job });
    }

    /// Takes the first of several awaited tasks of a series, as most of them are taken. Gives
    /// the series, the number of the task and what is stored of it.
    pub(super) fn take_first(
        &mut self,
        worker: SessionId,
        job: JobId,
    ) -> Option<(CallId, u64, Stored)> {
        let hand = self.workers.get_mut(&worker)?;
        let (_, given) = hand.place_of(job)?;
        let taken = hand.jobs.get_mut(&given)?;
        if taken.id != job || taken.count < 2 {
            return None;
        }
        let ended = taken.job.as_mut()?.pop_front()?;
        taken.id = taken.id.plus(1);
        taken.count -= 1;
        self.running -= 1;
        self.held -= 1;
        Some(ended)
    }

    /// Takes any job. Returns it if it is awaited.
    pub(super) fn take(&mut self, worker: SessionId, job: JobId) -> Option<Pending> {
        let hand = self.workers.get_mut(&worker)?;
        let (first, given) = hand.place_of(job)?;
        let place = hand.jobs.get(&given)?.place_of(job)?;
        hand.places.remove(&first);
        let mut taken = hand.jobs.remove(&given)?;
        if hand.jobs.is_empty() {
            self.workers.remove(&worker);
        }
        self.await_no_more(first, taken.job.as_ref());
        let (by, number) = given;
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
        self.running -= taken.awaited();
        self.held -= taken.count;
        taken.job
    }

    /// Takes all that a call for work was answered with.
    pub(super) fn take_answer(&mut self, by: CallId) -> Vec<Pending> {
        let mut jobs = Vec::new();
        while let Some(hand) = self.workers.get_mut(&by.session())
            && let Some((given, taken)) = hand.jobs.range((by, 0)..=(by, u64::MAX)).next()
        {
            let (given, id) = (*given, taken.id);
            let Some((first, _)) = hand.place_of(id) else {
                break;
            };
            hand.places.remove(&first);
            let taken = hand.jobs.remove(&given);
            if hand.jobs.is_empty() {
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

    /// How many entries a worker has.
    pub(super) fn entries(&self, worker: SessionId) -> usize {
        let hand = self.workers.get(&worker);
        hand.map_or(0, |hand| hand.jobs.len())
    }

    /// Takes the entry that a worker was given last, and returns it if it is awaited.
    pub(super) fn take_last(&mut self, worker: SessionId) -> Option<Pending> {
        let hand = self.workers.get_mut(&worker)?;
        let (_, taken) = hand.jobs.pop_last()?;
        let place = hand.place_of(taken.id);
        if let Some((first, _)) = place {
            hand.places.remove(&first);
        }
        if hand.jobs.is_empty() {
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
        let hands = self.workers.values_mut();
        let taken = hands.flat_map(|hand| hand.jobs.values_mut());
        taken.filter_map(|taken| taken.job.take()).collect()
    }

    /// Forgets who waits for a chunk.
    pub(super) fn forget(&mut self, chunk: CallId) {
        self.forget_awaited((chunk, chunk.into()));
    }

    /// Forgets who waits for jobs of a series.
    pub(super) fn forget_series(&mut self, series: CallId) {
        let (first, last) = JobId::span_of_series(series.session());
        while let Some((key, _)) = self.awaited.range((series, first)..=(series, last)).next() {
            self.forget_awaited(*key);
        }
    }

    /// Forgets what an ended session waits for.
    pub(super) fn hang_up(&mut self, ended: &HangUp) {
        let (least, greatest) = CallId::span(ended.session);
        let (_, last) = JobId::span_of_series(ended.session);
        let span = (least, least.into())..=(greatest, last);
        let mut theirs = self.awaited.range(span).map(|(key, _)| *key);
        let some: Vec<_> = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            ended.go_on();
        }
        for key in some {
            self.forget_awaited(key);
        }
    }

    fn forget_awaited(&mut self, key: (CallId, JobId)) {
        let worker = self.awaited.remove(&key);
        let hand = worker.and_then(|worker| self.workers.get_mut(&worker));
        if let Some(hand) = hand
            && let Some(given) = hand.places.get(&key.1)
            && let Some(taken) = hand.jobs.get_mut(given)
        {
            self.running -= taken.awaited();
            taken.job = None;
        }
    }

    /// Whether nothing is kept of any job.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.awaited.is_empty() && (self.running, self.held) == (0, 0)
    }

    fn put(&mut self, given: Given, taken: Taken) {
        let worker = given.0.session();
        if let Some(job) = &taken.job {
            self.awaited.insert((job.told(), taken.id), worker);
        }
        let hand = self.workers.entry(worker).or_default();
        hand.places.insert(taken.id, given);
        hand.jobs.insert(given, taken);
    }

    fn await_no_more(&mut self, first: JobId, job: Option<&Pending>) {
        if let Some(job) = job {
            self.awaited.remove(&(job.told(), first));
        }
    }
}

impl Hand {
    /// Which entry a job is in if it is there, by its first job.
    fn place_of(&self, job: JobId) -> Option<(JobId, Given)> {
        let (first, given) = self.places.range(..=job).next_back()?;
        Some((*first, *given))
    }
}

impl Taken {
    /// Which one of them a job is.
    fn place_of(&self, job: JobId) -> Option<usize> {
        job.behind(self.id).filter(|place| *place < self.count)
    }

    /// How many of them are awaited.
    fn awaited(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.row.len())
    }

    /// Parts the first ones from the others, of which there are some.
    fn split(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.job.map(|job| job.split_at(count)).unzip();
        let first = Self {
            id: self.id,
            count,
            job: first,
        };
        let rest = Self {
            id: self.id.plus(count),
            count: self.count.saturating_sub(count),
            job: rest.flatten(),
        };
        (first, rest)
    }
}

//! `Jobs`: what the task queue does with jobs and workers.
//!
//! Invariant: a job waits only while no worker waits, while its series is at its limit of outcomes, or while it
//! pauses before another attempt.

use std::{rc::Rc, time::Duration};

use lockkeeper_protocol::{
    CallId, Fault, SessionId,
    operations::{
        Due, Finished, Job, JobOutcome, Row, Running, TaskFailure, TaskFault, TaskQueueStatus,
        Tended, WorkerExit,
    },
};

use crate::{
    data::task_queue::{
        assigned::AssignedJobs,
        backlog::Backlog,
        idle::Idle,
        job::{Pending, Submitter},
        series::{MOST_BYTES_AT_A_TIME, Series, Told, told_failure},
        workers::{KillOrder, Workers},
    },
    kind::{
        budget::StoredBytes,
        call::Call,
        hang_up::{HangUp, SLICE},
        object_stats::nanoseconds,
    },
    waiting::wait_queue::WaitQueue,
};

/// The jobs that wait for workers, the jobs that workers have, and the workers that wait for jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) waiting: Backlog,
    pub(super) assigned: AssignedJobs,
    pub(super) idle: WaitQueue<Idle>,
    pub(super) series: Series,
    pub(super) workers: Workers,
    pub(super) closed: Option<Rc<TaskFailure>>,
    /// Whether jobs that no worker runs are given back to their submitters.
    is_draining: bool,
    /// The call that waits until something is due.
    tender: Option<Tender>,
    /// The earliest time at which something that began since the last look is due, in nanoseconds.
    due: Option<u64>,
}

/// The waiting call of the supervisor.
#[derive(Debug)]
struct Tender {
    call: Call<Tended>,
    /// When it looks in any case, in microseconds.
    returns_at: u64,
}

/// The most jobs of one message, so that a turn is short.
const MOST_JOBS_AT_A_TIME: usize = 1000;

/// The pause after which a worker is looked at again that has other jobs than the one it is to be killed for. It
/// returns them when a job takes long.
const LOOK_AGAIN: u64 = 4_000_000;

/// The time after which such a worker is killed in any case: it is stopped, or cannot return its jobs.
const STALLED: u64 = 1_000_000_000;

impl Jobs {
    /// Gives waiting jobs to waiting workers, reports outcomes, and releases the workers when all is done.
    /// Every path that adds a job, a worker or an outcome ends here.
    pub(super) fn dispatch(&mut self) {
        self.give_out();
        if let Some(due) = self.due.take()
            && let Some(tender) = &self.tender
            && micros(due) < tender.returns_at
        {
            let now = tender.call.outbox().nanos();
            self.look(now);
            self.give_out();
        }
    }

    fn give_out(&mut self) {
        if self.is_draining {
            self.give_back();
        }
        self.series.tell();
        while !self.idle.is_empty()
            && self.waiting.has_open()
            && let Some(worker) = self.idle.pop_front()
        {
            self.hand_out(worker);
        }
        // A running job may return when its worker dies.
        if self.closed.is_some() && self.waiting.is_empty() && self.assigned.running() == 0 {
            while let Some(worker) = self.idle.pop_front() {
                worker.call.reply(None);
            }
        }
    }

    pub(super) fn submit(&mut self, job: Pending) {
        match self.closed.clone() {
            Some(reason) => self.end(job, &Err(reason)),
            None => self.waiting.push(job),
        }
        self.dispatch();
    }

    /// Makes a job that has not begun wait before all others, unless it was killed.
    pub(super) fn put_back(&mut self, job: Pending) {
        if job.is_killed {
            self.end_killed(job);
        } else {
            self.waiting.push_front(job);
        }
    }

    /// Gives a worker as many waiting jobs as it takes.
    pub(super) fn hand_out(&mut self, Idle { call, most }: Idle) {
        let by = call.id();
        let now = call.outbox().nanos();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut left = most.clamp(1, Row::MOST_TASKS);
        let mut bytes = MOST_BYTES_AT_A_TIME;
        let mut jobs: Vec<Job> = Vec::new();
        while left > 0
            && jobs.len() < MOST_JOBS_AT_A_TIME
            && let Some((waiting, open)) = self.waiting.pop_front()
        {
            let name = waiting.task.len();
            let (job, rest) = waiting.split(left.min(open), bytes.saturating_sub(name));
            if let Some(rest) = rest {
                self.waiting.push_front(rest);
            }
            let took = name + job.row.bytes();
            if !jobs.is_empty() && took > bytes {
                self.waiting.push_front(job);
                break;
            }
            bytes = bytes.saturating_sub(took);
            left = left.saturating_sub(job.row.len());
            jobs.push(Job {
                id: job.id,
                task: job.task.clone(),
                row: job.row.clone(),
                attempt: job.attempts.saturating_add(1),
            });
            if let Some(limit) = job.limit() {
                self.is_due(now.saturating_add(limit));
            }
            self.assigned.give(by, job, now);
        }
        call.reply(Some(jobs));
    }

    /// Passes the outcome of a job to its submitter, if the worker still has the job, or tries the job again.
    pub(super) fn finish(
        &mut self,
        worker: SessionId,
        Finished { job, outcome }: Finished,
        now: u64,
    ) {
        let (outcome, kind) = match outcome {
            JobOutcome::Done(row) => {
                if let Some((series, number, mut stored)) =
                    self.assigned.take_first(worker, job, now)
                {
                    self.end_task(series, number, Ok(row), &mut stored);
                } else if let Some(job) = self.assigned.take(worker, job, Some(now)) {
                    self.end(job, &Ok(row));
                }
                return;
            }
            JobOutcome::Transient(row) => (Ok(row), Some(Failed::Transient)),
            JobOutcome::Failed(fault) => {
                let panicked = matches!(fault, TaskFault::Panicked(_)).then_some(Failed::Panicked);
                (Err(fault), panicked)
            }
        };
        let first = self.assigned.first(worker).filter(|first| first.id == job);
        let since = first.map(|first| first.since);
        let Some(mut job) = self.assigned.take(worker, job, Some(now)) else {
            return;
        };
        job.attempts = job.attempts.saturating_add(1);
        if let Some(pause) = kind.and_then(|kind| self.pause(&job, kind, now)) {
            return self.again(job, pause, now);
        }
        let outcome = outcome.map_err(|fault| {
            Rc::new(TaskFailure {
                fault,
                attempts: job.attempts,
                ran: since.map(|since| Duration::from_nanos(now.saturating_sub(since))),
                pid: self.workers.pid(worker),
            })
        });
        self.end(job, &outcome);
    }

    /// Makes a job run again after a pause.
    fn again(&mut self, job: Pending, pause: Duration, now: u64) {
        if pause.is_zero() {
            return self.waiting.push_front(job);
        }
        let due = now.saturating_add(nanoseconds(pause));
        self.is_due(due);
        self.waiting.delay(due, job);
    }

    /// Records that something is due at a time, so that the supervisor is told if it would look too late.
    fn is_due(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Reports the outcome of a job, which is the same for all of its tasks.
    pub(super) fn end(&mut self, mut job: Pending, outcome: &Told) {
        match job.submitter {
            Submitter::Caller { call, series } => {
                if let Some(series) = series {
                    self.waiting.limited.keep(series, outcome);
                }
                call.reply(outcome.clone().map_err(told_failure));
            }
            Submitter::Series { series, first } => {
                let mut number = first;
                for _ in 0..job.row.len() {
                    let stored = &mut job.stored;
                    self.end_task(series, number, outcome.clone(), stored);
                    number = number.wrapping_add(1);
                }
            }
        }
    }

    pub(super) fn end_task(
        &mut self,
        series: CallId,
        number: u64,
        outcome: Told,
        stored: &mut StoredBytes,
    ) {
        self.waiting.limited.keep(series, &outcome);
        self.series.end(series, number, outcome, stored);
    }

    /// Fails all jobs that wait for a worker.
    pub(super) fn fail_waiting(&mut self, outcome: &Told) {
        for job in self.waiting.take_all() {
            self.end(job, outcome);
        }
    }

    /// Closes the queue, and gives back the jobs that no worker runs from now on.
    pub(super) fn drain(&mut self) {
        self.closed = Some(Rc::new(TaskFault::NotRun.into()));
        self.is_draining = true;
    }

    /// Ends all jobs that wait for a worker, because none will run them.
    fn give_back(&mut self) {
        for job in self.waiting.take_all() {
            let fault = match job.attempts {
                0 => TaskFault::NotRun,
                _ => TaskFault::Terminated,
            };
            let failure = TaskFailure {
                attempts: job.attempts,
                ..fault.into()
            };
            self.end(job, &Err(failure.into()));
        }
    }

    /// The pause after which a job runs again, if another attempt follows.
    fn pause(&self, job: &Pending, failed: Failed, now: u64) -> Option<Duration> {
        pause(job, failed, now).filter(|_| !self.is_draining)
    }

    pub(super) fn status(&self) -> TaskQueueStatus {
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        let mut status = TaskQueueStatus::default();
        status.waiting = count(self.waiting.tasks());
        status.running = count(self.assigned.held());
        status.idle = count(self.idle.len());
        status
    }

    /// Retries or fails the job that a worker had begun at `since` when it ended.
    pub(super) fn bury(&mut self, mut job: Pending, since: u64, ended: &HangUp) {
        let now = nanoseconds(ended.at);
        job.attempts = job.attempts.saturating_add(1);
        let meant = self.workers.fault_of(ended.session, job.id);
        let meant = meant.or_else(|| job.is_killed.then_some(TaskFault::Killed));
        let fault = match meant {
            Some(fault) => fault,
            None => {
                if let Some(pause) = self.pause(&job, Failed::Died, now) {
                    ended.retry();
                    return self.again(job, pause, now);
                }
                TaskFault::WorkerDied {
                    // Only the parent of the process knows the exit status.
                    exit: WorkerExit::Unknown,
                }
            }
        };
        let failure = TaskFailure {
            fault,
            attempts: job.attempts,
            ran: Some(Duration::from_nanos(now.saturating_sub(since))),
            pid: Some(ended.peer.pid),
        };
        self.end(job, &Err(failure.into()));
    }

    /// Kills a chunk that a call has submitted, unless it has its outcome.
    pub(super) fn kill(&mut self, chunk: CallId, now: u64) {
        if let Some(job) = self.waiting.remove(chunk) {
            self.end_killed(job);
        } else if let Some(worker) = self.assigned.kill(chunk) {
            let job = chunk.into();
            if self.workers.kills.iter().all(|order| order.job != job) {
                let order = KillOrder {
                    worker,
                    job,
                    at: now,
                };
                self.workers.kills.push(order);
                self.is_due(now);
            }
        }
    }

    /// Ends a killed job that is not running.
    fn end_killed(&mut self, job: Pending) {
        let failure = TaskFailure {
            attempts: job.attempts,
            ..TaskFault::Killed.into()
        };
        self.end(job, &Err(failure.into()));
    }

    /// Makes a call wait until something is due before its caller looks anyway, in microseconds.
    pub(super) fn tend(&mut self, call: Call<Tended>, returns_at: Option<u64>) {
        let now = call.outbox().nanos();
        let returns_at = returns_at.unwrap_or(u64::MAX);
        if let Some(former) = self.tender.replace(Tender { call, returns_at }) {
            former.call.fail(Fault::Withdrawn);
        }
        self.look(now);
        self.dispatch();
    }

    /// Removes the call of the supervisor if it is that one.
    pub(super) fn withdraw_tender(&mut self, is_it: impl FnOnce(CallId) -> bool) {
        drop(self.tender.take_if(|tender| is_it(tender.call.id())));
    }

    /// Does what is due, and answers the supervisor if it has to kill a worker or to look again earlier.
    fn look(&mut self, now: u64) {
        self.waiting.end_pauses(now, SLICE);
        let overdue = self.doom_overdue(now);
        let killed = self.doom_killed(now);
        let (kill, ask) = self.workers.victims(now);
        let dues = [overdue, killed, ask, self.waiting.next_due()];
        let next = dues.into_iter().flatten().min();
        let is_earlier = |tender: &mut Tender| {
            !kill.is_empty() || next.is_some_and(|next| micros(next) < tender.returns_at)
        };
        if let Some(Tender { call, .. }) = self.tender.take_if(is_earlier) {
            let next = next.map(|next| Due {
                at: micros(next),
                micros: micros(next.saturating_sub(now)),
            });
            call.reply(Tended { kill, next });
        }
    }

    /// Dooms the workers whose tasks run longer than their limits. Returns when the next one is due.
    fn doom_overdue(&mut self, now: u64) -> Option<u64> {
        let mut next = None;
        let mut overdue = Vec::new();
        for first in self.assigned.firsts() {
            let Some(limit) = first.limit else {
                continue;
            };
            if self.workers.is_doomed(first.worker) || self.workers.pid(first.worker).is_none() {
                continue;
            }
            let due = first.since.saturating_add(limit);
            if due <= now && (first.is_alone || due.saturating_add(STALLED) <= now) {
                overdue.push((first.worker, first.id, Duration::from_nanos(limit)));
            } else {
                let due = if due > now {
                    due
                } else {
                    now.saturating_add(LOOK_AGAIN)
                };
                next = Some(next.map_or(due, |next: u64| next.min(due)));
            }
        }
        for (worker, job, limit) in overdue {
            self.workers.doom(worker, job, TaskFault::TimeLimit(limit));
        }
        next
    }

    /// Dooms the workers that run killed tasks. Returns when to look at the others again.
    fn doom_killed(&mut self, now: u64) -> Option<u64> {
        let mut waiting = Vec::new();
        for order in std::mem::take(&mut self.workers.kills) {
            let KillOrder { worker, job, at } = order;
            if !self.assigned.has_job(worker, job) {
                continue;
            }
            let is_stalled = at.saturating_add(STALLED) <= now;
            let first = self.assigned.first(worker).filter(|first| first.id == job);
            match first {
                Some(first) if first.is_alone || is_stalled => {
                    self.workers.doom(worker, job, TaskFault::Killed);
                }
                None if is_stalled => {
                    // The worker is stuck in another task, and has not begun this one.
                    let given_up = self.assigned.give_up(worker, job);
                    given_up.into_iter().for_each(|job| self.end_killed(job));
                }
                Some(_) | None => waiting.push(order),
            }
        }
        self.workers.kills = waiting;
        let is_any = !self.workers.kills.is_empty();
        is_any.then(|| now.saturating_add(LOOK_AGAIN))
    }

    /// The task that each worker runs.
    pub(super) fn running(&self, now: u64) -> Vec<Running> {
        let firsts = self.assigned.firsts().map(|first| Running {
            pid: self.workers.pid(first.worker).unwrap_or_default(),
            task: first.job.map(|job| job.task.clone()),
            micros: now.saturating_sub(first.since) / 1000,
            attempt: first.job.map_or(1, |job| job.attempts.saturating_add(1)),
        });
        firsts.collect()
    }
}

/// The microseconds of a number of nanoseconds, rounded up, so that the time is over then.
const fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1000)
}

/// How an attempt failed that another one may follow.
#[derive(Clone, Copy, Debug)]
enum Failed {
    Died,
    Panicked,
    Transient,
}

/// The pause after which a job runs again, if another attempt follows.
fn pause(job: &Pending, failed: Failed, now: u64) -> Option<Duration> {
    let retry = job.rule.as_ref()?.retry?;
    let is_meant = match failed {
        Failed::Died => retry.deaths,
        Failed::Panicked => retry.panics,
        Failed::Transient => retry.transient,
    };
    let is_again = is_meant && job.attempts < retry.attempts && !job.is_killed;
    // Jobs that fail together must not run again together.
    let random = CallId::from(job.id).seq() ^ now;
    let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    is_again.then(|| retry.pause(job.attempts, random ^ (random >> 32)))
}

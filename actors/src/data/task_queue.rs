//! The queue between a pool and its workers.
//!
//! A submitter calls with a chunk of tasks and waits for the outcomes; a worker calls and waits for work. A
//! worker may receive several jobs at once, which it runs in order. When the session of a worker ends, its first
//! unfinished job fails or is retried, and its other jobs, which it has not begun, go to other workers.
//!
//! Invariant: a job waits only while no worker waits, or while its series is at its limit of outcomes.

mod assigned;
mod backlog;
mod idle;
mod job;
mod limited;
mod series;

use std::rc::Rc;

use lockkeeper_protocol::{
    CallId, Fault, JobId, Refusal, SessionId,
    codec::Form,
    operations::{
        ChunkOutcome, CloseTasks, Collect, Ended, FailTasks, Feed, Finished, GetTaskQueueStatus,
        HandBack, Job, Leave, LimitSeries, Next, ReleaseOutcomes, Reports, Row, Submit, TaskFault,
        TaskQueueStatus, WorkerExit,
    },
};

use crate::{
    data::task_queue::{
        assigned::AssignedJobs,
        backlog::Backlog,
        idle::Idle,
        job::{Pending, Submitter, bytes_of},
        series::{MOST_BYTES_AT_A_TIME, Series, Told},
    },
    kind::{
        budget::StoredBytes,
        call::Call,
        hang_up::{HangUp, SLICE},
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    waiting::wait_queue::WaitQueue,
};

/// The jobs that wait for workers, the jobs that workers have, and the workers that wait for jobs.
#[derive(Debug, Default)]
pub struct TaskQueue {
    waiting: Backlog,
    assigned: AssignedJobs,
    idle: WaitQueue<Idle>,
    series: Series,
    /// The number of tasks of series that were submitted, which is the number of the next one.
    fed: u64,
    closed: Option<Rc<TaskFault>>,
}

/// The most jobs of one message, so that a turn is short.
const MOST_JOBS_AT_A_TIME: usize = 1000;

/// The most bytes of the text with which a queue is closed or fails tasks, because it is sent to all waiting
/// calls.
const MOST_REASON_BYTES: usize = 4096;

impl TaskQueue {
    /// Gives waiting jobs to waiting workers, reports outcomes, and releases the workers when all is done.
    /// Every path that adds a job, a worker or an outcome ends here.
    fn dispatch(&mut self) {
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

    fn submit(&mut self, job: Pending) {
        match self.closed.clone() {
            Some(reason) => self.end(job, &Err(reason)),
            None => self.waiting.push(job),
        }
        self.dispatch();
    }

    /// Gives a worker as many waiting jobs as it takes.
    fn hand_out(&mut self, Idle { call, most }: Idle) {
        let by = call.id();
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
            });
            self.assigned.give(by, job);
        }
        call.reply(Some(jobs));
    }

    /// Passes the outcome of a job to its submitter, if the worker still has the job.
    fn finish(&mut self, worker: SessionId, Finished { job, outcome }: Finished) {
        let outcome = outcome.map_err(Rc::new);
        if let Some((series, number, mut stored)) = self.assigned.take_first(worker, job) {
            self.end_task(series, number, outcome, &mut stored);
        } else if let Some(job) = self.assigned.take(worker, job) {
            self.end(job, &outcome);
        }
    }

    /// Reports the outcome of a job, which is the same for all of its tasks.
    fn end(&mut self, mut job: Pending, outcome: &Told) {
        match job.submitter {
            Submitter::Caller { call, series } => {
                if let Some(series) = series {
                    self.waiting.limited.keep(series, outcome);
                }
                call.reply(outcome.clone().map_err(Rc::unwrap_or_clone));
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

    fn end_task(&mut self, series: CallId, number: u64, outcome: Told, stored: &mut StoredBytes) {
        self.waiting.limited.keep(series, &outcome);
        self.series.end(series, number, outcome, stored);
    }

    /// Fails all jobs that wait for a worker.
    fn fail_waiting(&mut self, outcome: &Told) {
        for job in self.waiting.take_all() {
            self.end(job, outcome);
        }
    }

    fn status(&self) -> TaskQueueStatus {
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        let mut status = TaskQueueStatus::default();
        status.waiting = count(self.waiting.tasks());
        status.running = count(self.assigned.held());
        status.idle = count(self.idle.len());
        status
    }

    /// Retries or fails the job that a worker was running when it ended.
    fn bury(&mut self, mut job: Pending, ended: &HangUp) {
        job.deaths = job.deaths.saturating_add(1);
        if job.retries > 0 {
            job.retries -= 1;
            ended.retry();
            self.waiting.push_front(job);
        } else {
            let pid = ended.peer.pid;
            let died = TaskFault::WorkerDied {
                pid,
                // Only the parent of the process knows the exit status.
                exit: WorkerExit::Unknown,
                attempts: job.deaths,
            };
            self.end(job, &Err(died.into()));
        }
    }
}

impl Primitive for TaskQueue {
    const KIND: &'static str = "task_queue";
    const FORM: Form = Form::Compact;
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Submit>()
            .on::<Next>()
            .on::<Finished>()
            .on::<HandBack>()
            .on::<CloseTasks>()
            .on::<GetTaskQueueStatus>()
            .on::<Reports>()
            .on::<Feed>()
            .on::<Collect>()
            .on::<Leave>()
            .on::<FailTasks>()
            .on::<LimitSeries>()
            .on::<ReleaseOutcomes>();
    }

    fn withdraw(&mut self, id: CallId) {
        // The line contains jobs of series under ids that look like those of one-way calls, and a one-way
        // call must not remove one.
        if !id.is_one_way() {
            drop(self.waiting.remove(id));
        }
        self.assigned.forget(id);
        drop(self.idle.remove(id));
        self.series.withdraw(id);
        self.assigned.is_unseen(id);
        for unseen in self.assigned.take_answer(id).into_iter().rev() {
            self.waiting.push_front(unseen);
        }
        self.dispatch();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiting.hang_up(ended);
        drop(self.idle.hang_up(ended));
        self.series.hang_up(ended);
        self.assigned.hang_up(ended);
        if ended.goes_on() {
            return;
        }
        let entries = self.assigned.entries(ended.session);
        for _ in 1..entries.min(SLICE) {
            let behind = self.assigned.take_last(ended.session);
            behind
                .into_iter()
                .for_each(|job| self.waiting.push_front(job));
        }
        if entries > SLICE {
            return ended.continue_next_turn();
        }
        // The worker runs its jobs in order, so it had begun the first task of the first one, unless it waited for
        // the answer to a report.
        let has_begun_none = self.assigned.has_begun_none(ended.session);
        let first = self.assigned.take_last(ended.session);
        if let Some(job) = first {
            if has_begun_none {
                self.waiting.push_front(job);
                return self.dispatch();
            }
            let (begun, behind) = job.split_at(1);
            behind
                .into_iter()
                .for_each(|job| self.waiting.push_front(job));
            self.bury(begun, ended);
        }
        self.dispatch();
    }

    /// The waiting tasks, the tasks that workers have, and the idle workers.
    fn survey(&self) -> Survey {
        let given = self.assigned.iter();
        let jobs = self.waiting.iter().map(|job| (job, "worker"));
        let jobs = given.map(|job| (job, "outcome")).chain(jobs);
        let jobs = jobs.take(Survey::MOST);
        let jobs = jobs.filter_map(|(job, mode)| Some(Waiting::new(job.call()?, 1, mode)));
        let collectors = self.series.collectors();
        let jobs = jobs.chain(collectors.map(|call| Waiting::new(call, 1, "outcomes")));
        let workers = self.idle.iter();
        let workers = workers.map(|(_, idle)| Waiting::new(&idle.call, 1, "task"));
        Survey {
            state: format!("{} tasks given out", self.assigned.running()),
            parts: vec![
                Part::awaited(Some("tasks"), self.waiting.len(), jobs),
                Part::awaited(Some("workers"), self.idle.len(), workers),
            ],
        }
    }
}

impl Serve<Submit> for TaskQueue {
    fn serve(&mut self, submit: Submit, call: Call<ChunkOutcome>) {
        let Submit {
            chunk,
            retries,
            series,
        } = submit;
        if call.id().is_one_way() {
            // A one-way call could not receive the outcome.
            return;
        }
        let bytes = bytes_of(&chunk.task, chunk.arguments.0.len());
        let stored = match call.outbox().store(bytes) {
            Ok(stored) => stored,
            Err(fault) => return call.fail(fault),
        };
        let series = series.map(|series| CallId::new(call.id().session(), series));
        let position = series.and_then(|series| self.waiting.limited.submit(series, 1));
        let place = series.zip(position);
        self.submit(Pending::chunk(chunk, retries, call, place, stored));
    }
}

impl Serve<Feed> for TaskQueue {
    fn serve(&mut self, feed: Feed, call: Call<()>) {
        let session = call.id().session();
        let series = CallId::new(session, feed.series);
        let begun = self.series.begin(series, call.outbox());
        let row = feed.row.bytes() + feed.row.len() * size_of::<u32>();
        let stored = call.outbox().store(bytes_of(&feed.task, row));
        call.reply(());
        if begun.is_err() || feed.row.is_empty() {
            return;
        }
        match stored {
            Ok(stored) => {
                let id = JobId::of_series(session, self.fed);
                self.fed += u64::try_from(feed.row.len()).unwrap_or_default();
                let position = self.waiting.limited.submit(series, feed.row.len());
                let position = position.unwrap_or_default();
                self.submit(Pending::tasks(feed, series, (id, position), stored));
            }
            Err(fault) => {
                self.series.fail(series, fault);
                self.dispatch();
            }
        }
    }
}

impl Serve<LimitSeries> for TaskQueue {
    fn serve(&mut self, limit: LimitSeries, call: Call<()>) {
        let series = CallId::new(call.id().session(), limit.series);
        // The tasks of a series that was begun without a limit were not counted.
        let is_without = self.series.has(series) && !self.waiting.limited.has(series);
        match self.series.begin(series, call.outbox()) {
            Ok(()) if is_without => call.reply(()),
            Ok(()) => {
                self.waiting.limited.limit(series, limit.most);
                call.reply(());
            }
            Err(fault) => call.fail(fault),
        }
        self.dispatch();
    }
}

impl Serve<ReleaseOutcomes> for TaskQueue {
    fn serve(&mut self, released: ReleaseOutcomes, call: Call<()>) {
        let series = CallId::new(call.id().session(), released.series);
        self.waiting.limited.release(series, &released);
        call.reply(());
        self.dispatch();
    }
}

impl Serve<Collect> for TaskQueue {
    fn serve(&mut self, Collect { series }: Collect, call: Call<Vec<Ended>>) {
        let series = CallId::new(call.id().session(), series);
        self.series.collect(series, call);
        self.dispatch();
    }
}

impl Serve<Leave> for TaskQueue {
    fn serve(&mut self, Leave { series }: Leave, call: Call<()>) {
        let series = CallId::new(call.id().session(), series);
        if let Some(collector) = self.series.remove(series) {
            collector.fail(Fault::Withdrawn);
        }
        for job in self.waiting.leave(series) {
            if let Submitter::Caller { call, .. } = job.submitter {
                call.fail(Fault::Withdrawn);
            }
        }
        self.assigned.forget_series(series);
        call.reply(());
        self.dispatch();
    }
}

impl Serve<Next> for TaskQueue {
    fn serve(&mut self, Next { finished, most }: Next, call: Call<Option<Vec<Job>>>) {
        let worker = call.id().session();
        self.assigned.requests(worker);
        if let Some(finished) = finished {
            self.finish(worker, finished);
        }
        let asking = Idle { call, most };
        if self.assigned.has(worker) {
            self.hand_out(asking);
        } else {
            self.idle.push(asking);
        }
        self.dispatch();
    }
}

impl Serve<Finished> for TaskQueue {
    fn serve(&mut self, finished: Finished, call: Call<()>) {
        self.finish(call.id().session(), finished);
        self.assigned.reported(call.id());
        call.reply(());
        self.dispatch();
    }
}

impl Serve<Reports> for TaskQueue {
    fn serve(&mut self, Reports(done): Reports, call: Call<()>) {
        for finished in done {
            self.finish(call.id().session(), finished);
        }
        call.reply(());
        self.dispatch();
    }
}

impl Serve<HandBack> for TaskQueue {
    fn serve(&mut self, HandBack { jobs }: HandBack, call: Call<()>) {
        for job in jobs.into_iter().rev() {
            if let Some(job) = self.assigned.take(call.id().session(), job) {
                self.waiting.push_front(job);
            }
        }
        call.reply(());
        self.dispatch();
    }
}

impl Serve<CloseTasks> for TaskQueue {
    fn serve(&mut self, CloseTasks { reason }: CloseTasks, call: Call<()>) {
        let reason = reason.map(|reason| Rc::new(reason.cut(MOST_REASON_BYTES)));
        if let Some(reason) = &reason {
            let outcome = Err(Rc::clone(reason));
            self.fail_waiting(&outcome);
            for job in self.assigned.take_awaited() {
                self.end(job, &outcome);
            }
        }
        self.closed = Some(reason.unwrap_or_else(|| TaskFault::Closed.into()));
        self.waiting.limited.unlimit();
        call.reply(());
        self.dispatch();
    }
}

impl Serve<FailTasks> for TaskQueue {
    fn serve(&mut self, FailTasks { reason }: FailTasks, call: Call<()>) {
        self.fail_waiting(&Err(reason.cut(MOST_REASON_BYTES).into()));
        call.reply(());
        self.dispatch();
    }
}

impl Serve<GetTaskQueueStatus> for TaskQueue {
    fn serve(&mut self, _: GetTaskQueueStatus, call: Call<TaskQueueStatus>) {
        // A worker confirms a report by this call.
        self.assigned.reported(call.id());
        call.reply(self.status());
    }
}

#[cfg(test)]
mod tests;

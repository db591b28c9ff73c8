//! The queue between a pool and its workers.
//!
//! A submitter calls with a chunk of tasks and waits for the outcomes; a worker calls and waits for work. A
//! worker may receive several jobs at once, which it runs in order. When the session of a worker ends, its first
//! unfinished job fails or is retried, and its other jobs, which it has not begun, go to other workers.
//!
//! This file serves the operations; [`Jobs`] has the rules.

mod assigned;
mod backlog;
mod delayed;
mod idle;
mod job;
mod jobs;
mod limited;
mod series;
mod workers;

use std::rc::Rc;

use lockkeeper_protocol::{
    CallId, Fault, JobId, Refusal,
    codec::Form,
    operations::{
        ChunkOutcome, CloseTasks, Collect, DrainTasks, Ended, Enlist, FailTasks, Feed, Finished,
        GetTaskQueueStatus, HandBack, Job, KillTask, Leave, LimitSeries, ListRunning, Next,
        ReleaseOutcomes, Reports, Running, Submit, TaskFailure, TaskFault, TaskQueueStatus, Tend,
        Tended,
    },
};

use crate::{
    data::task_queue::{
        idle::Idle,
        job::{Pending, Submitter, bytes_of},
        jobs::Jobs,
    },
    kind::{
        call::Call,
        hang_up::{HangUp, SLICE},
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
};

/// The queue between a pool and its workers.
#[derive(Debug, Default)]
pub struct TaskQueue {
    jobs: Jobs,
    /// The number of tasks of series that were submitted, which is the number of the next one.
    fed: u64,
}

/// The most bytes of the text with which a queue is closed or fails tasks, because it is sent to all waiting
/// calls.
const MOST_REASON_BYTES: usize = 4096;

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
            .on::<ReleaseOutcomes>()
            .on::<Enlist>()
            .on::<KillTask>()
            .on::<Tend>()
            .on::<ListRunning>()
            .on::<DrainTasks>();
    }

    fn withdraw(&mut self, id: CallId) {
        // The line contains jobs of series under ids that look like those of one-way calls, and a one-way
        // call must not remove one.
        if !id.is_one_way() {
            drop(self.jobs.waiting.remove(id));
        }
        self.jobs.assigned.forget(id);
        drop(self.jobs.idle.remove(id));
        self.jobs.workers.withdraw(id);
        self.jobs.withdraw_tender(|tender| tender == id);
        self.jobs.series.withdraw(id);
        self.jobs.assigned.is_unseen(id);
        for unseen in self.jobs.assigned.take_answer(id).into_iter().rev() {
            self.jobs.put_back(unseen);
        }
        self.jobs.dispatch();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.jobs.waiting.hang_up(ended);
        drop(self.jobs.idle.hang_up(ended));
        self.jobs.series.hang_up(ended);
        self.jobs.assigned.hang_up(ended);
        let session = ended.session;
        self.jobs
            .withdraw_tender(|tender| tender.session() == session);
        if ended.goes_on() {
            return;
        }
        let entries = self.jobs.assigned.entries(ended.session);
        for _ in 1..entries.min(SLICE) {
            let behind = self.jobs.assigned.take_last(ended.session);
            behind.into_iter().for_each(|job| self.jobs.put_back(job));
        }
        if entries > SLICE {
            return ended.continue_next_turn();
        }
        // The worker runs its jobs in order, so it had begun the first task of the first one, unless it waited for
        // the answer to a report.
        let has_begun_none = self.jobs.assigned.has_begun_none(ended.session);
        let since = self.jobs.assigned.first(ended.session);
        let since = since.map(|first| first.since).unwrap_or_default();
        let first = self.jobs.assigned.take_last(ended.session);
        if let Some(job) = first {
            if has_begun_none {
                self.jobs.put_back(job);
                self.jobs.workers.remove(ended.session);
                return self.jobs.dispatch();
            }
            let (begun, behind) = job.split_at(1);
            behind.into_iter().for_each(|job| self.jobs.put_back(job));
            self.jobs.bury(begun, since, ended);
        }
        self.jobs.workers.remove(ended.session);
        self.jobs.dispatch();
    }

    /// The waiting tasks, the tasks that workers have, and the idle workers.
    fn survey(&self) -> Survey {
        let given = self.jobs.assigned.iter();
        let jobs = self.jobs.waiting.iter().map(|job| (job, "worker"));
        let jobs = given.map(|job| (job, "outcome")).chain(jobs);
        let jobs = jobs.take(Survey::MOST);
        let jobs = jobs.filter_map(|(job, mode)| Some(Waiting::new(job.call()?, 1, mode)));
        let collectors = self.jobs.series.collectors();
        let jobs = jobs.chain(collectors.map(|call| Waiting::new(call, 1, "outcomes")));
        let workers = self.jobs.idle.iter();
        let workers = workers.map(|(_, idle)| Waiting::new(&idle.call, 1, "task"));
        Survey {
            state: format!("{} tasks given out", self.jobs.assigned.running()),
            parts: vec![
                Part::awaited(Some("tasks"), self.jobs.waiting.len(), jobs),
                Part::awaited(Some("workers"), self.jobs.idle.len(), workers),
            ],
        }
    }
}

impl Serve<Submit> for TaskQueue {
    fn serve(&mut self, submit: Submit, call: Call<ChunkOutcome>) {
        let Submit {
            chunk,
            rule,
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
        let position = series.and_then(|series| self.jobs.waiting.limited.submit(series, 1));
        let place = series.zip(position);
        self.jobs
            .submit(Pending::chunk(chunk, rule, call, place, stored));
    }
}

impl Serve<Feed> for TaskQueue {
    fn serve(&mut self, feed: Feed, call: Call<()>) {
        let session = call.id().session();
        let series = CallId::new(session, feed.series);
        let begun = self.jobs.series.begin(series, call.outbox());
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
                let position = self.jobs.waiting.limited.submit(series, feed.row.len());
                let position = position.unwrap_or_default();
                self.jobs
                    .submit(Pending::tasks(feed, series, (id, position), stored));
            }
            Err(fault) => {
                self.jobs.series.fail(series, fault);
                self.jobs.dispatch();
            }
        }
    }
}

impl Serve<LimitSeries> for TaskQueue {
    fn serve(&mut self, limit: LimitSeries, call: Call<()>) {
        let series = CallId::new(call.id().session(), limit.series);
        // The tasks of a series that was begun without a limit were not counted.
        let is_without = self.jobs.series.has(series) && !self.jobs.waiting.limited.has(series);
        match self.jobs.series.begin(series, call.outbox()) {
            Ok(()) if is_without => call.reply(()),
            Ok(()) => {
                self.jobs.waiting.limited.limit(series, limit.most);
                call.reply(());
            }
            Err(fault) => call.fail(fault),
        }
        self.jobs.dispatch();
    }
}

impl Serve<ReleaseOutcomes> for TaskQueue {
    fn serve(&mut self, released: ReleaseOutcomes, call: Call<()>) {
        let series = CallId::new(call.id().session(), released.series);
        self.jobs.waiting.limited.release(series, &released);
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<Collect> for TaskQueue {
    fn serve(&mut self, Collect { series }: Collect, call: Call<Vec<Ended>>) {
        let series = CallId::new(call.id().session(), series);
        self.jobs.series.collect(series, call);
        self.jobs.dispatch();
    }
}

impl Serve<Leave> for TaskQueue {
    fn serve(&mut self, Leave { series }: Leave, call: Call<()>) {
        let series = CallId::new(call.id().session(), series);
        if let Some(collector) = self.jobs.series.remove(series) {
            collector.fail(Fault::Withdrawn);
        }
        for job in self.jobs.waiting.leave(series) {
            if let Submitter::Caller { call, .. } = job.submitter {
                call.fail(Fault::Withdrawn);
            }
        }
        self.jobs.assigned.forget_series(series);
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<Next> for TaskQueue {
    fn serve(&mut self, Next { finished, most }: Next, call: Call<Option<Vec<Job>>>) {
        let worker = call.id().session();
        self.jobs.assigned.requests(worker);
        if let Some(finished) = finished {
            let now = call.outbox().nanos();
            self.jobs.finish(worker, finished, now);
        }
        let asking = Idle { call, most };
        if self.jobs.workers.is_doomed(worker) {
            self.jobs.workers.bar(asking);
        } else if self.jobs.assigned.has(worker) {
            self.jobs.hand_out(asking);
        } else {
            self.jobs.idle.push(asking);
        }
        self.jobs.dispatch();
    }
}

impl Serve<Finished> for TaskQueue {
    fn serve(&mut self, finished: Finished, call: Call<()>) {
        let now = call.outbox().nanos();
        self.jobs.finish(call.id().session(), finished, now);
        self.jobs.assigned.reported(call.id());
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<Reports> for TaskQueue {
    fn serve(&mut self, Reports(done): Reports, call: Call<()>) {
        for finished in done {
            let now = call.outbox().nanos();
            self.jobs.finish(call.id().session(), finished, now);
        }
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<HandBack> for TaskQueue {
    fn serve(&mut self, HandBack { jobs }: HandBack, call: Call<()>) {
        for job in jobs.into_iter().rev() {
            if let Some(job) = self.jobs.assigned.take(call.id().session(), job, None) {
                self.jobs.put_back(job);
            }
        }
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<CloseTasks> for TaskQueue {
    fn serve(&mut self, CloseTasks { reason }: CloseTasks, call: Call<()>) {
        let reason = reason.map(|reason| Rc::new(TaskFailure::from(reason.cut(MOST_REASON_BYTES))));
        if let Some(reason) = &reason {
            let outcome = Err(Rc::clone(reason));
            self.jobs.fail_waiting(&outcome);
            for job in self.jobs.assigned.take_awaited() {
                self.jobs.end(job, &outcome);
            }
        }
        self.jobs.closed = Some(reason.unwrap_or_else(|| Rc::new(TaskFault::Closed.into())));
        self.jobs.waiting.limited.unlimit();
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<DrainTasks> for TaskQueue {
    fn serve(&mut self, _: DrainTasks, call: Call<()>) {
        self.jobs.drain();
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<FailTasks> for TaskQueue {
    fn serve(&mut self, FailTasks { reason }: FailTasks, call: Call<()>) {
        let failure = TaskFailure::from(reason.cut(MOST_REASON_BYTES));
        self.jobs.fail_waiting(&Err(failure.into()));
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<GetTaskQueueStatus> for TaskQueue {
    fn serve(&mut self, _: GetTaskQueueStatus, call: Call<TaskQueueStatus>) {
        // A worker confirms a report by this call.
        self.jobs.assigned.reported(call.id());
        call.reply(self.jobs.status());
    }
}

impl Serve<Enlist> for TaskQueue {
    fn serve(&mut self, Enlist { pid }: Enlist, call: Call<()>) {
        self.jobs.workers.enlist(call.id().session(), pid);
        call.reply(());
    }
}

impl Serve<KillTask> for TaskQueue {
    fn serve(&mut self, kill: KillTask, call: Call<()>) {
        let chunk = CallId::new(call.id().session(), kill.call);
        self.jobs.kill(chunk, call.outbox().nanos());
        call.reply(());
        self.jobs.dispatch();
    }
}

impl Serve<Tend> for TaskQueue {
    fn serve(&mut self, tend: Tend, call: Call<Tended>) {
        if !call.id().is_one_way() {
            self.jobs.tend(call, tend.returns_at);
        }
    }
}

impl Serve<ListRunning> for TaskQueue {
    fn serve(&mut self, _: ListRunning, call: Call<Vec<Running>>) {
        let running = self.jobs.running(call.outbox().nanos());
        call.reply(running);
    }
}

#[cfg(test)]
mod tests;

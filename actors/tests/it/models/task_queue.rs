//! Compares the task queue with a reference, which has lists of tasks, workers and limits.
//!
//! The model uses only the queue's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, JobId,
    codec::Blob,
    data::{
        Chunk, ChunkOutcome, CloseTasks, DrainTasks, Finished, GetTaskQueueStatus, HandBack, Job,
        JobOutcome, Leave, LimitSeries, Next, ReleaseOutcomes, RetryRule, Submit, TaskFault,
        TaskQueue, TaskQueueStatus, TaskRule, WorkerExit,
    },
};
use rand::Rng;

use crate::{
    models::{Effects, Reference, agree},
    schedule::{Schedule, put},
};

#[test]
fn task_queue_agrees_with_its_reference() {
    agree::<QueueReference>(
        "task_queue_agrees_with_its_reference",
        800,
        &[
            "result",
            "result with the next call",
            "result of another worker's job",
            "result of an ended job",
            "withdrawn running job",
            "several jobs at a time",
            "no more jobs for a worker with jobs",
            "jobs whose delivery was withdrawn",
            "jobs of a worker that waited for the answer to a report",
            "job handed back",
            "job not begun at its worker's death",
            "job retried",
            "job retried after a panic",
            "transient outcome of the last attempt",
            "job that died with its worker",
            "job of a submitter that ended",
            "close that lets all finish",
            "close with a reason",
            "job given back to its submitter",
            "job that waited for another attempt at a drain",
            "job that came back to a drained queue",
            "worker told of the end",
            "long line",
            "series at its limit while a worker waits",
            "next job of a series at its limit",
            "chunk of a series that is left",
            "number of a series that is used again",
        ],
    );
}

#[derive(Clone, Debug)]
enum QueueCall {
    Submit(Chunk, u32, Option<u64>),
    Next(Option<(CallId, JobOutcome)>, u32),
    Finished(CallId, JobOutcome),
    HandBack(Vec<CallId>),
    Close(Option<TaskFault>),
    Drain,
    Limit(u64, u64),
    Release(u64, u64, u64),
    Leave(u64),
    Count,
}

#[derive(Debug, PartialEq)]
enum QueueAnswer {
    Outcome(Told),
    Work(Vec<(CallId, Chunk)>),
    GoHome,
    Done,
    Count(TaskQueueStatus),
}

/// An outcome as the submitter is told: the time and the process of an attempt are not compared.
type Told = Result<Blob, (TaskFault, u32)>;

fn told(outcome: ChunkOutcome) -> Told {
    outcome.map_err(|failure| (failure.fault, failure.attempts))
}

#[derive(Clone)]
struct Task {
    id: CallId,
    chunk: Chunk,
    retries: u32,
    attempts: u32,
    /// The series whose limit includes the outcome, and the number of its tasks that were submitted before.
    series: Option<(Series, u64)>,
    /// Whether the series had a limit when the task began to wait.
    is_limited: bool,
}

/// A session, and the number of one of its series.
type Series = (u64, u64);

/// The limit of a series.
struct Limit {
    series: Series,
    most: u64,
    kept: u64,
    submitted: u64,
    released: u64,
}

/// A task that a worker has.
struct Taken {
    /// The call that was answered with the job.
    by: CallId,
    task: Task,
    is_wanted: bool,
}

/// The first jobs in the queue go to the first idle worker.
#[derive(Default)]
struct QueueReference {
    waiting: Vec<Task>,
    /// The taken jobs in the order in which they were delivered.
    taken: Vec<Taken>,
    /// The idle calls, with the most jobs that each takes.
    idle: Vec<(CallId, u32)>,
    /// The last report of each worker that has tasks, and whether the worker has not received the answer.
    reported: Vec<(CallId, bool)>,
    limits: Vec<Limit>,
    left: Vec<Series>,
    closed: Option<TaskFault>,
    is_draining: bool,
}

impl QueueReference {
    /// Records the last report of a worker, or that it has none whose answer it may lack.
    fn last_report(&mut self, worker: u64, report: Option<CallId>) {
        self.reported
            .retain(|(report, _)| report.session().number() != worker);
        self.reported.extend(report.map(|report| (report, false)));
        self.forget_reports();
    }

    /// Forgets the reports of workers that have no tasks.
    fn forget_reports(&mut self) {
        self.reported.retain(|(report, _)| {
            let mut taken = self.taken.iter();
            taken.any(|taken| taken.by.session() == report.session())
        });
    }

    fn hand_out(&mut self, effects: &mut Effects<'_, QueueAnswer>) {
        self.forget_reports();
        if self.is_draining {
            self.give_back(effects);
        }
        while self.next_open().is_some() && !self.idle.is_empty() {
            let (worker, most) = self.idle.remove(0);
            self.give(worker, most, effects);
        }
        if !self.waiting.is_empty() && !self.idle.is_empty() {
            effects
                .tally
                .note("series at its limit while a worker waits");
        }
        // The worker of a job may die, so other workers wait for a retry.
        let is_done = self.waiting.is_empty() && !self.taken.iter().any(|taken| taken.is_wanted);
        if self.closed.is_some() && is_done {
            for (worker, _) in std::mem::take(&mut self.idle) {
                effects.tally.note("worker told of the end");
                effects.reply(worker, QueueAnswer::GoHome);
            }
        }
        if self.waiting.len().max(self.idle.len()) > 64 {
            effects.tally.note("long line");
        }
    }

    /// Ends the waiting jobs, because none of them will run.
    fn give_back(&mut self, effects: &mut Effects<'_, QueueAnswer>) {
        if self.waiting.is_empty() {
            return;
        }
        effects.in_no_order();
        for task in std::mem::take(&mut self.waiting) {
            let fault = if task.attempts == 0 {
                effects.tally.note("job given back to its submitter");
                TaskFault::NotRun
            } else {
                effects
                    .tally
                    .note("job that waited for another attempt at a drain");
                TaskFault::Terminated
            };
            let outcome = QueueAnswer::Outcome(Err((fault, task.attempts)));
            effects.reply(task.id, outcome);
        }
    }

    /// The first waiting job that may be given to a worker. The jobs of a series with a limit are given in
    /// order.
    fn next_open(&self) -> Option<usize> {
        let is_open = |task: &Task| {
            let Some((series, position)) = task.series.filter(|_| task.is_limited) else {
                return true;
            };
            let is_earlier = |other: &Task| {
                let theirs = other.series.filter(|_| other.is_limited);
                theirs.is_some_and(|theirs| (theirs, other.id) < ((series, position), task.id))
                    && theirs.is_some_and(|theirs| theirs.0 == series)
            };
            let limit = self.limit_of(task).expect("the series has a limit");
            let is_next = limit.kept < limit.most || position <= limit.released;
            (is_next || self.closed.is_some()) && !self.waiting.iter().any(is_earlier)
        };
        self.waiting.iter().position(is_open)
    }

    fn limit_of(&self, task: &Task) -> Option<&Limit> {
        let (series, _) = task.series?;
        self.limits.iter().find(|limit| limit.series == series)
    }

    fn limit_named(&mut self, series: Series) -> Option<&mut Limit> {
        self.limits.iter_mut().find(|limit| limit.series == series)
    }

    /// Counts the outcome of a task for the limit of its series.
    fn keep(&mut self, task: &Task, outcome: &Told) {
        let bytes = match outcome {
            Ok(outputs) => outputs.0.len().max(1),
            Err((fault, _)) => 64 + fault.text().len(),
        };
        let bytes = u64::try_from(bytes).expect("a few");
        if let Some(limit) = task.series.and_then(|(series, _)| self.limit_named(series)) {
            limit.kept += bytes;
        }
    }

    /// Makes tasks wait before all others.
    fn put_first(&mut self, mut tasks: Vec<Task>) {
        for task in &mut tasks {
            task.is_limited = self.limit_of(task).is_some();
        }
        self.waiting.splice(0..0, tasks);
    }

    fn give(&mut self, by: CallId, most: u32, effects: &mut Effects<'_, QueueAnswer>) {
        let most = usize::try_from(most.max(1)).expect("a few");
        let mut given: Vec<Task> = Vec::new();
        while given.len() < most
            && let Some(place) = self.next_open()
        {
            let task = self.waiting.remove(place);
            if task.is_limited && self.limit_of(&task).is_some_and(|it| it.kept >= it.most) {
                effects.tally.note("next job of a series at its limit");
            }
            given.push(task);
        }
        if given.len() > 1 {
            effects.tally.note("several jobs at a time");
        }
        let work = given
            .iter()
            .map(|task| (task.id, task.chunk.clone()))
            .collect();
        effects.reply(by, QueueAnswer::Work(work));
        self.taken.extend(given.into_iter().map(|task| Taken {
            by,
            task,
            is_wanted: true,
        }));
    }

    fn finish(
        &mut self,
        by: CallId,
        job: CallId,
        outcome: &JobOutcome,
        effects: &mut Effects<'_, QueueAnswer>,
    ) {
        let place = self.taken.iter().position(|taken| taken.task.id == job);
        match place {
            Some(place) if self.taken[place].by.session() == by.session() => {
                let Taken {
                    mut task,
                    is_wanted,
                    ..
                } = self.taken.remove(place);
                if is_wanted {
                    task.attempts += 1;
                    let outcome = match outcome {
                        JobOutcome::Done(row) => Ok(row.clone()),
                        JobOutcome::Failed(TaskFault::Panicked(_)) | JobOutcome::Transient(_)
                            if task.retries > 0 && !self.is_draining =>
                        {
                            effects.tally.note("job retried after a panic");
                            task.retries -= 1;
                            return self.put_first(vec![task]);
                        }
                        JobOutcome::Failed(fault) => Err((fault.clone(), task.attempts)),
                        JobOutcome::Transient(row) => {
                            effects.tally.note("transient outcome of the last attempt");
                            Ok(row.clone())
                        }
                    };
                    self.keep(&task, &outcome);
                    effects.tally.note("result");
                    effects.reply(job, QueueAnswer::Outcome(outcome));
                }
            }
            Some(_) => effects.tally.note("result of another worker's job"),
            None => effects.tally.note("result of an ended job"),
        }
    }

    /// Puts back the jobs whose submitter still waits, in order.
    fn put_back(&mut self, jobs: &[CallId]) -> usize {
        let mut back = Vec::new();
        for job in jobs {
            let place = self.taken.iter().position(|taken| taken.task.id == *job);
            if let Some(Taken {
                task,
                is_wanted: true,
                ..
            }) = place.map(|place| self.taken.remove(place))
            {
                back.push(task);
            }
        }
        let count = back.len();
        self.put_first(back);
        count
    }

    fn close(&mut self, reason: Option<&TaskFault>, effects: &mut Effects<'_, QueueAnswer>) {
        if let Some(reason) = reason {
            effects.tally.note("close with a reason");
            let taken = self.taken.iter_mut().filter(|taken| taken.is_wanted);
            let taken = taken.map(|taken| {
                taken.is_wanted = false;
                taken.task.id
            });
            let waiting = self.waiting.drain(..).map(|task| task.id);
            for task in waiting.chain(taken) {
                effects.reply(task, QueueAnswer::Outcome(Err((reason.clone(), 0))));
            }
        } else {
            effects.tally.note("close that lets all finish");
        }
        self.closed = Some(reason.cloned().unwrap_or(TaskFault::Closed));
    }

    /// Of the jobs that an ended session had only the first was begun, and none if the session waited for the
    /// answer to a report.
    fn lose_worker(&mut self, session: u64, effects: &mut Effects<'_, QueueAnswer>) {
        let is_unseen = |(report, is_unseen): &(CallId, bool)| {
            *is_unseen && report.session().number() == session
        };
        let has_begun_none = self.reported.iter().any(is_unseen);
        let is_theirs = |taken: &Taken| taken.by.session().number() == session;
        let (theirs, others) = std::mem::take(&mut self.taken)
            .into_iter()
            .partition(is_theirs);
        self.taken = others;
        let mut again = Vec::new();
        for (place, Taken { mut task, .. }) in theirs
            .into_iter()
            .enumerate()
            .filter(|(_, taken)| taken.is_wanted)
        {
            if has_begun_none {
                effects
                    .tally
                    .note("jobs of a worker that waited for the answer to a report");
                again.push(task);
            } else if place > 0 {
                effects.tally.note("job not begun at its worker's death");
                again.push(task);
            } else if task.retries > 0 && !self.is_draining {
                effects.tally.note("job retried");
                task.retries -= 1;
                task.attempts += 1;
                again.push(task);
            } else {
                effects.tally.note("job that died with its worker");
                let exit = WorkerExit::Unknown;
                let died = Err((TaskFault::WorkerDied { exit }, task.attempts + 1));
                self.keep(&task, &died);
                effects.reply(task.id, QueueAnswer::Outcome(died));
            }
        }
        self.put_first(again);
    }

    fn draw_job(&self, schedule: &mut Schedule) -> CallId {
        if !self.taken.is_empty() && schedule.random.random_bool(0.8) {
            self.taken[schedule.random.random_range(0..self.taken.len())]
                .task
                .id
        } else {
            schedule.any_call()
        }
    }
}

fn draw_blob(schedule: &mut Schedule) -> Blob {
    Blob::from(vec![schedule.random.random(); 3])
}

fn draw_outcome(schedule: &mut Schedule) -> JobOutcome {
    match schedule.random.random_range(0..10) {
        0 => JobOutcome::Failed(TaskFault::Panicked("on purpose".to_owned())),
        1 => JobOutcome::Failed(TaskFault::NotRegistered("task".to_owned())),
        2 => JobOutcome::Transient(draw_blob(schedule)),
        _ => JobOutcome::Done(draw_blob(schedule)),
    }
}

/// The rule of tasks that run again at once, whatever failed.
fn rule(retries: u32) -> Option<TaskRule> {
    let retry = RetryRule {
        attempts: retries + 1,
        deaths: true,
        panics: true,
        transient: true,
        first_pause: 0,
        longest_pause: 0,
    };
    (retries > 0).then_some(TaskRule {
        limit: None,
        retry: Some(retry),
    })
}

impl Reference for QueueReference {
    type Kind = TaskQueue;
    type Call = QueueCall;
    type Answer = QueueAnswer;
    type Memory = ();

    fn make(_: &mut Schedule) -> (Self, Bench<TaskQueue>) {
        let bench = Bench::new(()).expect("every spec is valid");
        (Self::default(), bench)
    }

    fn draw(&self, schedule: &mut Schedule) -> QueueCall {
        if schedule.asks() {
            let chunk = Chunk {
                task: format!("task {}", schedule.random.random_range(0..100)),
                arguments: draw_blob(schedule),
            };
            let series = schedule.random.random_bool(0.5);
            let series = series.then(|| schedule.random.random_range(1..=2));
            return QueueCall::Submit(chunk, schedule.random.random_range(0..=2), series);
        }
        let (job, outcome) = (self.draw_job(schedule), draw_outcome(schedule));
        let most = schedule.random.random_range(0..=4);
        let series = schedule.random.random_range(1..=2);
        match schedule.random.random_range(0..85) {
            0..=29 => QueueCall::Next(None, most),
            30..=39 => QueueCall::Next(Some((job, outcome)), most),
            40..=49 => QueueCall::Finished(job, outcome),
            60..=64 => QueueCall::HandBack(vec![job, self.draw_job(schedule)]),
            50 => QueueCall::Close(None),
            51 => QueueCall::Close(Some(TaskFault::Terminated)),
            52 => QueueCall::Drain,
            65..=73 => QueueCall::Limit(series, schedule.random.random_range(0..=12)),
            74..=81 => QueueCall::Release(
                series,
                schedule.random.random_range(0..=6),
                schedule.random.random_range(0..=2),
            ),
            82..=84 => QueueCall::Leave(series),
            _ => QueueCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<TaskQueue>,
        session: u64,
        call: &QueueCall,
        timeout: Option<Duration>,
    ) -> CallId {
        let finished = |(job, outcome): (CallId, _)| Finished {
            job: job.into(),
            outcome,
        };
        match call.clone() {
            QueueCall::Submit(chunk, retries, series) => put(
                bench,
                session,
                Submit {
                    chunk,
                    rule: rule(retries),
                    series,
                },
                timeout,
            ),
            QueueCall::Next(done, most) => {
                let finished = done.map(finished);
                put(bench, session, Next { finished, most }, timeout)
            }
            QueueCall::Finished(job, outcome) => {
                put(bench, session, finished((job, outcome)), timeout)
            }
            QueueCall::HandBack(jobs) => {
                let jobs = jobs.into_iter().map(JobId::from).collect();
                put(bench, session, HandBack { jobs }, timeout)
            }
            QueueCall::Close(reason) => put(bench, session, CloseTasks { reason }, timeout),
            QueueCall::Drain => put(bench, session, DrainTasks, timeout),
            QueueCall::Limit(series, most) => {
                put(bench, session, LimitSeries { series, most }, timeout)
            }
            QueueCall::Release(series, bytes, count) => {
                let released = ReleaseOutcomes {
                    series,
                    bytes,
                    count,
                };
                put(bench, session, released, timeout)
            }
            QueueCall::Leave(series) => put(bench, session, Leave { series }, timeout),
            QueueCall::Count => put(bench, session, GetTaskQueueStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<TaskQueue>,
        id: CallId,
        call: &QueueCall,
        (): &mut (),
    ) -> Result<QueueAnswer, Fault> {
        let of_job = |job: Job| {
            let Job {
                id, task, mut row, ..
            } = job;
            let arguments = row.pop_front().expect("a job has a task");
            assert!(row.is_empty(), "the chunk has one task");
            let task = task.to_string();
            (id.into(), Chunk { task, arguments })
        };
        let work = |jobs: Option<Vec<Job>>| match jobs {
            Some(jobs) => QueueAnswer::Work(jobs.into_iter().map(of_job).collect()),
            None => QueueAnswer::GoHome,
        };
        let observed = match call {
            QueueCall::Submit(..) => bench
                .reply::<Submit>(id)
                .map(|observed| observed.map(|outcome| QueueAnswer::Outcome(told(outcome)))),
            QueueCall::Next(..) => bench.reply::<Next>(id).map(|observed| observed.map(work)),
            QueueCall::Finished(..) => bench
                .reply::<Finished>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::HandBack(_) => bench
                .reply::<HandBack>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Close(_) => bench
                .reply::<CloseTasks>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Drain => bench
                .reply::<DrainTasks>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Limit(..) => bench
                .reply::<LimitSeries>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Release(..) => bench
                .reply::<ReleaseOutcomes>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Leave(_) => bench
                .reply::<Leave>(id)
                .map(|observed| observed.map(|()| QueueAnswer::Done)),
            QueueCall::Count => bench
                .reply::<GetTaskQueueStatus>(id)
                .map(|observed| observed.map(QueueAnswer::Count)),
        };
        observed.expect("the call is answered")
    }

    fn serve(&mut self, id: CallId, call: &QueueCall, effects: &mut Effects<'_, QueueAnswer>) {
        let session = id.session().number();
        match call {
            QueueCall::Submit(chunk, retries, series) => match &self.closed {
                Some(reason) => effects.reply(id, QueueAnswer::Outcome(Err((reason.clone(), 0)))),
                None => {
                    let series = series.map(|series| (session, series));
                    let limit = series.and_then(|series| self.limit_named(series));
                    let series = limit.map(|limit| {
                        limit.submitted += 1;
                        (limit.series, limit.submitted - 1)
                    });
                    self.waiting.push(Task {
                        id,
                        chunk: chunk.clone(),
                        retries: *retries,
                        attempts: 0,
                        series,
                        is_limited: series.is_some(),
                    });
                }
            },
            QueueCall::Limit(series, most) => {
                let series = (session, *series);
                if let Some(limit) = self.limit_named(series) {
                    limit.most = *most;
                } else {
                    if self.left.contains(&series) {
                        effects.tally.note("number of a series that is used again");
                    }
                    self.limits.push(Limit {
                        series,
                        most: *most,
                        kept: 0,
                        submitted: 0,
                        released: 0,
                    });
                }
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Release(series, bytes, count) => {
                if let Some(limit) = self.limit_named((session, *series)) {
                    limit.kept = limit.kept.saturating_sub(*bytes);
                    limit.released += count;
                }
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Leave(series) => {
                let series = (session, *series);
                self.left.push(series);
                self.limits.retain(|limit| limit.series != series);
                let is_theirs =
                    |task: &Task| task.is_limited && task.series.is_some_and(|it| it.0 == series);
                let (mut gone, kept): (Vec<Task>, Vec<Task>) = std::mem::take(&mut self.waiting)
                    .into_iter()
                    .partition(is_theirs);
                self.waiting = kept;
                gone.sort_by_key(|task| (task.series, task.id));
                for task in gone {
                    effects.tally.note("chunk of a series that is left");
                    effects.fail(task.id, Fault::Withdrawn);
                }
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Next(finished, most) => {
                self.last_report(id.session().number(), None);
                if let Some((job, outcome)) = finished {
                    effects.tally.note("result with the next call");
                    self.finish(id, *job, outcome, effects);
                }
                if self
                    .taken
                    .iter()
                    .any(|taken| taken.by.session() == id.session())
                {
                    if self.waiting.is_empty() {
                        effects.tally.note("no more jobs for a worker with jobs");
                    }
                    self.give(id, *most, effects);
                } else {
                    self.idle.push((id, *most));
                }
            }
            QueueCall::Finished(job, outcome) => {
                self.last_report(id.session().number(), Some(id));
                self.finish(id, *job, outcome, effects);
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::HandBack(jobs) => {
                let is_theirs = |job: &CallId| {
                    self.taken
                        .iter()
                        .any(|taken| taken.task.id == *job && taken.by.session() == id.session())
                };
                let theirs: Vec<CallId> = jobs.iter().copied().filter(is_theirs).collect();
                if self.put_back(&theirs) > 0 {
                    effects.tally.note("job handed back");
                    if self.is_draining {
                        effects.tally.note("job that came back to a drained queue");
                    }
                }
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Close(reason) => {
                // All submitters are answered at once, in no promised order.
                effects.in_no_order();
                self.close(reason.as_ref(), effects);
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Drain => {
                self.closed = Some(TaskFault::NotRun);
                self.is_draining = true;
                effects.reply(id, QueueAnswer::Done);
            }
            QueueCall::Count => {
                self.last_report(id.session().number(), Some(id));
                let count = |count: usize| u64::try_from(count).expect("short lists");
                let mut status = TaskQueueStatus::default();
                status.waiting = count(self.waiting.len());
                status.running = count(self.taken.len());
                status.idle = count(self.idle.len());
                effects.reply(id, QueueAnswer::Count(status));
            }
        }
        self.hand_out(effects);
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, QueueAnswer>) {
        let mut reported = self.reported.iter_mut();
        if let Some((_, is_unseen)) = reported.find(|(report, _)| *report == id) {
            *is_unseen = true;
        }
        let is_of = |taken: &Taken| taken.is_wanted && taken.task.id == id;
        if self.taken.iter().any(is_of) {
            effects.tally.note("withdrawn running job");
        }
        if self.waits(id) {
            self.waiting.retain(|task| task.id != id);
            for taken in self.taken.iter_mut().filter(|taken| taken.task.id == id) {
                taken.is_wanted = false;
            }
            self.idle.retain(|(worker, _)| *worker != id);
            effects.fail(id, fault);
        } else {
            let unseen = self.taken.iter().filter(|taken| taken.by == id);
            let unseen: Vec<CallId> = unseen.map(|taken| taken.task.id).collect();
            if self.put_back(&unseen) > 0 {
                effects.tally.note("jobs whose delivery was withdrawn");
            }
        }
        self.hand_out(effects);
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, QueueAnswer>) {
        effects.in_no_order();
        let is_of = |id: CallId| id.session().number() == session;
        self.waiting.retain(|task| !is_of(task.id));
        self.idle.retain(|(worker, _)| !is_of(*worker));
        self.limits.retain(|limit| limit.series.0 != session);
        for taken in self.taken.iter_mut().filter(|taken| is_of(taken.task.id)) {
            effects.tally.note("job of a submitter that ended");
            taken.is_wanted = false;
        }
        self.lose_worker(session, effects);
        self.hand_out(effects);
    }

    fn waits(&self, id: CallId) -> bool {
        let mut taken = self.taken.iter().filter(|taken| taken.is_wanted);
        taken.any(|taken| taken.task.id == id)
            || self.waiting.iter().any(|task| task.id == id)
            || self.idle.iter().any(|(worker, _)| *worker == id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.taken.iter().any(|taken| taken.by == id)
    }
}

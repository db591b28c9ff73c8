//! The queue between a pool and its workers.
//!
//! A submitter calls with a chunk of tasks and waits for the outcomes; a worker calls and waits for
//! work. A worker may receive several jobs at once, which it runs in order. When the session of a
//! worker ends, its first unfinished job fails or is retried, and its other jobs, which it has not
//! begun, go to other workers.
//!
//! Invariant: a job waits only while no worker waits.

mod job;
mod series;

use std::collections::{BTreeMap, VecDeque};

use lockkeeper_protocol::{
    CallId, Refusal, SessionId,
    operations::{
        ChunkOutcome, CloseTasks, Collect, CountTasks, Ended, FailTasks, Feed, Finished, HandBack,
        Job, Leave, Next, Reports, Row, Submit, TaskFault, TaskQueueStatus, WorkerExit,
    },
};

use crate::{
    data::task_queue::{
        job::{Pending, Submitter, Taken},
        series::{MOST_BYTES_AT_A_TIME, Series},
    },
    kind::{
        call::Call,
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// Jobs that wait for workers, jobs that workers have, and workers that wait for jobs.
#[derive(Debug, Default)]
pub struct TaskQueue {
    waiting: WaitQueue<Pending>,
    /// What each worker has, in the order in which it was given it. Empty hands are forgotten.
    hands: BTreeMap<SessionId, VecDeque<Taken>>,
    /// The worker that has each chunk that somebody waits for, by the call that submitted it.
    taken: BTreeMap<CallId, SessionId>,
    idle: WaitQueue<Idle>,
    series: Series,
    closed: Option<TaskFault>,
}

/// A worker that waits.
#[derive(Debug)]
struct Idle {
    call: Call<Option<Vec<Job>>>,
    most: u32,
}

impl Parked for Idle {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

impl TaskQueue {
    /// Gives jobs to workers while there are both, tells what became of others, and sends workers home
    /// when all is done: the end of every path that adds one of them.
    fn dispatch(&mut self) {
        self.series.tell();
        while !self.waiting.is_empty()
            && let Some(worker) = self.idle.pop_front()
        {
            self.hand_out(worker);
        }
        // A job that is running may come back, when its worker dies.
        if self.closed.is_some() && self.waiting.is_empty() && self.running() == 0 {
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

    /// Gives a worker what waits, as far as it takes it.
    fn hand_out(&mut self, Idle { call, most }: Idle) {
        let by = call.id();
        let mut left = usize::try_from(most.max(1)).unwrap_or(usize::MAX);
        let mut bytes = MOST_BYTES_AT_A_TIME;
        let mut jobs: Vec<Job> = Vec::new();
        while left > 0
            && let Some(waiting) = self.waiting.pop_front()
        {
            let (job, rest) = waiting.split(left, bytes);
            if let Some(rest) = rest {
                self.waiting.push_front(rest);
            }
            if !jobs.is_empty() && job.row.bytes() > bytes {
                self.waiting.push_front(job);
                break;
            }
            bytes = bytes.saturating_sub(job.row.bytes());
            left = left.saturating_sub(job.row.len());
            jobs.push(Job {
                id: job.id,
                task: job.task.clone(),
                row: job.row.clone(),
            });
            if let Submitter::Caller(_) = job.submitter {
                self.taken.insert(job.id, by.session());
            }
            let hands = self.hands.entry(by.session()).or_default();
            hands.push_back(Taken {
                by,
                id: job.id,
                count: job.row.len(),
                job: Some(job),
            });
        }
        call.reply(Some(jobs));
    }

    /// Hands the outcome of a job to whoever submitted it, if the job is still that worker's.
    fn finish(&mut self, worker: SessionId, Finished { job, outcome }: Finished) {
        if let Some(series) = self.take_first(worker, job) {
            self.series.end(series, job, outcome);
        } else if let Some(job) = self.take_from(worker, job) {
            self.end(job, &outcome);
        }
    }

    /// Takes the first of several tasks of a series that somebody waits for out of a worker's hands, as
    /// most of them are taken. Gives the series.
    fn take_first(&mut self, worker: SessionId, job: CallId) -> Option<CallId> {
        let taken = self.hands.get_mut(&worker)?.front_mut()?;
        if taken.id != job || taken.count < 2 {
            return None;
        }
        let pending = taken.job.as_mut()?;
        let Submitter::Series(series) = pending.submitter else {
            return None;
        };
        drop(pending.row.pop_front());
        pending.id = pending.id.plus(1);
        taken.id = pending.id;
        taken.count -= 1;
        Some(series)
    }

    /// Takes any job out of a worker's hands. Gives it if somebody waits for it.
    fn take_from(&mut self, worker: SessionId, job: CallId) -> Option<Pending> {
        let hands = self.hands.get_mut(&worker)?;
        let mut places = hands.iter().enumerate();
        let (at, place) = places.find_map(|(at, taken)| Some((at, taken.place_of(job)?)))?;
        let mut taken = hands.remove(at)?;
        if taken.count > place + 1 {
            let (until, behind) = taken.split(place + 1);
            hands.insert(at, behind);
            taken = until;
        }
        if place > 0 {
            let (before, one) = taken.split(place);
            hands.insert(at, before);
            taken = one;
        }
        if hands.is_empty() {
            self.hands.remove(&worker);
        }
        self.taken.remove(&job);
        taken.job
    }

    /// Tells what became of a job: the same of all tasks that it has.
    fn end(&mut self, job: Pending, outcome: &ChunkOutcome) {
        match job.submitter {
            Submitter::Caller(call) => call.reply(outcome.clone()),
            Submitter::Series(series) => {
                for place in 0..job.row.len() {
                    let id = job.id.plus(place);
                    self.series.end(series, id, outcome.clone());
                }
            }
        }
    }

    /// Tells what became of all that wait for a worker.
    fn fail_waiting(&mut self, outcome: &ChunkOutcome) {
        while let Some(job) = self.waiting.pop_front() {
            self.end(job, outcome);
        }
    }

    /// Forgets whoever waits for a chunk that a worker has.
    fn forget(&mut self, chunk: CallId) {
        let worker = self.taken.remove(&chunk);
        let hands = worker.and_then(|worker| self.hands.get_mut(&worker));
        let place = hands.and_then(|hands| hands.iter_mut().find(|taken| taken.id == chunk));
        if let Some(taken) = place {
            taken.job = None;
        }
    }

    /// Forgets some series, and all of their jobs.
    fn leave(&mut self, left: &[CallId]) {
        if left.is_empty() {
            return;
        }
        let is_left = |job: &Pending| matches!(job.submitter, Submitter::Series(series) if left.contains(&series));
        self.series.remove(left);
        let waiting = self.waiting.iter().filter(|(_, job)| is_left(job));
        let waiting: Vec<CallId> = waiting.map(|(id, _)| id).collect();
        for job in waiting {
            drop(self.waiting.remove(job));
        }
        for taken in self.hands.values_mut().flatten() {
            drop(taken.job.take_if(|job| is_left(job)));
        }
    }

    /// Takes jobs, in their order, back from a worker that has not begun them.
    fn take_back(&mut self, worker: SessionId, jobs: &[CallId]) {
        for job in jobs.iter().rev() {
            if let Some(job) = self.take_from(worker, *job) {
                self.waiting.push_front(job);
            }
        }
    }

    /// How many tasks workers have that somebody waits for.
    fn running(&self) -> usize {
        let taken = self.hands.values().flatten();
        taken
            .filter(|taken| taken.job.is_some())
            .map(|taken| taken.count)
            .sum()
    }

    fn status(&self) -> TaskQueueStatus {
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        let mut status = TaskQueueStatus::default();
        status.waiting = count(self.waiting.iter().map(|(_, job)| job.row.len()).sum());
        let given = self.hands.values().flatten();
        status.running = count(given.map(|taken| taken.count).sum());
        status.idle = count(self.idle.len());
        status
    }

    /// What becomes of the job that a worker ran when it ended.
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
                // The parent of the process knows.
                exit: WorkerExit::Unknown,
                attempts: job.deaths,
            };
            self.end(job, &Err(died));
        }
    }
}

impl Primitive for TaskQueue {
    const KIND: &'static str = "task_queue";
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
            .on::<CountTasks>()
            .on::<Reports>()
            .on::<Feed>()
            .on::<Collect>()
            .on::<Leave>()
            .on::<FailTasks>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiting.remove(id));
        self.forget(id);
        drop(self.idle.remove(id));
        self.series.withdraw(id);
        if let Some(hands) = self.hands.get(&id.session()) {
            let unseen = hands.iter().filter(|taken| taken.by == id);
            let unseen =
                unseen.flat_map(|taken| (0..taken.count).map(|place| taken.id.plus(place)));
            let unseen: Vec<CallId> = unseen.collect();
            self.take_back(id.session(), &unseen);
        }
        self.dispatch();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiting.remove_session(ended.session);
        self.idle.remove_session(ended.session);
        let left = self.series.of_session(ended.session);
        self.leave(&left);
        for chunk in CallId::of_session(&self.taken, ended.session) {
            self.forget(chunk);
        }
        let mut hands = self.hands.remove(&ended.session).unwrap_or_default();
        for taken in &hands {
            self.taken.remove(&taken.id);
        }
        // The first task of the first that it was given is the one that it had begun.
        let begun = hands.pop_front().and_then(|taken| taken.job);
        let (begun, behind) = begun.map(|job| job.split(1, usize::MAX)).unzip();
        let given = hands.into_iter().rev().filter_map(|taken| taken.job);
        for job in given.chain(behind.flatten()) {
            self.waiting.push_front(job);
        }
        if let Some(job) = begun {
            self.bury(job, ended);
        }
        self.dispatch();
    }

    /// Those who wait for tasks to be begun, those whose tasks workers have, and idle workers.
    fn survey(&self) -> Survey {
        let given = self.hands.values().flatten();
        let given = given.filter_map(|taken| taken.job.as_ref());
        let jobs = self.waiting.iter().map(|(_, job)| (job, "worker"));
        let jobs = given.map(|job| (job, "outcome")).chain(jobs);
        let jobs = jobs.filter_map(|(job, mode)| Some(Waiting::new(job.call()?, 1, mode)));
        let collectors = self.series.collectors();
        let jobs = jobs.chain(collectors.map(|call| Waiting::new(call, 1, "outcomes")));
        let workers = self.idle.iter();
        let workers = workers.map(|(_, idle)| Waiting::new(&idle.call, 1, "task"));
        Survey {
            state: format!("{} tasks given out", self.running()),
            parts: vec![
                Part::awaited(Some("tasks"), jobs),
                Part::awaited(Some("workers"), workers),
            ],
        }
    }
}

impl Serve<Submit> for TaskQueue {
    fn serve(&mut self, Submit { chunk, retries }: Submit, call: Call<ChunkOutcome>) {
        let job = Pending {
            id: call.id(),
            submitter: Submitter::Caller(call),
            task: chunk.task,
            row: Row::of_one(chunk.arguments),
            retries,
            deaths: 0,
        };
        self.submit(job);
    }
}

impl Serve<Feed> for TaskQueue {
    fn serve(&mut self, feed: Feed, call: Call<()>) {
        let session = call.id().session();
        call.reply(());
        let series = CallId::new(session, feed.series);
        self.series.begin(series);
        if feed.row.is_empty() {
            return;
        }
        self.submit(Pending {
            id: CallId::new(session, feed.first),
            submitter: Submitter::Series(series),
            task: feed.task,
            row: feed.row,
            retries: feed.retries,
            deaths: 0,
        });
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
        self.leave(&[CallId::new(call.id().session(), series)]);
        call.reply(());
        self.dispatch();
    }
}

impl Serve<Next> for TaskQueue {
    fn serve(&mut self, Next { finished, most }: Next, call: Call<Option<Vec<Job>>>) {
        let worker = call.id().session();
        if let Some(finished) = finished {
            self.finish(worker, finished);
        }
        let asking = Idle { call, most };
        if self.hands.contains_key(&worker) {
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
        self.take_back(call.id().session(), &jobs);
        call.reply(());
        self.dispatch();
    }
}

impl Serve<CloseTasks> for TaskQueue {
    fn serve(&mut self, CloseTasks { reason }: CloseTasks, call: Call<()>) {
        if let Some(reason) = &reason {
            let outcome = Err(reason.clone());
            self.fail_waiting(&outcome);
            let taken = self.hands.values_mut().flatten();
            let taken: Vec<Pending> = taken.filter_map(|taken| taken.job.take()).collect();
            for job in taken {
                self.end(job, &outcome);
            }
            self.taken.clear();
        }
        self.closed = Some(reason.unwrap_or(TaskFault::Closed));
        call.reply(());
        self.dispatch();
    }
}

impl Serve<FailTasks> for TaskQueue {
    fn serve(&mut self, FailTasks { reason }: FailTasks, call: Call<()>) {
        self.fail_waiting(&Err(reason));
        call.reply(());
        self.dispatch();
    }
}

impl Serve<CountTasks> for TaskQueue {
    fn serve(&mut self, _: CountTasks, call: Call<TaskQueueStatus>) {
        call.reply(self.status());
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::{codec::Blob, operations::Chunk};

    use crate::bench::Bench;

    use super::*;

    fn bench() -> Bench<TaskQueue> {
        Bench::new(()).unwrap()
    }

    fn submit(bench: &mut Bench<TaskQueue>, session: u64, retries: u32) -> CallId {
        let chunk = Chunk {
            task: "double".to_owned(),
            arguments: Blob::from(vec![7]),
        };
        bench.call(session, Submit { chunk, retries })
    }

    fn next(bench: &mut Bench<TaskQueue>, session: u64) -> CallId {
        next_of(bench, session, 1)
    }

    fn next_of(bench: &mut Bench<TaskQueue>, session: u64, most: u32) -> CallId {
        let finished = None;
        bench.call(session, Next { finished, most })
    }

    /// What a call for work was answered with, if it was.
    fn jobs(bench: &Bench<TaskQueue>, id: CallId) -> Option<Vec<CallId>> {
        let reply = bench.reply::<Next>(id)?;
        let jobs = reply.unwrap().expect("no worker is sent home");
        Some(jobs.iter().map(|job| job.id).collect())
    }

    fn job(bench: &Bench<TaskQueue>, id: CallId) -> Option<CallId> {
        jobs(bench, id).and_then(|jobs| jobs.first().copied())
    }

    fn outcome(bench: &Bench<TaskQueue>, job: CallId) -> Option<ChunkOutcome> {
        bench.reply::<Submit>(job).map(Result::unwrap)
    }

    fn died() -> ChunkOutcome {
        died_in_attempt(1)
    }

    fn died_in_attempt(attempts: u32) -> ChunkOutcome {
        let (pid, exit) = (0, WorkerExit::Unknown);
        Err(TaskFault::WorkerDied {
            pid,
            exit,
            attempts,
        })
    }

    fn finish(bench: &mut Bench<TaskQueue>, session: u64, job: CallId) -> CallId {
        let finished = Some(Finished {
            job,
            outcome: Ok(Blob::from(vec![14])),
        });
        bench.call(session, Next { finished, most: 1 })
    }

    #[test]
    fn a_task_goes_to_a_worker_and_its_result_back() {
        let mut bench = bench();
        let (worker, task) = (next(&mut bench, 1), submit(&mut bench, 9, 0));
        assert_eq!(job(&bench, worker), Some(task));
        finish(&mut bench, 1, task);
        assert_eq!(outcome(&bench, task), Some(Ok(Blob::from(vec![14]))));
    }

    #[test]
    fn tasks_are_taken_in_the_order_of_their_submission() {
        let mut bench = bench();
        let tasks: Vec<CallId> = (0..3).map(|_| submit(&mut bench, 9, 0)).collect();
        let workers: Vec<CallId> = (1..=3).map(|session| next(&mut bench, session)).collect();
        let taken: Vec<CallId> = workers.iter().filter_map(|id| job(&bench, *id)).collect();
        assert_eq!(taken, tasks);
    }

    #[test]
    fn a_killed_worker_fails_only_the_task_it_ran() {
        let mut bench = bench();
        let (first, second) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
        next(&mut bench, 1);
        bench.hang_up(1);
        assert_eq!(outcome(&bench, first), Some(died()));
        let worker = next(&mut bench, 2);
        assert_eq!(job(&bench, worker), Some(second));
    }

    #[test]
    fn a_task_with_retries_is_tried_again_before_all_others() {
        let mut bench = bench();
        let (first, _) = (submit(&mut bench, 9, 1), submit(&mut bench, 9, 0));
        next(&mut bench, 1);
        bench.hang_up(1);
        let worker = next(&mut bench, 2);
        assert_eq!(job(&bench, worker), Some(first));
        bench.hang_up(2);
        assert_eq!(outcome(&bench, first), Some(died_in_attempt(2)));
    }

    #[test]
    fn a_withdrawn_task_is_not_run_and_its_late_result_is_ignored() {
        let mut bench = bench();
        let (first, second) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
        bench.withdraw(first);
        let worker = next(&mut bench, 1);
        assert_eq!(job(&bench, worker), Some(second));
        bench.withdraw(second);
        finish(&mut bench, 1, second);
        assert_eq!(bench.times_answered(second), 1);
    }

    #[test]
    fn a_job_whose_worker_never_saw_it_goes_back_to_the_front() {
        let mut bench = bench();
        let (first, _) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
        let unseen = next(&mut bench, 1);
        bench.withdraw(unseen);
        let worker = next(&mut bench, 2);
        assert_eq!(job(&bench, worker), Some(first));
    }

    #[test]
    fn a_worker_that_is_given_several_jobs_and_dies_fails_only_the_first_of_them() {
        let mut bench = bench();
        let tasks: Vec<CallId> = (0..4).map(|_| submit(&mut bench, 9, 0)).collect();
        let taken = next_of(&mut bench, 1, 3);
        assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[..3]));
        bench.hang_up(1);
        assert_eq!(outcome(&bench, tasks[0]), Some(died()));
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[1..]));
    }

    #[test]
    fn status_counts_what_runs_although_its_submitter_has_left() {
        let running = |bench: &mut Bench<TaskQueue>| {
            let count = bench.call(8, CountTasks);
            bench.reply::<CountTasks>(count).unwrap().unwrap().running
        };
        let mut bench = bench();
        let withdrawn = submit(&mut bench, 9, 0);
        next(&mut bench, 1);
        bench.withdraw(withdrawn);
        assert_eq!(running(&mut bench), 1);
        submit(&mut bench, 10, 0);
        next(&mut bench, 2);
        bench.hang_up(10);
        assert_eq!(running(&mut bench), 2);
        feed(&mut bench, 2000, 3, 0);
        next_of(&mut bench, 3, 2);
        bench.call(9, Leave { series: 1000 });
        assert_eq!(running(&mut bench), 4);
        finish(&mut bench, 1, withdrawn);
        bench.hang_up(3);
        assert_eq!(running(&mut bench), 1);
    }

    #[test]
    fn a_job_behind_one_that_nobody_waits_for_is_not_begun_when_its_worker_dies() {
        let mut bench = bench();
        let tasks: Vec<CallId> = (0..2).map(|_| submit(&mut bench, 9, 0)).collect();
        next_of(&mut bench, 1, 2);
        bench.withdraw(tasks[0]);
        bench.hang_up(1);
        let taken = next(&mut bench, 2);
        assert_eq!(job(&bench, taken), Some(tasks[1]));
    }

    #[test]
    fn a_worker_that_has_jobs_is_told_at_once_that_there_are_no_others() {
        let mut bench = bench();
        submit(&mut bench, 9, 0);
        next(&mut bench, 1);
        let more = next(&mut bench, 1);
        assert_eq!(jobs(&bench, more), Some(Vec::new()));
        let idle = next(&mut bench, 2);
        assert!(!bench.is_answered(idle));
    }

    #[test]
    fn jobs_that_are_handed_back_are_run_by_others_before_those_that_came_later() {
        let mut bench = bench();
        let tasks: Vec<CallId> = (0..4).map(|_| submit(&mut bench, 9, 0)).collect();
        next_of(&mut bench, 1, 3);
        let jobs = tasks[1..3].to_vec();
        bench.call(2, HandBack { jobs: jobs.clone() });
        bench.call(1, HandBack { jobs });
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(self::jobs(&bench, taken).as_deref(), Some(&tasks[1..]));
        finish(&mut bench, 1, tasks[0]);
        assert!(bench.is_answered(tasks[0]));
    }

    #[test]
    fn large_jobs_are_not_given_together_with_others() {
        let mut bench = bench();
        for length in [1, 1, MOST_BYTES_AT_A_TIME, 1] {
            let chunk = Chunk {
                task: "double".to_owned(),
                arguments: Blob::from(vec![7; length]),
            };
            bench.call(9, Submit { chunk, retries: 0 });
        }
        for (worker, many) in [(1, 2), (2, 1), (3, 1)] {
            let taken = next_of(&mut bench, worker, 9);
            assert_eq!(jobs(&bench, taken).map(|jobs| jobs.len()), Some(many));
        }
    }

    #[test]
    fn a_worker_cannot_finish_the_job_of_another() {
        let mut bench = bench();
        let task = submit(&mut bench, 9, 0);
        next(&mut bench, 1);
        finish(&mut bench, 2, task);
        assert!(!bench.is_answered(task));
    }

    #[test]
    fn a_closed_queue_finishes_what_it_has_and_sends_its_workers_home() {
        let mut bench = bench();
        let task = submit(&mut bench, 9, 0);
        bench.call(9, CloseTasks { reason: None });
        let late = submit(&mut bench, 9, 0);
        assert_eq!(outcome(&bench, late), Some(Err(TaskFault::Closed)));
        let worker = next(&mut bench, 1);
        assert_eq!(job(&bench, worker), Some(task));
        let home = finish(&mut bench, 1, task);
        assert!(bench.reply::<Next>(home).unwrap().unwrap().is_none());
    }

    #[test]
    fn a_closed_queue_keeps_a_worker_for_the_job_of_one_that_dies() {
        let mut bench = bench();
        let task = submit(&mut bench, 9, 1);
        next(&mut bench, 1);
        let spare = next(&mut bench, 2);
        bench.call(9, CloseTasks { reason: None });
        assert!(!bench.is_answered(spare));
        bench.hang_up(1);
        assert_eq!(job(&bench, spare), Some(task));
    }

    #[test]
    fn tasks_that_wait_fail_without_a_worker_and_those_that_come_later_are_run() {
        let mut bench = bench();
        let (running, waiting) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
        next(&mut bench, 1);
        let reason = TaskFault::Broken("no processes are left".to_owned());
        bench.call(
            8,
            FailTasks {
                reason: reason.clone(),
            },
        );
        assert_eq!(outcome(&bench, waiting), Some(Err(reason)));
        assert!(!bench.is_answered(running));
        let later = submit(&mut bench, 9, 0);
        let worker = next(&mut bench, 2);
        assert_eq!(job(&bench, worker), Some(later));
    }

    #[test]
    fn a_terminated_queue_fails_what_waits_and_what_runs() {
        let mut bench = bench();
        let (running, waiting) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
        next(&mut bench, 1);
        bench.call(
            9,
            CloseTasks {
                reason: Some(TaskFault::Terminated),
            },
        );
        for task in [running, waiting] {
            assert_eq!(outcome(&bench, task), Some(Err(TaskFault::Terminated)));
        }
    }

    /// Hands in tasks of the first series of session 9: those of so many numbers from that one on.
    fn feed(bench: &mut Bench<TaskQueue>, first: u64, count: u64, retries: u32) -> Vec<CallId> {
        let bytes = (0..count).map(|_| 7).collect::<Vec<u8>>();
        let lengths = vec![1; bytes.len()];
        let feed = Feed {
            series: 1000,
            first,
            task: "double".to_owned(),
            row: Row::new(bytes.into(), lengths),
            retries,
        };
        bench.call(9, feed);
        let ids = first..first + count;
        ids.map(|number| CallId::new(SessionId::new(9), number))
            .collect()
    }

    fn collect(bench: &mut Bench<TaskQueue>) -> CallId {
        bench.call(9, Collect { series: 1000 })
    }

    /// What a call for outcomes was answered with, if it was: which tasks ended, and whether well.
    fn ended(bench: &Bench<TaskQueue>, collect: CallId) -> Option<Vec<(u64, bool)>> {
        let ended = bench.reply::<Collect>(collect)?.unwrap();
        let ended = ended.iter();
        Some(
            ended
                .map(|ended| (ended.number, ended.outcome.is_ok()))
                .collect(),
        )
    }

    /// The ids of all that a worker was given by a call.
    fn each(bench: &Bench<TaskQueue>, worker: CallId) -> Vec<CallId> {
        let jobs = bench.reply::<Next>(worker).unwrap().unwrap().unwrap();
        let each = jobs.into_iter().flat_map(Job::each);
        each.map(|(id, arguments)| {
            assert_eq!(arguments, Blob::from(vec![7]));
            id
        })
        .collect()
    }

    fn report(bench: &mut Bench<TaskQueue>, worker: u64, jobs: &[CallId]) {
        let finished = jobs.iter().map(|job| Finished {
            job: *job,
            outcome: Ok(Blob::from(vec![14])),
        });
        bench.call(worker, Reports(finished.collect()));
    }

    #[test]
    fn tasks_of_a_series_are_given_out_in_parts_and_their_outcomes_collected_together() {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 10, 0);
        let waits = collect(&mut bench);
        let taken = [(1, 4), (2, 3), (1, 9)].map(|(worker, most)| {
            let taken = next_of(&mut bench, worker, most);
            each(&bench, taken)
        });
        assert_eq!(taken.concat(), tasks);
        assert_eq!(ended(&bench, waits), None);
        report(&mut bench, 2, &tasks[4..6]);
        assert_eq!(ended(&bench, waits), Some(vec![(2004, true), (2005, true)]));
        // In whatever order they come.
        report(&mut bench, 1, &[tasks[2], tasks[0], tasks[8]]);
        report(&mut bench, 2, &tasks[6..7]);
        let waits = collect(&mut bench);
        let numbers = [2002, 2000, 2008, 2006].map(|number| (number, true));
        assert_eq!(ended(&bench, waits), Some(numbers.to_vec()));
        // Those that are left are the worker's still.
        bench.hang_up(1);
        let waits = collect(&mut bench);
        assert_eq!(ended(&bench, waits), Some(vec![(2001, false)]));
        let taken = next_of(&mut bench, 2, 9);
        let left = [3, 7, 9].map(|place: usize| tasks[place]);
        assert_eq!(each(&bench, taken), left);
    }

    #[test]
    fn one_task_of_a_series_is_tried_again_and_those_behind_it_are_given_to_others() {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 5, 1);
        next_of(&mut bench, 1, 4);
        report(&mut bench, 1, &tasks[..1]);
        bench.hang_up(1);
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(each(&bench, taken), tasks[1..]);
        bench.hang_up(2);
        let waits = collect(&mut bench);
        assert_eq!(
            ended(&bench, waits),
            Some(vec![(2000, true), (2001, false)])
        );
        let taken = next_of(&mut bench, 3, 9);
        assert_eq!(each(&bench, taken), tasks[2..]);
    }

    #[test]
    fn tasks_of_a_series_that_are_handed_back_are_run_by_others_in_their_order() {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 5, 0);
        next_of(&mut bench, 1, 4);
        let unseen = next_of(&mut bench, 1, 4);
        bench.withdraw(unseen);
        let jobs = tasks[2..4].to_vec();
        bench.call(1, HandBack { jobs });
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(each(&bench, taken), tasks[2..]);
        report(&mut bench, 1, &tasks[..2]);
        let waits = collect(&mut bench);
        assert_eq!(ended(&bench, waits), Some(vec![(2000, true), (2001, true)]));
    }

    #[test]
    fn tasks_of_a_series_that_is_left_are_not_run_and_those_that_are_have_no_effect() {
        for by_death in [true, false] {
            let mut bench = bench();
            let tasks = feed(&mut bench, 2000, 4, 9);
            next_of(&mut bench, 1, 2);
            let other = submit(&mut bench, 8, 0);
            if by_death {
                bench.hang_up(9);
            } else {
                bench.call(9, Leave { series: 1000 });
            }
            let taken = next_of(&mut bench, 2, 9);
            assert_eq!(jobs(&bench, taken), Some(vec![other]));
            report(&mut bench, 1, &tasks[..1]);
            bench.hang_up(1);
            let idle = next(&mut bench, 3);
            assert!(!bench.is_answered(idle));
        }
    }

    #[test]
    fn a_closed_queue_ends_the_tasks_of_a_series() {
        let mut bench = bench();
        feed(&mut bench, 2000, 2, 0);
        next(&mut bench, 1);
        let waits = collect(&mut bench);
        let reason = Some(TaskFault::Terminated);
        bench.call(9, CloseTasks { reason });
        assert_eq!(
            ended(&bench, waits),
            Some(vec![(2001, false), (2000, false)])
        );
        feed(&mut bench, 3000, 1, 0);
        let waits = collect(&mut bench);
        assert_eq!(ended(&bench, waits), Some(vec![(3000, false)]));
    }

    #[test]
    fn outcomes_of_a_series_come_in_as_many_messages_as_they_need() {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 3, 0);
        next_of(&mut bench, 1, 9);
        for task in &tasks {
            let outcome = Ok(Blob::from(vec![7; MOST_BYTES_AT_A_TIME / 2 + 1]));
            bench.call(
                1,
                Finished {
                    job: *task,
                    outcome,
                },
            );
        }
        for number in 2000..2003 {
            let waits = collect(&mut bench);
            assert_eq!(ended(&bench, waits), Some(vec![(number, true)]));
        }
    }

    #[test]
    fn a_collector_that_gives_up_loses_nothing() {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 1, 0);
        next(&mut bench, 1);
        let waits = collect(&mut bench);
        bench.withdraw(waits);
        report(&mut bench, 1, &tasks);
        let waits = collect(&mut bench);
        assert_eq!(ended(&bench, waits), Some(vec![(2000, true)]));
        let nothing = bench.call(8, Collect { series: 1000 });
        assert!(bench.reply::<Collect>(nothing).unwrap().is_err());
    }
}

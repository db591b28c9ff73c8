//! The queue between a pool and its workers: chunks of tasks go in as calls that wait for their
//! outcomes, and out to calls that wait for work.
//!
//! A worker may be given several jobs at a time, which it runs in that order. Invariant: a job waits
//! only while no worker does. A job that a worker took belongs to that worker's session: when it
//! ends, the first one fails or is tried again, and the others, not begun yet, are given to others.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    Call, CallId, HangUp, Operation, Operations, Parked, Part, Primitive, Refusal, Serve,
    SessionId, Survey, WaitQueue, Waiting, codec::Blob,
};

/// Waits for a chunk of tasks to be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// What is to be run.
    pub chunk: Chunk,
    /// How often the chunk is run again when its worker dies.
    pub retries: u32,
}

/// A number of tasks that are run together. Only its submitter and its worker look inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The name of the task.
    pub task: String,
    /// The arguments of each of them.
    pub arguments: Blob,
}

/// Hands in what was done, and asks for work; no answer means that there will be none.
///
/// A worker without a job waits until there is one. One that has some is answered at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Next {
    /// The job that the worker has finished.
    pub finished: Option<Finished>,
    /// How many jobs it takes at the most: at least one.
    pub most: u32,
}

/// Hands in what was done, without asking for work.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The job, by the call that submitted it.
    pub job: CallId,
    /// What became of it.
    pub outcome: ChunkOutcome,
}

/// Hands in what was done, one job after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reports(pub Vec<Finished>);

/// Hands back jobs that were not begun, for others to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandBack {
    /// The jobs, in the order in which they were given.
    pub jobs: Vec<CallId>,
}

/// Takes no more tasks. Those that were submitted are run, unless there is a reason not to.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseTasks {
    /// What tasks that are not finished fail with; with none they are finished.
    pub reason: Option<TaskFault>,
}

/// Asks for the numbers, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountTasks;

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The call that submitted it.
    pub id: CallId,
    /// What is to be run.
    pub chunk: Chunk,
}

/// The state of the queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskQueueStatus {
    /// How many jobs wait for a worker.
    pub waiting: u64,
    /// How many workers have. Each runs the first of its own.
    pub running: u64,
    /// How many workers wait for a job.
    pub idle: u64,
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskFault {
    /// It panicked, with that message.
    Panicked(String),
    /// The process that ran it ended in the middle.
    WorkerDied {
        /// The process id it had.
        pid: u32,
    },
    /// No task of that name is registered with the program.
    NotRegistered(String),
    /// Its arguments or its result could not be encoded or decoded.
    Unreadable(String),
    /// The pool was closed before the task was submitted.
    Closed,
    /// The pool was terminated before the task was finished.
    Terminated,
    /// The pool can start no workers.
    Broken(String),
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "the task panicked: {message}"),
            Self::WorkerDied { pid } => {
                write!(
                    f,
                    "worker process {pid} ended before it had a result: the task may have been run or not"
                )
            }
            Self::NotRegistered(name) => write!(
                f,
                "no task named {name:?} is registered: add .task::<..>() where the program starts"
            ),
            Self::Unreadable(why) => write!(f, "the task could not be carried over: {why}"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::Terminated => f.write_str("the pool was terminated"),
            Self::Broken(why) => write!(f, "the pool can start no workers: {why}"),
        }
    }
}

impl std::error::Error for TaskFault {}

/// The outcome of a chunk: those of its tasks, or one for all.
pub type ChunkOutcome = Result<Blob, TaskFault>;

impl Operation for Submit {
    const NAME: &'static str = "submit";
    type Reply = ChunkOutcome;
}

impl Operation for Next {
    const NAME: &'static str = "next";
    type Reply = Option<Vec<Job>>;
}

impl Operation for Finished {
    const NAME: &'static str = "finished";
    type Reply = ();
}

impl Operation for Reports {
    const NAME: &'static str = "reports";
    type Reply = ();
}

impl Operation for HandBack {
    const NAME: &'static str = "hand_back";
    type Reply = ();
}

impl Operation for CloseTasks {
    const NAME: &'static str = "close";
    type Reply = ();
}

impl Operation for CountTasks {
    const NAME: &'static str = "count";
    type Reply = TaskQueueStatus;
}

/// Jobs that wait for workers, jobs that workers have, and workers that wait for jobs.
#[derive(Debug, Default)]
pub struct TaskQueue {
    waiting: WaitQueue<Pending>,
    /// What each worker has, in the order in which it was given it. Empty hands are forgotten.
    hands: BTreeMap<SessionId, VecDeque<Taken>>,
    /// The worker that has each job that somebody waits for, by the call that submitted it.
    taken: BTreeMap<CallId, SessionId>,
    idle: WaitQueue<Idle>,
    closed: Option<TaskFault>,
}

/// A job, with all that it takes to run it: its worker may end, or may never see that it has it.
#[derive(Debug)]
struct Pending {
    call: Call<ChunkOutcome>,
    chunk: Chunk,
    retries: u32,
}

impl Parked for Pending {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

/// A job that a worker has.
#[derive(Debug)]
struct Taken {
    /// The call for work that it answered.
    by: CallId,
    id: CallId,
    /// Empty once nobody waits for the outcome: the worker may be running it all the same.
    job: Option<Pending>,
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

/// Several jobs are given at a time only if they have no more bytes of arguments together.
const MOST_BYTES_AT_A_TIME: usize = 1 << 20;

impl TaskQueue {
    /// Gives jobs to workers while there are both, and sends workers home when all is done: the
    /// end of every path that adds one or the other.
    fn dispatch(&mut self) {
        while !self.waiting.is_empty()
            && let Some(worker) = self.idle.pop_front()
        {
            self.hand_out(worker);
        }
        // A job that is running may come back, when its worker dies.
        if self.closed.is_some() && self.waiting.is_empty() && self.taken.is_empty() {
            while let Some(worker) = self.idle.pop_front() {
                worker.call.reply(None);
            }
        }
    }

    /// Gives a worker what waits, as far as it takes it.
    fn hand_out(&mut self, Idle { call, most }: Idle) {
        let (by, mut bytes) = (call.id(), 0);
        let mut jobs = Vec::new();
        for _ in 0..most.max(1) {
            let next = self.waiting.front();
            bytes += next.map_or(0, |job| job.chunk.arguments.0.len());
            if bytes > MOST_BYTES_AT_A_TIME && !jobs.is_empty() {
                break;
            }
            let Some(job) = self.waiting.pop_front() else {
                break;
            };
            let (id, chunk) = (job.call.id(), job.chunk.clone());
            jobs.push(Job { id, chunk });
            self.taken.insert(id, by.session());
            let hands = self.hands.entry(by.session()).or_default();
            hands.push_back(Taken {
                by,
                id,
                job: Some(job),
            });
        }
        call.reply(Some(jobs));
    }

    /// Hands the outcome of a job to whoever submitted it, if the job is still that worker's.
    fn finish(&mut self, worker: SessionId, Finished { job, outcome }: Finished) {
        if let Some(job) = self.take_from(worker, job) {
            job.call.reply(outcome);
        }
    }

    /// Takes a job out of a worker's hands. Gives it if somebody waits for it.
    fn take_from(&mut self, worker: SessionId, job: CallId) -> Option<Pending> {
        let hands = self.hands.get_mut(&worker)?;
        let place = hands.iter().position(|taken| taken.id == job)?;
        let taken = hands.remove(place)?;
        if hands.is_empty() {
            self.hands.remove(&worker);
        }
        self.taken.remove(&job);
        taken.job
    }

    /// Forgets whoever waits for a job that a worker has.
    fn forget(&mut self, job: CallId) {
        let worker = self.taken.remove(&job);
        let hands = worker.and_then(|worker| self.hands.get_mut(&worker));
        let place = hands.and_then(|hands| hands.iter_mut().find(|taken| taken.id == job));
        if let Some(taken) = place {
            taken.job = None;
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

    fn status(&self) -> TaskQueueStatus {
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        TaskQueueStatus {
            waiting: count(self.waiting.len()),
            running: count(self.taken.len()),
            idle: count(self.idle.len()),
        }
    }

    /// What becomes of the job that a worker ran when it ended.
    fn bury(&mut self, mut job: Pending, ended: &HangUp) {
        if job.retries > 0 {
            job.retries -= 1;
            ended.retry();
            self.waiting.push_front(job);
        } else {
            let pid = ended.peer.pid;
            job.call.reply(Err(TaskFault::WorkerDied { pid }));
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
            .on::<Reports>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiting.remove(id));
        self.forget(id);
        drop(self.idle.remove(id));
        if let Some(hands) = self.hands.get(&id.session()) {
            let unseen = hands.iter().filter(|taken| taken.by == id);
            let unseen: Vec<CallId> = unseen.map(|taken| taken.id).collect();
            self.take_back(id.session(), &unseen);
        }
        self.dispatch();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiting.remove_session(ended.session);
        self.idle.remove_session(ended.session);
        for job in CallId::of_session(&self.taken, ended.session) {
            self.forget(job);
        }
        let mut hands = self.hands.remove(&ended.session).unwrap_or_default();
        for taken in &hands {
            self.taken.remove(&taken.id);
        }
        let begun = hands.pop_front().and_then(|taken| taken.job);
        for job in hands.into_iter().rev().filter_map(|taken| taken.job) {
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
        let jobs = jobs.map(|(job, mode)| Waiting::new(&job.call, 1, mode));
        let workers = self.idle.iter();
        let workers = workers.map(|(_, idle)| Waiting::new(&idle.call, 1, "task"));
        Survey {
            state: format!("{} chunks given out", self.taken.len()),
            parts: vec![
                Part::awaited(Some("tasks"), jobs),
                Part::awaited(Some("workers"), workers),
            ],
        }
    }
}

impl Serve<Submit> for TaskQueue {
    fn serve(&mut self, Submit { chunk, retries }: Submit, call: Call<ChunkOutcome>) {
        if let Some(reason) = &self.closed {
            call.reply(Err(reason.clone()));
            return;
        }
        let job = Pending {
            call,
            chunk,
            retries,
        };
        self.waiting.push(job);
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
            while let Some(job) = self.waiting.pop_front() {
                job.call.reply(Err(reason.clone()));
            }
            for taken in self.hands.values_mut().flatten() {
                if let Some(job) = taken.job.take() {
                    job.call.reply(Err(reason.clone()));
                }
            }
            self.taken.clear();
        }
        self.closed = Some(reason.unwrap_or(TaskFault::Closed));
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
    use super::*;
    use crate::Bench;

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
        Err(TaskFault::WorkerDied { pid: 0 })
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
        assert_eq!(outcome(&bench, first), Some(died()));
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
}

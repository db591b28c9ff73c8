//! The queue between a pool and its workers: tasks go in as calls that wait for their results, and
//! out to calls that wait for work.
//!
//! Invariant: a job waits only while no worker does. A job that a worker took belongs to that
//! worker's session, so it fails, or is tried again, when the session ends.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    Call, CallId, HangUp, Operation, Operations, Primitive, Refusal, Serve, WaitQueue, codec::Blob,
};

/// Waits for a chunk of tasks to be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// The name of the task.
    pub task: String,
    /// The encoded arguments of each task of the chunk.
    pub arguments: Vec<Blob>,
    /// How often the chunk is run again when its worker dies.
    pub retries: u32,
}

/// Hands in what was done, and waits for work; no work means that there will be none.
#[derive(Debug, Serialize, Deserialize)]
pub struct Next {
    /// The job that the worker has finished.
    pub finished: Option<Finished>,
}

/// Hands in what was done by a worker that takes no more.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The job, by the call that submitted it.
    pub job: CallId,
    /// The outcome of each task of the chunk.
    pub outcomes: Vec<Result<Blob, TaskFault>>,
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
    /// The name of the task.
    pub task: String,
    /// The encoded arguments of each task of the chunk.
    pub arguments: Vec<Blob>,
}

/// The state of the queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskQueueStatus {
    /// How many jobs wait for a worker.
    pub waiting: u64,
    /// How many are being run.
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

/// The outcome of a chunk: one of each task, or one for all.
pub type ChunkOutcome = Result<Vec<Result<Blob, TaskFault>>, TaskFault>;

impl Operation for Submit {
    const NAME: &'static str = "submit";
    type Reply = ChunkOutcome;
}

impl Operation for Next {
    const NAME: &'static str = "next";
    type Reply = Option<Job>;
}

impl Operation for Finished {
    const NAME: &'static str = "finished";
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

/// Jobs that wait for workers, jobs that are run, and workers that wait for jobs.
#[derive(Debug, Default)]
pub struct TaskQueue {
    waiting: WaitQueue<Pending>,
    /// By the call that submitted the job.
    running: BTreeMap<CallId, Running>,
    /// The job that each answered call for work was given.
    taken: BTreeMap<CallId, CallId>,
    idle: WaitQueue<Call<Option<Job>>>,
    closed: Option<TaskFault>,
}

/// A job that no worker has.
#[derive(Debug)]
struct Pending {
    call: Call<ChunkOutcome>,
    task: String,
    arguments: Vec<Blob>,
    retries: u32,
}

/// A job that a worker has.
#[derive(Debug)]
struct Running {
    /// The call for work that it answered.
    taken: CallId,
    /// With its arguments: the worker may end, or may never see that it has the job.
    job: Pending,
}

impl TaskQueue {
    /// Gives jobs to workers while there are both, and sends workers home when all is done: the
    /// end of every path that adds one or the other.
    fn dispatch(&mut self) {
        while !self.idle.is_empty()
            && let Some(job) = self.waiting.pop_front()
        {
            let Some(worker) = self.idle.pop_front() else {
                return;
            };
            let (id, taken) = (job.call.id(), worker.id());
            let arguments = job.arguments.clone();
            let task = job.task.clone();
            self.taken.insert(taken, id);
            self.running.insert(id, Running { taken, job });
            worker.reply(Some(Job {
                id,
                task,
                arguments,
            }));
        }
        // A job that is running may come back, when its worker dies.
        if self.closed.is_some() && self.waiting.is_empty() && self.running.is_empty() {
            while let Some(worker) = self.idle.pop_front() {
                worker.reply(None);
            }
        }
    }

    /// Hands the outcome of a job to whoever submitted it, if the job is still that worker's.
    fn finish(&mut self, worker: CallId, Finished { job, outcomes }: Finished) {
        let is_theirs = self
            .running
            .get(&job)
            .is_some_and(|running| running.taken.session() == worker.session());
        if is_theirs && let Some(running) = self.forget(job) {
            running.job.call.reply(Ok(outcomes));
        }
    }

    /// Takes a job out of a worker's hands.
    fn forget(&mut self, job: CallId) -> Option<Running> {
        let running = self.running.remove(&job)?;
        self.taken.remove(&running.taken);
        Some(running)
    }

    /// What becomes of a job whose worker has ended.
    fn bury(&mut self, job: CallId, pid: u32) {
        let Some(Running { mut job, .. }) = self.forget(job) else {
            return;
        };
        if job.retries > 0 {
            job.retries -= 1;
            self.waiting.push_front(job.call.id(), job);
        } else {
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
            .on::<CloseTasks>()
            .on::<CountTasks>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiting.remove(id));
        drop(self.forget(id));
        drop(self.idle.remove(id));
        let unseen = self.taken.get(&id).copied();
        if let Some(Running { job, .. }) = unseen.and_then(|job| self.forget(job)) {
            self.waiting.push_front(job.call.id(), job);
        }
        self.dispatch();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.waiting.remove_session(ended.session);
        self.idle.remove_session(ended.session);
        let (least, greatest) = CallId::span(ended.session);
        let submitted: Vec<CallId> = self
            .running
            .range(least..=greatest)
            .map(|(job, _)| *job)
            .collect();
        for job in submitted {
            drop(self.forget(job));
        }
        let taken: Vec<CallId> = self
            .taken
            .range(least..=greatest)
            .map(|(_, job)| *job)
            .collect();
        // Backwards, so that those to be tried again stand in their old order at the front.
        for job in taken.into_iter().rev() {
            self.bury(job, ended.peer.pid);
        }
        self.dispatch();
    }
}

impl Serve<Submit> for TaskQueue {
    fn serve(&mut self, submit: Submit, call: Call<ChunkOutcome>) {
        if let Some(reason) = &self.closed {
            call.reply(Err(reason.clone()));
            return;
        }
        let Submit {
            task,
            arguments,
            retries,
        } = submit;
        self.waiting.push(
            call.id(),
            Pending {
                call,
                task,
                arguments,
                retries,
            },
        );
        self.dispatch();
    }
}

impl Serve<Next> for TaskQueue {
    fn serve(&mut self, Next { finished }: Next, call: Call<Option<Job>>) {
        if let Some(finished) = finished {
            self.finish(call.id(), finished);
        }
        self.idle.push(call.id(), call);
        self.dispatch();
    }
}

impl Serve<Finished> for TaskQueue {
    fn serve(&mut self, finished: Finished, call: Call<()>) {
        self.finish(call.id(), finished);
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
            for (_, Running { job, .. }) in std::mem::take(&mut self.running) {
                job.call.reply(Err(reason.clone()));
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
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        call.reply(TaskQueueStatus {
            waiting: count(self.waiting.len()),
            running: count(self.running.len()),
            idle: count(self.idle.len()),
        });
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
        let arguments = vec![Blob(vec![7])];
        bench.call(
            session,
            Submit {
                task: "double".to_owned(),
                arguments,
                retries,
            },
        )
    }

    fn next(bench: &mut Bench<TaskQueue>, session: u64) -> CallId {
        bench.call(session, Next { finished: None })
    }

    fn job(bench: &Bench<TaskQueue>, id: CallId) -> Option<CallId> {
        bench
            .reply::<Next>(id)
            .map(|reply| reply.unwrap().expect("a job").id)
    }

    fn finish(bench: &mut Bench<TaskQueue>, session: u64, job: CallId) -> CallId {
        let finished = Finished {
            job,
            outcomes: vec![Ok(Blob(vec![14]))],
        };
        bench.call(
            session,
            Next {
                finished: Some(finished),
            },
        )
    }

    #[test]
    fn a_task_goes_to_a_worker_and_its_result_back() {
        let mut bench = bench();
        let (worker, task) = (next(&mut bench, 1), submit(&mut bench, 9, 0));
        assert_eq!(job(&bench, worker), Some(task));
        finish(&mut bench, 1, task);
        let outcome = bench.reply::<Submit>(task).unwrap().unwrap();
        assert_eq!(outcome, Ok(vec![Ok(Blob(vec![14]))]));
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
        let outcome = bench.reply::<Submit>(first).unwrap().unwrap();
        assert!(matches!(outcome, Err(TaskFault::WorkerDied { .. })));
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
        assert!(bench.reply::<Submit>(first).unwrap().unwrap().is_err());
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
        assert_eq!(
            bench.reply::<Submit>(late).unwrap().unwrap(),
            Err(TaskFault::Closed)
        );
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
            let outcome = bench.reply::<Submit>(task).unwrap().unwrap();
            assert_eq!(outcome, Err(TaskFault::Terminated));
        }
    }
}

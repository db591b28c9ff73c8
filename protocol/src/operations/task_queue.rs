//! The operations of the task queue of a pool: arguments, replies and the status.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    codec::{blob::Blob, short::short_list},
    ids::JobId,
    operation::Operation,
    operations::task_row::Row,
    printable::{Printable, PrintableText},
};

/// Submits a chunk of tasks, and waits for its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// The tasks to run.
    pub chunk: Chunk,
    /// The number of times that the chunk is run again when its worker dies.
    pub retries: u32,
    /// The number of a series. If that has a limit, the chunk is one of its tasks; see [`LimitSeries`].
    pub series: Option<u64>,
}

/// Submits tasks of a series, each of which runs by itself.
///
/// A series is many tasks of one submitter, which collects their outcomes as they arrive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    /// The number of the series, which the session does not reuse.
    pub series: u64,
    /// The submitter's number for the first task. The other tasks have consecutive numbers.
    pub first: u64,
    /// The name of the tasks.
    pub task: String,
    /// The arguments of each task, encoded as those of a chunk of one task.
    pub row: Row,
    /// The number of times that each task is run again when its worker dies.
    pub retries: u32,
}

/// Begins a series and limits the outcomes that are kept for it.
///
/// An outcome is kept until its submitter has released it, also after it was collected. The queue gives out the
/// tasks of the series in order of submission. At the limit it gives out only a task whose position in the series,
/// counted from 0, is at most the number of released outcomes, so that a submitter that needs the outcomes in order
/// gets the next one. A closed queue runs all tasks regardless.
#[derive(Debug, Serialize, Deserialize)]
pub struct LimitSeries {
    /// The number of the series, which the session does not reuse.
    pub series: u64,
    /// The bytes of outcomes from which no further task is given to a worker, as [`outcome_bytes`] counts
    /// them.
    pub most: u64,
}

/// Releases outcomes of a series with a limit.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleaseOutcomes {
    /// The number of the series.
    pub series: u64,
    /// The bytes of the outcomes, as [`outcome_bytes`] counts them.
    pub bytes: u64,
    /// The number of the outcomes.
    pub count: u64,
}

/// Waits for outcomes of a series, and takes all that have arrived. Another call for the same series, or its
/// [`Leave`], ends the wait with [`Fault::Withdrawn`](crate::Fault::Withdrawn).
#[derive(Debug, Serialize, Deserialize)]
pub struct Collect {
    /// The number of the series.
    pub series: u64,
}

/// The outcome of a task of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The number of the task.
    pub number: u64,
    /// The outcome, encoded as that of a chunk of one task.
    pub outcome: ChunkOutcome,
}

/// Ends a series. Tasks that no worker has taken do not run. The calls that submitted chunks among them fail with
/// [`Fault::Withdrawn`](crate::Fault::Withdrawn).
#[derive(Debug, Serialize, Deserialize)]
pub struct Leave {
    /// The number of the series.
    pub series: u64,
}

/// Tasks that run together. Only their submitter and their worker decode them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The name of the task.
    pub task: String,
    /// The arguments of each task.
    pub arguments: Blob,
}

/// Reports a finished job, and asks for work. The answer is empty if there will be no more work.
///
/// A worker without a job waits until there is one. A worker with jobs is answered at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Next {
    /// The job that the worker has finished.
    pub finished: Option<Finished>,
    /// The most jobs that it takes, at least one.
    pub most: u32,
}

/// Reports a finished job, without asking for work.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The id of the job.
    pub job: JobId,
    /// The outcome of the job.
    pub outcome: ChunkOutcome,
}

/// Reports several finished jobs in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reports(
    /// The reports, at most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ Reports::MOST }, _, Finished, _>")]
    pub Vec<Finished>,
);

impl Reports {
    /// The most reports of one call: more than a session reads from a report pipe in one turn.
    pub const MOST: usize = 1 << 16;
}

/// Returns jobs that have not begun, so that other workers can run them.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandBack {
    /// The jobs in the order in which they were received, at most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ HandBack::MOST }, _, JobId, _>")]
    pub jobs: Vec<JobId>,
}

impl HandBack {
    /// The most jobs of one call, because each is found and returned by itself.
    pub const MOST: usize = 1 << 12;
}

/// Closes the queue to further tasks. Submitted tasks still run, unless there is a reason not to.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseTasks {
    /// The fault of all unfinished tasks; `None` lets them finish.
    pub reason: Option<TaskFault>,
}

/// Fails the tasks that wait for a worker, because there is no worker. Later tasks are accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailTasks {
    /// The fault of these tasks.
    pub reason: TaskFault,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetTaskQueueStatus;

/// The name of a task, shared by all jobs that were submitted together.
pub type TaskName = Arc<str>;

/// The work of a worker: one chunk, or tasks of a series that each run by itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The id of the chunk, or of the first task. The other tasks have consecutive ids.
    pub id: JobId,
    /// The name of the task.
    pub task: TaskName,
    /// The arguments of each task.
    pub row: Row,
}

impl Job {
    /// Splits the job into single tasks, each with its id and its encoded arguments.
    pub fn each(self) -> impl Iterator<Item = (JobId, Blob)> {
        let Self { id, mut row, .. } = self;
        (0..).map_while(move |place| Some((id.plus(place), row.pop_front()?)))
    }
}

/// The state of the queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskQueueStatus {
    /// The number of tasks that wait for a worker.
    pub waiting: u64,
    /// The number of tasks that workers have, including those whose submitter is gone. Each worker runs the
    /// first of its tasks.
    pub running: u64,
    /// The number of workers that wait for a task.
    pub idle: u64,
}

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WorkerExit {
    /// The end is unknown: the process may be alive and have lost its connection to the pool.
    #[default]
    Unknown,
    /// The process exited with that code.
    Code(i32),
    /// That signal killed the process.
    Signal(i32),
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("lost its connection"),
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// The reason why a task has no result.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskFault {
    /// The task panicked, with that message.
    Panicked(String),
    /// The process that ran the task ended before it was done.
    WorkerDied {
        /// The process id.
        pid: u32,
        /// How it ended.
        exit: WorkerExit,
        /// The number of times that the task was begun.
        attempts: u32,
    },
    /// The program has no task registered with that name.
    NotRegistered(String),
    /// The arguments or the result could not be encoded, or do not fit into a message.
    Unreadable(String),
    /// The worker could not decode the arguments.
    Undecoded(Box<UndecodedTask>),
    /// The pool was closed before the task was submitted.
    Closed,
    /// The pool was terminated before the task was finished.
    Terminated,
    /// The pool cannot start workers, for that reason.
    Broken(String),
}

/// The task of a [`TaskFault::Undecoded`], and why its arguments could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecodedTask {
    /// The name of the task.
    pub task: String,
    /// The type of the submitted task.
    pub sent: String,
    /// The type of the task that the worker has.
    pub wanted: String,
    /// The error of the type's `Deserialize`, or the message of its panic.
    pub why: String,
}

impl TaskFault {
    /// Returns the text of the fault's reporter, or an empty text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Panicked(text)
            | Self::NotRegistered(text)
            | Self::Unreadable(text)
            | Self::Broken(text) => text,
            Self::Undecoded(undecoded) => &undecoded.why,
            Self::WorkerDied { .. } | Self::Closed | Self::Terminated => "",
        }
    }

    /// Shortens its text to at most `most_bytes` bytes.
    #[must_use]
    pub fn cut(mut self, most_bytes: usize) -> Self {
        let text = match &mut self {
            Self::Panicked(text)
            | Self::NotRegistered(text)
            | Self::Unreadable(text)
            | Self::Broken(text) => text,
            Self::Undecoded(undecoded) => &mut undecoded.why,
            Self::WorkerDied { .. } | Self::Closed | Self::Terminated => return self,
        };
        let mut ends = (0..=most_bytes).rev();
        let end = ends.find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        self
    }
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The text is on one line, as for any error. The variant contains the message itself.
            Self::Panicked(message) => {
                write!(f, "the task panicked: {}", PrintableText(message))
            }
            Self::WorkerDied {
                pid,
                exit,
                attempts,
            } => {
                write!(
                    f,
                    "worker process {pid} {exit} before it had a result, in attempt {attempts}: \
                     the task may have been run or not"
                )
            }
            Self::NotRegistered(name) => write!(
                f,
                "no task named {name:?} is registered: add .task::<..>() where the program starts, and \
                 .task::<Blocking<..>>() for a BlockingTask"
            ),
            Self::Unreadable(why) => {
                write!(
                    f,
                    "the task could not be carried over: {}",
                    PrintableText(why)
                )
            }
            Self::Undecoded(undecoded) => {
                let UndecodedTask {
                    task,
                    sent,
                    wanted,
                    why,
                } = &**undecoded;
                write!(
                    f,
                    "the worker cannot decode the arguments of task {task:?}: they were sent as {}, and {} does \
                     not read them ({}): let its Deserialize read what its Serialize writes",
                    Printable(sent),
                    Printable(wanted),
                    PrintableText(why)
                )
            }
            Self::Closed => f.write_str("the pool is closed: submit tasks before close()"),
            Self::Terminated => f.write_str(
                "the pool was terminated, or dropped, before the task had a result: join() it first",
            ),
            Self::Broken(why) => {
                write!(f, "the pool can start no workers: {}", PrintableText(why))
            }
        }
    }
}

impl fmt::Debug for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for TaskFault {}

/// The outcome of a chunk: an encoded outcome for each of its tasks, or one fault for all.
pub type ChunkOutcome = Result<Blob, TaskFault>;

/// The bytes of a fault without its text, approximately.
const FAULT_BYTES: usize = 64;

/// The bytes that an outcome counts: at least one.
#[must_use]
pub fn outcome_bytes(outcome: Result<&Blob, &TaskFault>) -> usize {
    match outcome {
        Ok(outputs) => outputs.0.len().max(1),
        Err(fault) => FAULT_BYTES + fault.text().len(),
    }
}

impl Operation for Submit {
    const NAME: &'static str = "submit";
    type Reply = ChunkOutcome;
}

impl Operation for Feed {
    const NAME: &'static str = "feed";
    type Reply = ();
}

impl Operation for Collect {
    const NAME: &'static str = "collect";
    type Reply = Vec<Ended>;
}

impl Operation for Leave {
    const NAME: &'static str = "leave";
    type Reply = ();
}

impl Operation for LimitSeries {
    const NAME: &'static str = "limit";
    type Reply = ();
}

impl Operation for ReleaseOutcomes {
    const NAME: &'static str = "release";
    type Reply = ();
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

impl Operation for FailTasks {
    const NAME: &'static str = "fail";
    type Reply = ();
}

impl Operation for GetTaskQueueStatus {
    const NAME: &'static str = "status";
    type Reply = TaskQueueStatus;
}

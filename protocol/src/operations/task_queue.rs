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

/// Waits for a chunk of tasks to be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// What is to be run.
    pub chunk: Chunk,
    /// How often the chunk is run again when its worker dies.
    pub retries: u32,
}

/// Hands in tasks of a series, each of which is run by itself.
///
/// A series is many tasks of one submitter, whose outcomes are collected as they come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    /// The number of the series, which the session uses for no other series.
    pub series: u64,
    /// What the submitter calls the first of the tasks. The numbers of the others count up from it.
    pub first: u64,
    /// The name of the tasks.
    pub task: String,
    /// The arguments of each of them, as those of a chunk of one.
    pub row: Row,
    /// How often each of them is run again when its worker dies.
    pub retries: u32,
}

/// Waits for outcomes of a series, and takes all that there are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Collect {
    /// The number of the series.
    pub series: u64,
}

/// What became of a task of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The number of the task.
    pub number: u64,
    /// Its outcome, as that of a chunk of one.
    pub outcome: ChunkOutcome,
}

/// Ends a series: those of its tasks that no worker has taken are not run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leave {
    /// The number of the series.
    pub series: u64,
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
    /// The job, by the id that it was given with.
    pub job: JobId,
    /// What became of it.
    pub outcome: ChunkOutcome,
}

/// Hands in what was done, one job after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reports(
    /// At most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ Reports::MOST }, _, Finished, _>")]
    pub Vec<Finished>,
);

impl Reports {
    /// The most reports of one call: more than a session reads from a report pipe in one turn.
    pub const MOST: usize = 1 << 16;
}

/// Hands back what was not begun, for others to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandBack {
    /// The jobs, in the order in which they were given: at most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ HandBack::MOST }, _, JobId, _>")]
    pub jobs: Vec<JobId>,
}

impl HandBack {
    /// The most jobs of one call. Each is found and put back by itself.
    pub const MOST: usize = 1 << 12;
}

/// Takes no more tasks. Those that were submitted are run, unless there is a reason not to.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseTasks {
    /// What tasks that are not finished fail with; with none they are finished.
    pub reason: Option<TaskFault>,
}

/// Fails the tasks that wait for a worker, since there is none. Others may be submitted afterwards.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailTasks {
    /// What they fail with.
    pub reason: TaskFault,
}

/// Asks for the numbers, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountTasks;

/// The name of a task, which all jobs that were submitted together share.
pub type TaskName = Arc<str>;

/// What a worker is to do: one chunk, or some tasks of a series that are each run by itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// That of the chunk, or of the first task. The ids of the others count up from it.
    pub id: JobId,
    /// The name of the task.
    pub task: TaskName,
    /// The arguments of each of them.
    pub row: Row,
}

impl Job {
    /// Each of them by itself: its id, and its arguments as those of a chunk.
    pub fn each(self) -> impl Iterator<Item = (JobId, Blob)> {
        let Self { id, mut row, .. } = self;
        (0..).map_while(move |place| Some((id.plus(place), row.pop_front()?)))
    }
}

/// The state of the queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskQueueStatus {
    /// How many jobs wait for a worker.
    pub waiting: u64,
    /// How many workers have, whether or not their outcomes are still waited for. Each worker runs the
    /// first of its own.
    pub running: u64,
    /// How many workers wait for a job.
    pub idle: u64,
}

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WorkerExit {
    /// Nothing is known of its end: it may be alive and have lost its connection to the pool.
    #[default]
    Unknown,
    /// It exited with that code.
    Code(i32),
    /// That signal ended it.
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

/// Why a task has no result.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskFault {
    /// It panicked, with that message.
    Panicked(String),
    /// The process that ran it ended in the middle.
    WorkerDied {
        /// The process id it had.
        pid: u32,
        /// How it ended.
        exit: WorkerExit,
        /// How often the task was begun.
        attempts: u32,
    },
    /// No task of that name is registered with the program.
    NotRegistered(String),
    /// Its arguments or its result could not be encoded, or do not fit a message.
    Unreadable(String),
    /// The worker could not decode its arguments.
    Undecoded {
        /// The name of the task.
        task: String,
        /// The type of the task that was submitted.
        sent: String,
        /// The type of the task that the worker has.
        wanted: String,
        /// What the type's `Deserialize` has said, or the message of its panic.
        why: String,
    },
    /// The pool was closed before the task was submitted.
    Closed,
    /// The pool was terminated before the task was finished.
    Terminated,
    /// The pool can start no workers.
    Broken(String),
}

impl TaskFault {
    /// The text of the reporter, or an empty one.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Panicked(text)
            | Self::NotRegistered(text)
            | Self::Unreadable(text)
            | Self::Undecoded { why: text, .. }
            | Self::Broken(text) => text,
            Self::WorkerDied { .. } | Self::Closed | Self::Terminated => "",
        }
    }

    /// Cuts its text to so many bytes at the most.
    #[must_use]
    pub fn cut(mut self, most_bytes: usize) -> Self {
        match &mut self {
            Self::Panicked(text)
            | Self::NotRegistered(text)
            | Self::Unreadable(text)
            | Self::Undecoded { why: text, .. }
            | Self::Broken(text) => {
                let mut ends = (0..=most_bytes).rev();
                let end = ends.find(|end| text.is_char_boundary(*end));
                text.truncate(end.unwrap_or_default());
            }
            Self::WorkerDied { .. } | Self::Closed | Self::Terminated => {}
        }
        self
    }
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // On one line, as any error is: the message itself is in the variant.
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
                "no task named {name:?} is registered: add .task::<..>() where the program starts"
            ),
            Self::Unreadable(why) => {
                write!(
                    f,
                    "the task could not be carried over: {}",
                    PrintableText(why)
                )
            }
            Self::Undecoded {
                task,
                sent,
                wanted,
                why,
            } => write!(
                f,
                "the worker cannot decode the arguments of task {task:?}: they were sent as {}, and {} does \
                 not read them ({}): let its Deserialize read what its Serialize writes",
                Printable(sent),
                Printable(wanted),
                PrintableText(why)
            ),
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

/// The outcome of a chunk: those of its tasks, or one for all.
pub type ChunkOutcome = Result<Blob, TaskFault>;

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

impl Operation for CountTasks {
    const NAME: &'static str = "count";
    type Reply = TaskQueueStatus;
}

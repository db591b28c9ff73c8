//! The outcomes of tasks: what a worker reports of a job, and what its submitter is told.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    codec::blob::Blob,
    printable::{Printable, PrintableText},
};

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
        /// How it ended.
        exit: WorkerExit,
    },
    /// The task ran longer than this limit, so its worker was killed.
    TimeLimit(Duration),
    /// The task was killed by its handle.
    Killed,
    /// The program has no task registered with that name.
    NotRegistered(String),
    /// The arguments or the result could not be encoded, or do not fit into a message.
    Unreadable(String),
    /// The worker could not decode the arguments.
    Undecoded(Box<UndecodedTask>),
    /// The pool was closed before the task was submitted.
    Closed,
    /// The pool was drained before a worker began the task, so the task did not run.
    NotRun,
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
            Self::WorkerDied { .. }
            | Self::TimeLimit(_)
            | Self::Killed
            | Self::Closed
            | Self::NotRun
            | Self::Terminated => "",
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
            Self::WorkerDied { .. }
            | Self::TimeLimit(_)
            | Self::Killed
            | Self::Closed
            | Self::NotRun
            | Self::Terminated => return self,
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
            Self::WorkerDied { exit } => write!(
                f,
                "the worker process {exit} before the task had a result: the task may have been run or not"
            ),
            Self::TimeLimit(limit) => write!(
                f,
                "the task ran longer than its time limit of {limit:?}, so its worker process was killed"
            ),
            Self::Killed => f.write_str("the task was killed by its handle"),
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
            Self::NotRun => f.write_str(
                "the pool was drained before a worker began the task, so the task did not run: submit it to another \
                 pool",
            ),
            Self::Terminated => f.write_str(
                "the pool was terminated, dropped or drained before the task had a result: join() it first, or drain() it for \
                 longer",
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

/// Why a task has no result, and what its attempts were like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// The reason.
    pub fault: TaskFault,
    /// The number of attempts that were begun.
    pub attempts: u32,
    /// How long the last attempt ran, to a few milliseconds, if it was begun.
    pub ran: Option<Duration>,
    /// The worker process of the last attempt, if it was begun.
    pub pid: Option<u32>,
}

impl From<TaskFault> for TaskFailure {
    /// A failure without an attempt.
    fn from(fault: TaskFault) -> Self {
        Self {
            fault,
            attempts: 0,
            ran: None,
            pid: None,
        }
    }
}

/// The outcome of a chunk: an encoded outcome for each of its tasks, or one failure for all.
pub type ChunkOutcome = Result<Blob, Box<TaskFailure>>;

/// The outcome of a job as its worker reports it. It is sent like a `Result`, with a third variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobOutcome {
    /// An encoded outcome for each task.
    #[serde(rename = "Ok")]
    Done(Blob),
    /// One fault for all tasks, which are one or were not begun.
    #[serde(rename = "Err")]
    Failed(TaskFault),
    /// The outcome of a single task that calls its output transient: another attempt may have a better one.
    Transient(Blob),
}

impl JobOutcome {
    /// The bytes of the encoded outcomes, or of the text of the fault.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Done(row) | Self::Transient(row) => row.0.len(),
            Self::Failed(fault) => fault.text().len(),
        }
    }
}

/// The bytes of a fault without its text, approximately.
const FAULT_BYTES: usize = 64;

/// The bytes that an outcome counts: at least one.
#[must_use]
pub fn outcome_bytes(outcome: Result<&Blob, &TaskFailure>) -> usize {
    match outcome {
        Ok(outputs) => outputs.0.len().max(1),
        Err(failure) => FAULT_BYTES + failure.fault.text().len(),
    }
}

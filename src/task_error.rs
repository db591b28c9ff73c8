//! `TaskError`: why a task has no output, and the facts about its attempts.

use std::{error::Error, fmt, time::Duration};

use lockkeeper_protocol::operations::{TaskFailure, TaskFault, WorkerExit};
use serde::{Deserialize, Serialize};

use crate::{error::CallError, undecoded::Undecoded};

/// The error of a task that has no output.
///
/// Its text is one sentence that names the task, and its methods return the facts. It can be serialized, so a task
/// may have it in its output.
///
/// ```no_run
/// # use lockkeeper::{Pool, Task, TaskError};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Square(u64);
/// # impl Task for Square {
/// #     const NAME: &'static str = "square";
/// #     type Output = u64;
/// #     async fn run(self) -> u64 { self.0 * self.0 }
/// # }
/// use lockkeeper::errors::TaskFault;
///
/// # async fn squares(pool: Pool) -> Result<(), TaskError> {
/// for square in pool.map((0..9).map(Square)).await {
///     match square {
///         Ok(square) => println!("{square}"),
///         Err(error) => match error.fault() {
///             Some(TaskFault::WorkerDied { .. }) => eprintln!("again later: {error}"),
///             _ => return Err(error),
///         },
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError(Box<Facts>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    task: String,
    index: Option<usize>,
    attempts: u32,
    ran: Option<Duration>,
    pid: Option<u32>,
    cause: TaskCause,
}

/// Why a task has no output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskCause {
    /// The task failed, or no worker ran it to its end.
    Failed(TaskFault),
    /// The task has run, but this process cannot decode its output.
    Undecoded(Box<Undecoded>),
    /// The pool cannot be reached, or did not accept the task.
    Call(CallError),
}

impl TaskError {
    fn new(cause: TaskCause) -> Self {
        Self(Box::new(Facts {
            task: String::new(),
            index: None,
            attempts: 0,
            ran: None,
            pid: None,
            cause,
        }))
    }

    /// Adds the name of the task, and its index among those that were submitted together.
    #[must_use]
    pub(crate) fn of(mut self, task: &str, index: Option<usize>) -> Self {
        if self.0.task.is_empty() {
            task.clone_into(&mut self.0.task);
        }
        self.0.index = self.0.index.or(index);
        self
    }

    /// Records that the task was begun once.
    #[must_use]
    pub(crate) fn begun(mut self) -> Self {
        self.0.attempts = 1;
        self
    }

    /// Records the only attempt of a task: its process, and how long that ran.
    #[must_use]
    pub(crate) fn of_process(mut self, pid: u32, ran: Option<Duration>) -> Self {
        (self.0.attempts, self.0.pid, self.0.ran) = (1, Some(pid), ran);
        self
    }

    /// Returns the name of the task; empty if the error is not that of a task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.0.task
    }

    /// Returns the index of the task among those of one `map`, `try_map`, `imap` or `imap_unordered`, from 0. A single
    /// task has none.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// Returns how often the task was begun: more than once only with [retries](crate::Retry).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns how long the last attempt ran, to a few milliseconds. It is unknown for a task that was not begun, and
    /// for a task that failed in a [chunk](crate::builders::PoolBuilder::chunk_size) of several.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        self.0.ran
    }

    /// Returns the id of the worker process that ran the last attempt, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    /// Returns the exit code or the signal of the worker, if the task failed because its worker died.
    #[must_use]
    pub fn exit(&self) -> Option<WorkerExit> {
        match self.fault()? {
            TaskFault::WorkerDied { exit } => Some(*exit),
            _ => None,
        }
    }

    /// Returns why the task has no output.
    #[must_use]
    pub fn cause(&self) -> &TaskCause {
        &self.0.cause
    }

    /// Returns why the task failed, unless the pool cannot be reached or the output cannot be decoded.
    #[must_use]
    pub fn fault(&self) -> Option<&TaskFault> {
        match &self.0.cause {
            TaskCause::Failed(fault) => Some(fault),
            TaskCause::Undecoded(_) | TaskCause::Call(_) => None,
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts {
            task,
            index,
            attempts,
            ran,
            pid,
            cause,
        } = &*self.0;
        if !task.is_empty() {
            write!(f, "task {task:?}")?;
            if let Some(index) = index {
                write!(f, " at index {index}")?;
            }
            if let Some(ran) = ran {
                write!(f, ", attempt {attempts}, after {ran:.1?}")?;
                if let Some(pid) = pid {
                    write!(f, " in worker process {pid}")?;
                }
            } else if *attempts > 1 {
                write!(f, ", attempt {attempts}")?;
            }
            f.write_str(": ")?;
        }
        match cause {
            TaskCause::Failed(fault) => fault.fmt(f),
            TaskCause::Undecoded(undecoded) => undecoded.fmt(f),
            TaskCause::Call(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The message contains the whole chain, so `source` returns `None`.
impl Error for TaskError {}

impl fmt::Debug for TaskCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(fault) => fault.fmt(f),
            Self::Undecoded(undecoded) => fmt::Debug::fmt(undecoded, f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl From<TaskFault> for TaskError {
    fn from(fault: TaskFault) -> Self {
        Self::new(TaskCause::Failed(fault))
    }
}

impl From<Box<TaskFailure>> for TaskError {
    fn from(failure: Box<TaskFailure>) -> Self {
        let TaskFailure {
            fault,
            attempts,
            ran,
            pid,
        } = *failure;
        let mut error = Self::from(fault);
        (error.0.attempts, error.0.ran, error.0.pid) = (attempts, ran, pid);
        error
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        Self::new(TaskCause::Call(error))
    }
}

impl From<Undecoded> for TaskError {
    fn from(undecoded: Undecoded) -> Self {
        Self::new(TaskCause::Undecoded(Box::new(undecoded)))
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::codec;

    use super::*;

    fn died() -> TaskError {
        let exit = WorkerExit::Signal(9);
        TaskError::from(Box::new(TaskFailure {
            fault: TaskFault::WorkerDied { exit },
            attempts: 2,
            ran: Some(Duration::from_millis(1250)),
            pid: Some(77),
        }))
    }

    #[test]
    fn text_is_one_sentence_with_all_facts() {
        let error = died().of("square", Some(3));
        assert_eq!(
            error.to_string(),
            "task \"square\" at index 3, attempt 2, after 1.2s in worker process 77: the worker process was ended by \
             signal 9 before the task had a result: the task may have been run or not"
        );
        assert_eq!(format!("{error:?}"), error.to_string());
        assert_eq!((error.task(), error.index()), ("square", Some(3)));
        assert_eq!((error.attempts(), error.pid()), (2, Some(77)));
        assert_eq!(error.ran(), Some(Duration::from_millis(1250)));
        assert_eq!(error.exit(), Some(WorkerExit::Signal(9)));
        let closed = TaskError::from(TaskFault::Closed).of("square", None);
        assert!(
            closed
                .to_string()
                .starts_with("task \"square\": the pool is closed")
        );
        assert_eq!(
            (closed.exit(), closed.ran(), closed.attempts()),
            (None, None, 0)
        );
    }

    #[test]
    fn error_of_no_task_says_what_failed_once() {
        for (error, told) in [
            (TaskFault::Closed.into(), TaskFault::Closed.to_string()),
            (CallError::gone().into(), CallError::gone().to_string()),
        ] {
            let error: TaskError = error;
            assert_eq!(
                (error.to_string(), format!("{error:?}")),
                (told.clone(), told)
            );
            assert!(error.source().is_none());
        }
    }

    #[test]
    fn error_of_a_task_is_sent_with_its_facts() {
        let error = died().of("square", Some(3));
        let sent = codec::encode(&error).unwrap();
        assert_eq!(codec::decode::<TaskError>(&sent).unwrap(), error);
    }

    #[test]
    fn name_and_index_that_are_known_are_kept() {
        let error = died().of("square", Some(3)).of("other", Some(4));
        assert_eq!((error.task(), error.index()), ("square", Some(3)));
    }
}

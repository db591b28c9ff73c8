//! What a pool runs: types with a name, data in and data out.

use std::{any::Any, collections::HashMap, fmt, future::Future, panic::AssertUnwindSafe};

use futures::{FutureExt, future::LocalBoxFuture};
use lockkeeper_actors::{
    codec::{self, Blob},
    data::TaskFault,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::CallError;

/// A piece of work that a process of a pool does: its fields are the arguments.
///
/// Registered by `program().task::<T>()`. The fields may hold proxies: the worker uses the same
/// hosted objects. See the [crate's example](crate).
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire: unique within the program.
    const NAME: &'static str;
    /// The result. A failure that the task foresees is part of it.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does the work, on the worker's main thread, in an actix system.
    ///
    /// A panic fails this task alone, with its message.
    fn run(self) -> impl Future<Output = Self::Output>;
}

/// A [`Task`] whose work is plain code: it runs on a plain thread, where `blocking_*` may be used.
///
/// Passed to a pool inside of [`Plain`], and registered by `program().task::<Plain<T>>()`.
///
/// ```
/// use lockkeeper::PlainTask;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Square(u64);
///
/// impl PlainTask for Square {
///     const NAME: &'static str = "square";
///     type Output = u64;
///
///     fn run(self) -> u64 {
///         self.0 * self.0
///     }
/// }
/// ```
pub trait PlainTask: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire: unique within the program.
    const NAME: &'static str;
    /// The result.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does the work, on a thread that may be blocked.
    fn run(self) -> Self::Output;
}

/// A plain task as a task.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plain<T>(pub T);

impl<T: PlainTask> Task for Plain<T> {
    const NAME: &'static str = T::NAME;
    type Output = T::Output;

    async fn run(self) -> T::Output {
        match tokio::task::spawn_blocking(move || self.0.run()).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends only with the worker.
                Err(error) => panic!("{error}"),
            },
        }
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The task failed, or there was no worker to run it to its end.
    Failed(TaskFault),
    /// The pool cannot be reached.
    Call(CallError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(fault) => fault.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<TaskFault> for TaskError {
    fn from(fault: TaskFault) -> Self {
        Self::Failed(fault)
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

type Run = fn(&[u8]) -> LocalBoxFuture<'static, Result<Blob, TaskFault>>;

/// The tasks of a program, by name.
#[derive(Clone, Default)]
pub(crate) struct Tasks(HashMap<&'static str, Run>);

impl Tasks {
    pub(crate) fn add<T: Task>(&mut self) {
        self.0.insert(T::NAME, run::<T>);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Runs a task to its end.
    pub(crate) async fn run(&self, name: &str, arguments: &[u8]) -> Result<Blob, TaskFault> {
        match self.0.get(name) {
            Some(run) => run(arguments).await,
            None => Err(TaskFault::NotRegistered(name.to_owned())),
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn run<T: Task>(arguments: &[u8]) -> LocalBoxFuture<'static, Result<Blob, TaskFault>> {
    let task = codec::decode::<T>(arguments)
        .map_err(|error| TaskFault::Unreadable(format!("arguments of {:?}: {error}", T::NAME)));
    let work = async move {
        let output = task?.run().await;
        codec::encode(&output)
            .map(Blob)
            .map_err(|error| TaskFault::Unreadable(format!("output of {:?}: {error}", T::NAME)))
    };
    AssertUnwindSafe(work)
        .catch_unwind()
        .map(|outcome| outcome.unwrap_or_else(|panic| Err(TaskFault::Panicked(message(&*panic)))))
        .boxed_local()
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "(not a text)".to_owned()
    }
}

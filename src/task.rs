//! What a pool runs: types with a name, data in and data out.

mod chunk;

use std::{
    any::{TypeId, type_name},
    collections::hash_map::Entry,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
};

use futures::{
    FutureExt,
    future::{BoxFuture, LocalBoxFuture},
};
use lockkeeper_actors::{
    codec::{self, Blob, CodecError},
    data::{Chunk, ChunkOutcome, TaskFault},
    panic_message,
};
use rustc_hash::FxHashMap;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio_util::bytes::Bytes;

use self::chunk::Outcomes;
pub(crate) use self::chunk::{MOST_TASKS, Outcome, fail_all, pack, pack_one, unpack, unpack_one};
use crate::{CallError, wire};

/// A piece of work that a process of a pool does: its fields are the arguments.
///
/// Registered by `program().task::<T>()`. The fields may hold proxies: the worker uses the same
/// hosted objects. Bytes travel as one piece in a `String` or with the crate `serde_bytes`; a plain
/// `Vec<u8>` is a list of numbers to serde, and several times as slow. See the [crate's
/// example](crate).
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire: unique within the program.
    const NAME: &'static str;
    /// The result. A failure that the task foresees is part of it.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does the work, on the worker's main thread, in an actix system.
    ///
    /// A panic fails this task alone, with the first 1,000 characters of its message.
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

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(fault) => Some(fault),
            Self::Call(error) => Some(error),
        }
    }
}

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

type Run = for<'a> fn(&'a Bytes, &'a mut Outcomes) -> LocalBoxFuture<'a, ()>;

/// A registered task.
#[derive(Clone, Copy)]
struct Registered {
    run: Run,
    id: TypeId,
    type_name: &'static str,
}

/// The tasks of a program, by name.
#[derive(Clone, Default)]
pub(crate) struct Tasks(FxHashMap<&'static str, Registered>);

impl Tasks {
    /// Adds a task.
    ///
    /// # Panics
    ///
    /// Panics when another type has the name.
    pub(crate) fn add<T: Task>(&mut self) {
        let task = Registered {
            run: run::<T>,
            id: TypeId::of::<T>(),
            type_name: type_name::<T>(),
        };
        self.insert(T::NAME, task);
    }

    /// Adds all tasks of another table.
    ///
    /// # Panics
    ///
    /// As [`Self::add`].
    pub(crate) fn extend(&mut self, other: &Self) {
        for (name, task) in &other.0 {
            self.insert(name, *task);
        }
    }

    fn insert(&mut self, name: &'static str, task: Registered) {
        match self.0.entry(name) {
            Entry::Vacant(place) => {
                place.insert(task);
            }
            // A worker would run one of them with the arguments of the other.
            Entry::Occupied(place) => assert!(
                place.get().id == task.id,
                "two tasks have the name {name:?}: {} and {}",
                place.get().type_name,
                task.type_name
            ),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Runs the tasks of a chunk to their ends, one after the other, and counts them.
    pub(crate) async fn run(&self, task: &str, Blob(row): &Blob, run: &mut u64) -> ChunkOutcome {
        let count = wire::frames(row).count();
        *run += u64::try_from(count).unwrap_or(u64::MAX);
        let Some(registered) = self.0.get(task) else {
            return Err(TaskFault::NotRegistered(task.to_owned()));
        };
        let mut outcomes = Outcomes::of(count);
        (registered.run)(row, &mut outcomes).await;
        Ok(outcomes.into_row())
    }

    /// Runs the one task of a chunk whose output is of no interest.
    pub(crate) async fn run_one(&self, chunk: &Chunk) -> Result<(), TaskFault> {
        let row = self.run(&chunk.task, &chunk.arguments, &mut 0).await?.0;
        let outcome = wire::frames(&row).next();
        let outcome =
            outcome.map(|frame| frame.and_then(codec::decode::<Result<IgnoredAny, TaskFault>>));
        match outcome {
            Some(Ok(outcome)) => outcome.map(drop),
            Some(Err(error)) => Err(TaskFault::Unreadable(error.to_string())),
            None => Err(TaskFault::Unreadable("there is no task".to_owned())),
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn run<'a, T: Task>(row: &'a Bytes, outcomes: &'a mut Outcomes) -> LocalBoxFuture<'a, ()> {
    let work = async move {
        let mut frames = wire::frames(row);
        // Also what reads the arguments and writes the output is the task's own code, and may panic.
        // Those behind one that does go on.
        while let Err(panic) = AssertUnwindSafe(run_each::<T>(row, &mut frames, outcomes))
            .catch_unwind()
            .await
        {
            let fault = TaskFault::Panicked(panic_message(&*panic));
            outcomes.push(&Err::<(), _>(fault), T::NAME);
        }
    };
    work.boxed_local()
}

async fn run_each<'a, T: Task>(
    row: &Bytes,
    frames: &mut impl Iterator<Item = Result<&'a [u8], CodecError>>,
    outcomes: &mut Outcomes,
) {
    for arguments in frames {
        let arguments = arguments.and_then(|bytes| codec::decode_within::<T>(row, bytes));
        let outcome = match arguments {
            Ok(task) => Ok(task.run().await),
            Err(error) => Err(TaskFault::Unreadable(format!(
                "arguments of {:?}: {error}",
                T::NAME
            ))),
        };
        outcomes.push(&outcome, T::NAME);
    }
}

/// Makes an error of a panic in the code of a task's own arguments or output.
pub(crate) fn guarded<R>(
    work: impl Future<Output = Result<R, TaskError>> + Send + 'static,
) -> BoxFuture<'static, Result<R, TaskError>> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .map(|outcome| {
            outcome.unwrap_or_else(|panic| {
                let why = panic_message(&*panic);
                Err(TaskFault::Unreadable(format!("panic in between: {why}")).into())
            })
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    /// Panics with a message of that many characters.
    #[derive(Debug, Serialize, Deserialize)]
    struct Lament(usize);

    impl Task for Lament {
        const NAME: &'static str = "lament";
        type Output = ();

        async fn run(self) {
            panic!("{}", "\u{1f480}".repeat(self.0));
        }
    }

    /// Another of that name.
    #[derive(Debug, Serialize, Deserialize)]
    struct Dirge;

    impl Task for Dirge {
        const NAME: &'static str = "lament";
        type Output = ();

        async fn run(self) {}
    }

    /// Panics when it is read.
    #[derive(Debug, Serialize)]
    struct Riddle;

    impl<'de> Deserialize<'de> for Riddle {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("nobody can read it")
        }
    }

    impl Task for Riddle {
        const NAME: &'static str = "riddle";
        type Output = ();

        async fn run(self) {}
    }

    /// What becomes of one task.
    fn outcome<T: Task>(task: &T) -> Result<(), TaskFault> {
        let chunk = pack(std::slice::from_ref(task)).unwrap();
        block_on(tasks::<T>().run_one(&chunk))
    }

    fn tasks<T: Task>() -> Tasks {
        let mut tasks = Tasks::default();
        tasks.add::<T>();
        tasks
    }

    #[test]
    fn message_of_a_panic_is_cut_to_a_thousand_characters() {
        for (length, expected) in [(1000, 1000), (1001, 1002), (5000, 1002)] {
            match outcome(&Lament(length)) {
                Err(TaskFault::Panicked(message)) => assert_eq!(message.chars().count(), expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn panic_while_arguments_are_read_fails_the_task() {
        let fault = TaskFault::Panicked("nobody can read it".to_owned());
        assert_eq!(outcome(&Riddle), Err(fault));
    }

    #[test]
    #[should_panic(
        expected = "have the name \"lament\": lockkeeper::task::tests::Lament and lockkeeper::task::tests::Dirge"
    )]
    fn second_task_of_a_name_is_refused_with_both_types() {
        tasks::<Lament>().add::<Dirge>();
    }

    #[test]
    #[should_panic(expected = "two tasks have the name \"lament\"")]
    fn second_task_of_a_name_is_refused_from_another_table_too() {
        tasks::<Lament>().extend(&tasks::<Dirge>());
    }

    #[test]
    fn same_task_may_be_added_twice() {
        let mut tasks = tasks::<Lament>();
        tasks.add::<Lament>();
        tasks.extend(&tasks.clone());
        assert!(tasks.has("lament"));
    }

    #[test]
    fn error_of_a_task_has_what_failed_as_its_source() {
        let source = |error: TaskError| {
            let source = std::error::Error::source(&error);
            source.map(ToString::to_string)
        };
        let told = Some(TaskFault::Closed.to_string());
        assert_eq!(source(TaskFault::Closed.into()), told);
        let told = Some(CallError::Gone.to_string());
        assert_eq!(source(CallError::Gone.into()), told);
    }
}

//! The traits [`Task`] and [`BlockingTask`]: types with a name, encoded arguments and an encoded output.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::thread::gettid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::process::{
    threads::{CHECK_INTERVAL, has_ended},
    within::within,
};

/// A unit of work that a worker process runs. Its fields are the arguments.
///
/// A program registers it by `program().task::<T>()`. The fields may hold proxies: the worker uses the same
/// hosted objects. Bytes are encoded as one piece in a `String` or with the crate `serde_bytes`; serde
/// encodes a plain `Vec<u8>` as a list of numbers, which is several times as slow. See the [crate's
/// example](crate).
///
/// ```
/// use lockkeeper::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Square(u64);
///
/// impl Task for Square {
///     const NAME: &'static str = "square";
///     type Output = u64;
///
///     async fn run(self) -> u64 {
///         self.0 * self.0
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task that a pool can run",
    label = "this is not a `Task`",
    note = "implement `lockkeeper::Task` for `{Self}`, with `#[derive(Serialize, Deserialize)]`",
    note = "a `BlockingTask` is submitted as `Blocking(task)`, and registered by `.task::<Blocking<{Self}>>()`"
)]
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire, unique within the program.
    const NAME: &'static str;
    /// The result, including the failures that the task expects. An error type without serde travels as a
    /// [`Failure`](crate::Failure).
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Runs the task on the worker's main thread, in an actix system.
    ///
    /// A panic fails only this task, with the first 1,000 characters of its message.
    fn run(self) -> impl Future<Output = Self::Output>;

    /// Returns how long this task may run, in place of the pool's
    /// [time limit](crate::builders::PoolBuilder::time_limit); `None`, the default, leaves that.
    ///
    /// The submitter calls it. See the pool's limit for what happens at the end of the time. A
    /// [`Process`](crate::Process) has no limit: its owner calls `kill`.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the output is a failure that another attempt may not have, such as a service that is busy. By
    /// default none is.
    ///
    /// The worker calls it. Another attempt follows if the pool has [retries](crate::Retry) left for the task;
    /// otherwise its submitter gets the output. A [`Process`](crate::Process) runs its task once.
    fn is_transient(_output: &Self::Output) -> bool {
        false
    }
}

/// A [`Task`] with synchronous code. It runs on a plain thread, where it may use
/// [`Wait::blocking`](crate::Wait::blocking).
///
/// A program submits it inside of [`Blocking`], and registers it by `program().task::<Blocking<T>>()`.
///
/// ```
/// use lockkeeper::BlockingTask;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Square(u64);
///
/// impl BlockingTask for Square {
///     const NAME: &'static str = "square";
///     type Output = u64;
///
///     fn run(self) -> u64 {
///         self.0 * self.0
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `BlockingTask`",
    label = "this is not a `BlockingTask`",
    note = "a `Task` is submitted and registered as it is, without `Blocking`",
    note = "implement `lockkeeper::BlockingTask` for `{Self}`, with `#[derive(Serialize, Deserialize)]`"
)]
pub trait BlockingTask: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire, unique within the program.
    const NAME: &'static str;
    /// The result, including the failures that the task expects.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Runs the task on a thread that it may block.
    fn run(self) -> Self::Output;

    /// Returns how long this task may run; see [`Task::time_limit`].
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the output is a failure that another attempt may not have; see [`Task::is_transient`].
    fn is_transient(_output: &Self::Output) -> bool {
        false
    }
}

/// Wraps a [`BlockingTask`] so that it is a [`Task`], where the program registers it and where it submits it.
///
/// ```no_run
/// use lockkeeper::{Blocking, BlockingTask, Pool};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Square(u64);
/// # impl BlockingTask for Square {
/// #     const NAME: &'static str = "square";
/// #     type Output = u64;
/// #     fn run(self) -> u64 {
/// #         self.0 * self.0
/// #     }
/// # }
///
/// // `Square` is the task from the example of `BlockingTask`.
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     lockkeeper::program().task::<Blocking<Square>>().run(async {
///         let pool = Pool::new(2).await?;
///         assert_eq!(pool.apply(Blocking(Square(3))).await?, 9);
///         let squares = pool.try_map((1..=3).map(|side| Blocking(Square(side)))).await?;
///         assert_eq!(squares, [1, 4, 9]);
///         Ok(())
///     })
/// }
/// ```
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blocking<T>(pub T);

impl<T: BlockingTask> Task for Blocking<T> {
    const NAME: &'static str = T::NAME;
    type Output = T::Output;

    async fn run(self) -> T::Output {
        let thread = Arc::new(OnceLock::new());
        let mut work = tokio::task::spawn_blocking({
            let thread = Arc::clone(&thread);
            move || {
                thread.get_or_init(gettid);
                self.0.run()
            }
        });
        let joined = loop {
            if let Some(joined) = within(CHECK_INTERVAL, &mut work).await {
                break joined;
            }
            // No signal reports that the thread ended by a raw system call.
            let is_over = thread.get().is_some_and(|thread| has_ended(*thread));
            if is_over && !work.is_finished() {
                panic!(
                    "the task's thread exited without returning: it made a raw exit system call, or seccomp killed it"
                );
            }
        };
        match joined {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime cancels the thread, and the runtime ends with the worker.
                Err(error) => panic!("{error}"),
            },
        }
    }

    fn time_limit(&self) -> Option<Duration> {
        self.0.time_limit()
    }

    fn is_transient(output: &T::Output) -> bool {
        T::is_transient(output)
    }
}

#[cfg(test)]
mod tests {
    use std::any::type_name;

    use futures::executor::block_on;
    use lockkeeper_protocol::operations::{TaskFault, UndecodedTask};

    use crate::pool::{chunk::pack, tasks::Tasks};

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

    /// Another task of the same name.
    #[derive(Debug, Serialize, Deserialize)]
    struct Dirge;

    impl Task for Dirge {
        const NAME: &'static str = "lament";
        type Output = ();

        async fn run(self) {}
    }

    /// Panics during deserialization.
    #[derive(Debug, Serialize)]
    struct Riddle;

    impl<'de> Deserialize<'de> for Riddle {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("the payload is unreadable")
        }
    }

    impl Task for Riddle {
        const NAME: &'static str = "riddle";
        type Output = ();

        async fn run(self) {}
    }

    fn outcome<T: Task>(task: &T) -> Result<(), TaskFault> {
        let chunk = pack(std::slice::from_ref(task)).unwrap();
        block_on(tasks::<T>().run_one(&chunk)).map(drop)
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
        let Err(TaskFault::Undecoded(undecoded)) = outcome(&Riddle) else {
            panic!("it was read");
        };
        let UndecodedTask {
            task,
            sent,
            wanted,
            why,
        } = *undecoded;
        assert_eq!(task, "riddle");
        assert_eq!([sent, wanted], [type_name::<Riddle>(); 2]);
        assert_eq!(why, "its code panicked: the payload is unreadable");
    }

    #[test]
    #[should_panic(
        expected = "have the name \"lament\": lockkeeper::pool::task::tests::Lament and lockkeeper::pool::task::tests::Dirge"
    )]
    fn second_task_of_a_name_is_refused_with_both_types() {
        tasks::<Lament>().add::<Dirge>();
    }

    #[test]
    fn second_task_of_a_name_is_refused_from_another_table_too() {
        let refused = tasks::<Lament>().extend(&tasks::<Dirge>()).unwrap_err();
        assert!(
            refused.contains("two tasks have the name \"lament\""),
            "{refused}"
        );
    }

    #[test]
    fn same_task_may_be_added_twice() {
        let mut tasks = tasks::<Lament>();
        tasks.add::<Lament>();
        tasks.extend(&tasks.clone()).unwrap();
        assert!(tasks.has("lament"));
    }
}

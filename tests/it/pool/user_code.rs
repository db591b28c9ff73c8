//! Tasks whose code panics or ends the process while arguments and outputs are encoded, decoded and
//! dropped. Each task has one outcome, and other tasks keep theirs.

use std::{any::type_name, panic, process};

use futures::StreamExt;
use lockkeeper::{
    Pool, Task, TaskError,
    builders::Program,
    errors::{TaskCause, TaskFault, UndecodedTask},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::run;

/// The failure of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Failure {
    Nothing,
    /// The drop of the output panics.
    DropOfOutput,
    /// The drop of the task's panic payload panics.
    DropOfPanic,
    /// The drop of each further panic payload panics too.
    DropOfPanicForEver,
    WriteOfOutput,
    ErrorOfOutput,
    ReadOfOutput,
    ErrorOfReadOfOutput,
    WriteOfTask,
    ErrorOfTask,
    ReadOfTask,
    ErrorOfReadOfTask,
    DropOfTask,
}

/// All failures that do not end the process.
const FAILURES: [Failure; 12] = [
    Failure::DropOfOutput,
    Failure::DropOfPanic,
    Failure::DropOfPanicForEver,
    Failure::WriteOfOutput,
    Failure::ErrorOfOutput,
    Failure::ReadOfOutput,
    Failure::ErrorOfReadOfOutput,
    Failure::WriteOfTask,
    Failure::ErrorOfTask,
    Failure::ReadOfTask,
    Failure::ErrorOfReadOfTask,
    Failure::DropOfTask,
];

/// Returns whether this process is a worker. In the main process, which runs the tests, nothing
/// fails.
fn is_worker(main: u32) -> bool {
    process::id() != main
}

/// A task that fails in workers.
#[derive(Debug)]
struct FailingTask {
    failure: Failure,
    number: u32,
    main: u32,
}

impl Serialize for FailingTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(
            self.failure,
            Failure::WriteOfTask,
            "it is not to be encoded"
        );
        if self.failure == Failure::ErrorOfTask {
            return Err(S::Error::custom("it cannot be encoded"));
        }
        (self.failure, self.number, self.main).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FailingTask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (failure, number, main) = Deserialize::deserialize(deserializer)?;
        assert_ne!(failure, Failure::ReadOfTask, "it is not to be decoded");
        if failure == Failure::ErrorOfReadOfTask {
            return Err(D::Error::custom("it cannot be decoded"));
        }
        Ok(Self {
            failure,
            number,
            main,
        })
    }
}

impl Drop for FailingTask {
    fn drop(&mut self) {
        if self.failure == Failure::DropOfTask && is_worker(self.main) && !std::thread::panicking()
        {
            panic!("the drop of the task panics");
        }
    }
}

/// A panic payload whose drop panics with another such payload.
struct EndlessPanic;

impl Drop for EndlessPanic {
    fn drop(&mut self) {
        panic::panic_any(Self);
    }
}

/// A panic payload whose drop panics with a text.
struct Once;

impl Drop for Once {
    fn drop(&mut self) {
        panic!("the drop of the panic panics");
    }
}

/// The number of the task.
#[derive(Debug)]
struct Output {
    failure: Failure,
    number: u32,
    main: u32,
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(
            self.failure,
            Failure::WriteOfOutput,
            "it is not to be encoded"
        );
        if self.failure == Failure::ErrorOfOutput {
            return Err(S::Error::custom("it cannot be encoded"));
        }
        (self.failure, self.number, self.main).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (failure, number, main) = Deserialize::deserialize(deserializer)?;
        assert_ne!(failure, Failure::ReadOfOutput, "it is not to be decoded");
        if failure == Failure::ErrorOfReadOfOutput {
            return Err(D::Error::custom("it cannot be decoded"));
        }
        Ok(Self {
            failure,
            number,
            main,
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.failure == Failure::DropOfOutput && is_worker(self.main) {
            panic!("the drop of the output panics");
        }
    }
}

impl Task for FailingTask {
    const NAME: &'static str = "misbehave";
    type Output = Output;

    async fn run(self) -> Output {
        match self.failure {
            Failure::DropOfPanic => panic::panic_any(Once),
            Failure::DropOfPanicForEver => panic::panic_any(EndlessPanic),
            failure => Output {
                failure,
                number: self.number,
                main: self.main,
            },
        }
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<FailingTask>()
}

/// Makes tasks, of which one in four fails.
fn tasks(failure: Failure) -> impl Iterator<Item = FailingTask> {
    let main = process::id();
    (0..12).map(move |number| FailingTask {
        failure: if number % 4 == 1 {
            failure
        } else {
            Failure::Nothing
        },
        number,
        main,
    })
}

/// Returns whether the outcome of a failing task is correct.
fn is_right(failure: Failure, outcome: &Result<Output, TaskError>) -> bool {
    let cause = outcome.as_ref().map_err(TaskError::cause);
    match (failure, cause) {
        // The output had been encoded before it was dropped.
        (Failure::DropOfOutput, Ok(_)) => true,
        (
            Failure::DropOfPanic | Failure::DropOfPanicForEver | Failure::DropOfTask,
            Err(TaskCause::Failed(TaskFault::Panicked(_))),
        ) => true,
        (
            Failure::WriteOfOutput
            | Failure::ErrorOfOutput
            | Failure::WriteOfTask
            | Failure::ErrorOfTask,
            Err(TaskCause::Failed(TaskFault::Unreadable(why))),
        ) => {
            why.contains("\"misbehave\"")
                && (why.contains("it is not to") || why.contains("it cannot"))
        }
        (
            Failure::ReadOfTask | Failure::ErrorOfReadOfTask,
            Err(TaskCause::Failed(TaskFault::Undecoded(undecoded))),
        ) => {
            let UndecodedTask {
                task,
                sent,
                wanted,
                why,
            } = &**undecoded;
            task == "misbehave"
                && [sent, wanted]
                    .iter()
                    .all(|name| **name == type_name::<FailingTask>())
                && (why.contains("it is not to be decoded") || why.contains("it cannot be decoded"))
        }
        (
            Failure::ReadOfOutput | Failure::ErrorOfReadOfOutput,
            Err(TaskCause::Undecoded(shown)),
        ) => {
            // The bytes that the worker wrote can be decoded as another type.
            let bytes = shown.bytes();
            [shown.sent(), shown.wanted()]
                .iter()
                .all(|name| *name == type_name::<Output>())
                && !bytes.is_empty()
                && [
                    "the output of task \"misbehave\"",
                    "): let its Deserialize read what its Serialize writes, or use bytes() to read what was sent",
                ]
                .iter()
                .all(|words| shown.to_string().contains(words))
        }
        _ => false,
    }
}

#[test]
fn each_task_has_one_outcome_for_every_failure_of_user_code() {
    run(async {
        for size in [1, 4, 5] {
            let pool = Pool::builder(1).chunk_size(size).start().await.unwrap();
            let worker = pool.pids().await;
            for failure in FAILURES {
                let outcomes: Vec<_> = pool.imap(tasks(failure)).collect().await;
                assert_eq!(outcomes.len(), 12, "{failure:?}");
                for (number, outcome) in (0..).zip(&outcomes) {
                    if number % 4 == 1 {
                        assert!(is_right(failure, outcome), "{failure:?}: {outcome:?}");
                    } else {
                        let shown = outcome.as_ref().map(|output| output.number);
                        assert_eq!(shown, Ok(number), "{failure:?} in chunks of {size}");
                    }
                }
                let one = tasks(failure).nth(1).unwrap();
                let outcome = pool.apply(one).await;
                assert!(is_right(failure, &outcome), "{failure:?}: {outcome:?}");
                let one = tasks(failure).nth(1).unwrap();
                let outcome = pool.spawn(one).await;
                assert!(is_right(failure, &outcome), "{failure:?}: {outcome:?}");
            }
            assert_eq!(pool.pids().await, worker, "a worker has died");
        }
    });
}

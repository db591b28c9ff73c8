//! Tasks whose own code panics or ends the process where nothing is to panic: while arguments and outputs
//! are encoded, decoded and dropped. Each task has one outcome, and its neighbours keep theirs.

use std::{any::type_name, panic, process};

use futures::StreamExt;
use lockkeeper::{Pool, Task, TaskError, builders::Program, errors::TaskFault};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::run;

/// What goes wrong with a task, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Wrong {
    Nothing,
    /// The drop of the output.
    DropOfOutput,
    /// The drop of what the task panicked with.
    DropOfPanic,
    /// The drop of what the drop of that panics with, and so on.
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

/// Everything that can go wrong without an end of the process.
const WRONGS: [Wrong; 12] = [
    Wrong::DropOfOutput,
    Wrong::DropOfPanic,
    Wrong::DropOfPanicForEver,
    Wrong::WriteOfOutput,
    Wrong::ErrorOfOutput,
    Wrong::ReadOfOutput,
    Wrong::ErrorOfReadOfOutput,
    Wrong::WriteOfTask,
    Wrong::ErrorOfTask,
    Wrong::ReadOfTask,
    Wrong::ErrorOfReadOfTask,
    Wrong::DropOfTask,
];

/// The process in which all goes well, since the tests of this file run there: not a worker.
fn is_worker(main: u32) -> bool {
    process::id() != main
}

/// A task of some process that goes wrong.
#[derive(Debug)]
struct Misbehave {
    wrong: Wrong,
    number: u32,
    main: u32,
}

impl Serialize for Misbehave {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.wrong, Wrong::WriteOfTask, "it is not to be written");
        if self.wrong == Wrong::ErrorOfTask {
            return Err(S::Error::custom("it cannot be written"));
        }
        (self.wrong, self.number, self.main).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Misbehave {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (wrong, number, main) = Deserialize::deserialize(deserializer)?;
        assert_ne!(wrong, Wrong::ReadOfTask, "it is not to be read");
        if wrong == Wrong::ErrorOfReadOfTask {
            return Err(D::Error::custom("it cannot be read"));
        }
        Ok(Self {
            wrong,
            number,
            main,
        })
    }
}

impl Drop for Misbehave {
    fn drop(&mut self) {
        if self.wrong == Wrong::DropOfTask && is_worker(self.main) && !std::thread::panicking() {
            panic!("the task is not to be dropped");
        }
    }
}

/// A panic whose drop panics with another one.
struct Tireless;

impl Drop for Tireless {
    fn drop(&mut self) {
        panic::panic_any(Self);
    }
}

/// A panic whose drop panics with a text.
struct Once;

impl Drop for Once {
    fn drop(&mut self) {
        panic!("the panic is not to be dropped");
    }
}

/// The number of the task.
#[derive(Debug)]
struct Output {
    wrong: Wrong,
    number: u32,
    main: u32,
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.wrong, Wrong::WriteOfOutput, "it is not to be written");
        if self.wrong == Wrong::ErrorOfOutput {
            return Err(S::Error::custom("it cannot be written"));
        }
        (self.wrong, self.number, self.main).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (wrong, number, main) = Deserialize::deserialize(deserializer)?;
        assert_ne!(wrong, Wrong::ReadOfOutput, "it is not to be read");
        if wrong == Wrong::ErrorOfReadOfOutput {
            return Err(D::Error::custom("it cannot be read"));
        }
        Ok(Self {
            wrong,
            number,
            main,
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.wrong == Wrong::DropOfOutput && is_worker(self.main) {
            panic!("the output is not to be dropped");
        }
    }
}

impl Task for Misbehave {
    const NAME: &'static str = "misbehave";
    type Output = Output;

    async fn run(self) -> Output {
        match self.wrong {
            Wrong::DropOfPanic => panic::panic_any(Once),
            Wrong::DropOfPanicForEver => panic::panic_any(Tireless),
            wrong => Output {
                wrong,
                number: self.number,
                main: self.main,
            },
        }
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Misbehave>()
}

/// One task in four goes wrong.
fn tasks(wrong: Wrong) -> impl Iterator<Item = Misbehave> {
    let main = process::id();
    (0..12).map(move |number| Misbehave {
        wrong: if number % 4 == 1 {
            wrong
        } else {
            Wrong::Nothing
        },
        number,
        main,
    })
}

/// Whether the outcome of a task that goes wrong is what it should be.
fn is_right(wrong: Wrong, outcome: &Result<Output, TaskError>) -> bool {
    match (wrong, outcome) {
        // The output was there before it was dropped.
        (Wrong::DropOfOutput, Ok(_)) => true,
        (
            Wrong::DropOfPanic | Wrong::DropOfPanicForEver | Wrong::DropOfTask,
            Err(TaskError::Failed(TaskFault::Panicked(_))),
        ) => true,
        (
            Wrong::WriteOfOutput | Wrong::ErrorOfOutput | Wrong::WriteOfTask | Wrong::ErrorOfTask,
            Err(TaskError::Failed(TaskFault::Unreadable(why))),
        ) => {
            why.contains("\"misbehave\"")
                && (why.contains("it is not to") || why.contains("it cannot"))
        }
        (
            Wrong::ReadOfTask | Wrong::ErrorOfReadOfTask,
            Err(TaskError::Failed(TaskFault::Undecoded {
                task,
                sent,
                wanted,
                why,
            })),
        ) => {
            task == "misbehave"
                && [sent, wanted]
                    .iter()
                    .all(|name| **name == type_name::<Misbehave>())
                && (why.contains("it is not to be read") || why.contains("it cannot be read"))
        }
        (Wrong::ReadOfOutput | Wrong::ErrorOfReadOfOutput, Err(TaskError::Undecoded(told))) => {
            // What the worker wrote is there to be read as something else.
            let bytes = told.bytes();
            [told.sent(), told.wanted()]
                .iter()
                .all(|name| *name == type_name::<Output>())
                && !bytes.is_empty()
                && told
                    .to_string()
                    .contains("the output of task \"misbehave\"")
        }
        _ => false,
    }
}

#[test]
fn whatever_the_code_of_a_task_does_each_task_has_one_outcome() {
    run(async {
        for size in [1, 4, 5] {
            let pool = Pool::builder(1).chunk_size(size).start().await.unwrap();
            let worker = pool.pids().await;
            for wrong in WRONGS {
                let outcomes: Vec<_> = pool.imap(tasks(wrong)).collect().await;
                assert_eq!(outcomes.len(), 12, "{wrong:?}");
                for (number, outcome) in (0..).zip(&outcomes) {
                    if number % 4 == 1 {
                        assert!(is_right(wrong, outcome), "{wrong:?}: {outcome:?}");
                    } else {
                        let told = outcome.as_ref().map(|output| output.number);
                        assert_eq!(told, Ok(number), "{wrong:?} in chunks of {size}");
                    }
                }
                let one = tasks(wrong).nth(1).unwrap();
                let outcome = pool.apply(one).await;
                assert!(is_right(wrong, &outcome), "{wrong:?}: {outcome:?}");
                let one = tasks(wrong).nth(1).unwrap();
                let outcome = pool.spawn(one).await;
                assert!(is_right(wrong, &outcome), "{wrong:?}: {outcome:?}");
            }
            assert_eq!(pool.pids().await, worker, "a worker has died");
        }
    });
}

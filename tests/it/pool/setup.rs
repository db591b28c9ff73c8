//! The setup of a pool: its initializer, the lifetime of its workers, and refused settings.

use std::{any::type_name, collections::BTreeSet, fmt, sync::OnceLock};

use lockkeeper::{
    Blocking, CallError, Pool, StartError, Task,
    builders::Program,
    errors::{Refusal, TaskFault},
};
use serde::{Deserialize, Serialize};

use crate::{pool::Square, run};

/// The value that the initializer set in this process.
static SET_UP: OnceLock<String> = OnceLock::new();

/// An initializer that fails if the text is empty.
#[derive(Debug, Serialize, Deserialize)]
struct SetUp(String);

impl Task for SetUp {
    const NAME: &'static str = "set_up";
    type Output = ();

    async fn run(self) {
        assert!(!self.0.is_empty(), "no text to set up with");
        SET_UP
            .set(self.0)
            .expect("the initializer runs once in a process");
    }
}

/// An initializer that does not let the worker begin.
#[derive(Debug, Serialize, Deserialize)]
enum Unfit {
    Error(String),
    Exit(i32),
}

impl Task for Unfit {
    const NAME: &'static str = "unfit";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        match self {
            Self::Error(why) if why.is_empty() => Ok(()),
            Self::Error(why) => Err(CallError::refused(Refusal::Invalid(why))),
            Self::Exit(code) => std::process::exit(code),
        }
    }
}

/// An initializer whose error is itself, which has no text.
#[derive(Debug, Serialize, Deserialize)]
enum Mute {
    Panics,
    Fails,
}

impl Task for Mute {
    const NAME: &'static str = "mute";
    type Output = Result<(), Self>;

    async fn run(self) -> Self::Output {
        Err(self)
    }
}

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panics => panic!("no text"),
            Self::Fails => Err(fmt::Error),
        }
    }
}

/// Returns the worker's process id and the initializer's value.
#[derive(Debug, Serialize, Deserialize)]
struct Who;

impl Task for Who {
    const NAME: &'static str = "pool::setup::who";
    type Output = (u32, Option<String>);

    async fn run(self) -> Self::Output {
        (std::process::id(), SET_UP.get().cloned())
    }
}

/// Returns a sum of squares, which a pool in the worker computes.
#[derive(Debug, Serialize, Deserialize)]
struct Nested(u64);

impl Task for Nested {
    const NAME: &'static str = "nested";
    type Output = u64;

    async fn run(self) -> u64 {
        let pool = Pool::new(2).await.expect("a worker may have a pool");
        let squares = pool.try_map((0..self.0).map(Square)).await;
        pool.join().await.expect("the pool is running");
        squares.expect("all tasks have an output").into_iter().sum()
    }
}

/// A task that is not registered.
#[derive(Debug, Serialize, Deserialize)]
struct Unregistered;

impl Task for Unregistered {
    const NAME: &'static str = "stranger";
    type Output = ();

    async fn run(self) {}
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<SetUp>()
        .task::<Unfit>()
        .task::<Mute>()
        .task::<Who>()
        .task::<Nested>()
}

#[test]
fn max_tasks_per_child_replaces_the_worker() {
    run(async {
        let builder = Pool::builder(1).max_tasks_per_child(2);
        let pool = builder.start().await.unwrap();
        let who = pool.try_map((0..6).map(|_| Who)).await.unwrap();
        let pids: Vec<u32> = who.into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(
            [pids[0], pids[2], pids[4]],
            [pids[1], pids[3], pids[5]],
            "{pids:?}"
        );
        assert_eq!(BTreeSet::from_iter(pids).len(), 3);
        pool.join().await.unwrap();
    });
}

#[test]
fn initializer_runs_once_in_each_worker_before_its_first_task() {
    run(async {
        let builder = Pool::builder(2).initializer(SetUp("ready".to_owned()));
        let pool = builder.max_tasks_per_child(1).start().await.unwrap();
        for (_, word) in pool.try_map((0..6).map(|_| Who)).await.unwrap() {
            assert_eq!(word.as_deref(), Some("ready"));
        }
    });
}

#[test]
fn initializer_may_have_megabytes_of_arguments() {
    run(async {
        let word = "ready".repeat(1_000_000);
        let builder = Pool::builder(2).initializer(SetUp(word.clone()));
        let pool = builder.start().await.unwrap();
        let (_, shown) = pool.apply(Who).await.unwrap();
        assert!(shown == Some(word), "the argument has changed");
    });
}

#[test]
fn pool_does_not_start_if_the_initializer_fails() {
    run(async {
        let started = Pool::builder(3).initializer(SetUp(String::new())).start();
        match started.await {
            Err(StartError::ChildFailed(why)) => {
                assert!(why.contains("no text to set up with"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        let started = Pool::builder(3).initializer(Unregistered).start().await;
        match started {
            Err(StartError::ChildFailed(why)) => assert!(why.contains("stranger"), "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn error_that_an_initializer_returns_keeps_the_pool_from_starting() {
    run(async {
        let start = async |unfit| match Pool::builder(2).initializer(unfit).start().await {
            Err(StartError::ChildFailed(why)) => why,
            other => panic!("{other:?}"),
        };
        let why = start(Unfit::Error("no such table".to_owned())).await;
        assert_eq!(
            why,
            "the initializer \"unfit\" returned an error: invalid: no such table"
        );
        for code in [0, 7] {
            let why = start(Unfit::Exit(code)).await;
            assert!(why.contains("it was in the initializer"), "{why}");
            assert!(why.contains(&format!("exit status: {code}")), "{why}");
        }
        let fit = Pool::builder(2).initializer(Unfit::Error(String::new()));
        assert_eq!(fit.start().await.unwrap().apply(Square(3)).await, Ok(9));
    });
}

#[test]
fn error_of_an_initializer_without_a_text_keeps_the_pool_from_starting() {
    run(async {
        for (mute, expected) in [
            (Mute::Panics, "its code panicked: no text"),
            (Mute::Fails, "its Display returned an error"),
        ] {
            match Pool::builder(2).initializer(mute).start().await {
                Err(StartError::ChildFailed(why)) => assert_eq!(
                    why,
                    format!(
                        "the initializer \"mute\" returned an error, whose text cannot be read: {expected}"
                    )
                ),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn pool_of_zero_workers_is_refused() {
    run(async {
        let refused = Pool::new(0).await.map(drop).unwrap_err();
        assert!(
            matches!(refused, StartError::InvalidSettings(_)),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("at least one"), "{refused}");
    });
}

#[test]
fn unregistered_task_is_refused_by_name() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let refused = pool.apply(Unregistered).await.unwrap_err();
        let fault = TaskFault::NotRegistered("stranger".to_owned());
        assert_eq!(refused.fault(), Some(&fault));
        let advice = "add .task::<..>() where the program starts, and .task::<Blocking<..>>() for a BlockingTask";
        let words =
            format!("task \"stranger\": no task named \"stranger\" is registered: {advice}");
        assert_eq!(refused.to_string(), words);
        assert!(type_name::<Blocking<Square>>().contains("::Blocking<"));
        assert_eq!(pool.apply(Square(3)).await.unwrap(), 9);
    });
}

#[test]
fn pool_may_be_nested_in_a_task() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        let sums = pool.try_map([Nested(3), Nested(4)]).await.unwrap();
        assert_eq!(sums, [5, 14]);
    });
}

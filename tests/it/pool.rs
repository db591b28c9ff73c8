//! Tasks of a pool and their outcomes, in real worker processes.
//!
//! The setup of a pool is tested in `setup`, the deaths of its workers in `deaths`, and its end in
//! `ends`.

pub(crate) mod actions;
pub(crate) mod basic_tasks;
pub(crate) mod deaths;
pub(crate) mod drain;
pub(crate) mod ends;
pub(crate) mod folderless;
pub(crate) mod kills;
pub(crate) mod leftovers;
pub(crate) mod limits;
pub(crate) mod outcomes;
pub(crate) mod retries;
pub(crate) mod room;
pub(crate) mod setup;
pub(crate) mod short_tasks;
pub(crate) mod storm;
pub(crate) mod streams;
pub(crate) mod user_code;
pub(crate) mod waits;
pub(crate) mod wants;

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use lockkeeper::{
    Blocking, BlockingTask, CallError, Lock, Manager, Pool, Semaphore, Task, TaskError,
    builders::Program, errors::TaskFault,
};
use lockkeeper_test_support::until;
use serde::{Deserialize, Serialize};

use crate::run;

/// Returns the square of a number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Square(pub(crate) u64);

impl Task for Square {
    const NAME: &'static str = "square";
    type Output = u64;

    async fn run(self) -> u64 {
        self.0 * self.0
    }
}

/// Returns a number after it has acquired and released the lock, in plain code.
#[derive(Debug, Serialize, Deserialize)]
struct InTurn(u64, Lock);

impl BlockingTask for InTurn {
    const NAME: &'static str = "in_turn";
    type Output = Result<u64, CallError>;

    fn run(self) -> Self::Output {
        let guard = self.1.acquire().blocking()?;
        assert!(self.1.try_acquire().blocking()?.is_none());
        drop(guard);
        Ok(self.0)
    }
}

/// Returns a number after it has consumed a permit.
#[derive(Debug, Serialize, Deserialize)]
struct OnSignal(u64, Semaphore);

impl Task for OnSignal {
    const NAME: &'static str = "on_signal";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        self.1.consume(1).await?;
        Ok(self.0)
    }
}

/// Panics for odd numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Even(u64);

impl Task for Even {
    const NAME: &'static str = "even";
    type Output = u64;

    async fn run(self) -> u64 {
        assert!(self.0.is_multiple_of(2), "{} is odd", self.0);
        self.0
    }
}

/// As `Even`, in plain code.
#[derive(Debug, Serialize, Deserialize)]
struct BlockingEven(u64);

impl BlockingTask for BlockingEven {
    const NAME: &'static str = "plain_even";
    type Output = u64;

    fn run(self) -> u64 {
        assert!(self.0.is_multiple_of(2), "{} is odd", self.0);
        self.0
    }
}

/// Repeats a text.
#[derive(Debug, Serialize, Deserialize)]
struct Repeat(String, usize);

impl Task for Repeat {
    const NAME: &'static str = "repeat";
    type Output = String;

    async fn run(self) -> String {
        self.0.repeat(self.1)
    }
}

/// Panics when it is encoded.
#[derive(Debug, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("not to be written down")
    }
}

impl Task for Secret {
    const NAME: &'static str = "secret";
    type Output = ();

    async fn run(self) {}
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Secret>()
        .task::<Square>()
        .task::<Blocking<InTurn>>()
        .task::<OnSignal>()
        .task::<Even>()
        .task::<Blocking<BlockingEven>>()
        .task::<Repeat>()
}

#[test]
fn map_keeps_the_order_in_chunks_of_any_size() {
    run(async {
        let squares: Vec<u64> = (0..50).map(|number| number * number).collect();
        for chunk in [0, 1, 3, 50, 1000] {
            let pool = Pool::builder(2).chunk_size(chunk).start().await.unwrap();
            assert_eq!(pool.try_map((0..50).map(Square)).await.unwrap(), squares);
        }
    });
}

#[test]
fn map_of_an_empty_iterator_is_empty() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        assert_eq!(pool.try_map(Vec::<Square>::new()).await.unwrap(), [0; 0]);
    });
}

#[test]
fn imap_yields_in_order_and_takes_only_a_few_ahead() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        let mut taken = 0;
        let endless = std::iter::from_fn(move || {
            taken += 1;
            assert!(
                taken < 600,
                "far more tasks were taken than outcomes were read"
            );
            Some(Square(taken))
        });
        let first: Vec<u64> = pool.imap(endless).take(5).try_collect().await.unwrap();
        assert_eq!(first, [1, 4, 9, 16, 25]);
    });
}

#[test]
fn imap_unordered_yields_outcomes_as_they_arrive() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (never_yet, at_once) = (
            manager.semaphore(0).await.unwrap(),
            manager.semaphore(9).await.unwrap(),
        );
        let pool = Pool::new(2).await.unwrap();
        let tasks = (0..5).map(|number| {
            let signal = if number == 0 { &never_yet } else { &at_once };
            OnSignal(number, signal.clone())
        });
        let mut outcomes = Box::pin(pool.imap_unordered(tasks.collect::<Vec<_>>()));
        let mut rest = BTreeSet::new();
        for _ in 1..5 {
            let (index, outcome) = outcomes.next().await.unwrap();
            rest.insert((index, outcome.unwrap().unwrap()));
        }
        assert_eq!(rest, BTreeSet::from([(1, 1), (2, 2), (3, 3), (4, 4)]));
        never_yet.add_permits(1).await.unwrap();
        let (index, outcome) = outcomes.next().await.unwrap();
        assert_eq!((index, outcome.unwrap().unwrap()), (0, 0));
        assert!(outcomes.next().await.is_none());
    });
}

#[test]
fn spawned_task_runs_even_if_its_handle_is_dropped() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let signal = manager.semaphore(0).await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let handle = pool.spawn(OnSignal(7, signal.clone()));
        drop(pool.spawn(OnSignal(8, signal.clone())));
        assert!(!handle.is_finished());
        signal.add_permits(2).await.unwrap();
        assert_eq!(handle.await.unwrap().unwrap(), 7);
        until("the task of the dropped handle has run", || async {
            signal.status().await.unwrap().available == 0
        })
        .await;
        assert_eq!(pool.apply(Square(12)).await.unwrap(), 144);
    });
}

#[test]
fn cancelled_waiting_task_is_not_run() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let signal = manager.semaphore(0).await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let first = pool.spawn(OnSignal(1, signal.clone()));
        until("the first task runs", || async {
            pool.status().await.unwrap().running == 1
        })
        .await;
        let second = pool.spawn(OnSignal(2, signal.clone()));
        until("the second task waits", || async {
            pool.status().await.unwrap().waiting == 1
        })
        .await;
        second.cancel();
        until("the second task is withdrawn", || async {
            pool.status().await.unwrap().waiting == 0
        })
        .await;
        signal.add_permits(2).await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        pool.join().await.unwrap();
        assert_eq!(signal.status().await.unwrap().available, 1);
    });
}

#[test]
fn plain_tasks_may_block_on_proxies_in_their_arguments() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(2).await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let tasks: Vec<_> = (0..6).map(|n| Blocking(InTurn(n, lock.clone()))).collect();
        let map = pool.try_map(tasks);
        let free = async {
            until("both workers wait for the lock", || async {
                lock.status().await.unwrap().waiting == 2
            })
            .await;
            drop(guard);
        };
        let (outcomes, ()) = tokio::join!(map, free);
        let numbers: Result<Vec<u64>, CallError> = outcomes.unwrap().into_iter().collect();
        assert_eq!(numbers.unwrap(), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn panic_of_a_task_fails_only_that_task_with_its_message() {
    run(async {
        let odd = |n: u64| Some(TaskFault::Panicked(format!("{n} is odd")));
        let fault = |error: TaskError| error.fault().cloned();
        for chunk in [1, 3] {
            let pool = Pool::builder(1).chunk_size(chunk).start().await.unwrap();
            let pids = pool.pids().await;
            let outcomes: Vec<_> = pool.imap((0..6).map(Even)).collect().await;
            let plain: Vec<_> = pool
                .imap((0..6).map(|number| Blocking(BlockingEven(number))))
                .collect()
                .await;
            let expected = (0..6).map(|n| if n % 2 == 0 { Ok(n) } else { Err(odd(n)) });
            let expected: Vec<_> = expected.collect();
            for outcomes in [outcomes, plain, pool.map((0..6).map(Even)).await] {
                let named = |(place, outcome): (usize, &Result<u64, TaskError>)| match outcome {
                    Ok(_) => true,
                    Err(error) => {
                        let facts = (error.index(), error.attempts());
                        error.task().contains("even") && facts == (Some(place), 1)
                    }
                };
                assert!(outcomes.iter().enumerate().all(named), "{outcomes:?}");
                let faults: Vec<_> = outcomes.into_iter().map(|it| it.map_err(fault)).collect();
                assert_eq!(faults, expected);
            }
            let first = pool.try_map((0..6).map(Even)).await;
            assert_eq!(first.map_err(fault), Err(odd(1)));
            assert_eq!(pool.pids().await, pids, "a panic does not end the worker");
        }
    });
}

#[test]
fn spawned_task_whose_arguments_panic_when_encoded_fails() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        match pool.spawn(Secret).await {
            Err(error) => {
                let Some(TaskFault::Unreadable(why)) = error.fault() else {
                    panic!("{error}");
                };
                assert!(why.contains("not to be written down"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.apply(Square(3)).await.unwrap(), 9);
    });
}

#[test]
fn arguments_and_outputs_may_be_megabytes() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        let text: String = (0..1_000_000)
            .map(|n| format!("{:05}", n % 65_536))
            .collect();
        let outputs = pool
            .try_map((1..=4).map(|times| Repeat(text.clone(), times)))
            .await;
        for (output, times) in outputs.unwrap().into_iter().zip(1..) {
            assert!(output == text.repeat(times), "the output has changed");
        }
    });
}

#[test]
fn task_that_fills_a_message_runs_although_others_come_before_it() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        // Together the tasks exceed the limit of a message.
        let sizes = [1_000_000, (64 << 20) - (64 << 10) - 100, 1];
        let tasks = sizes.map(|size| Repeat("x".repeat(size), 0));
        let outputs = pool.try_map(tasks).await.unwrap();
        assert_eq!(outputs, ["", "", ""]);
    });
}

#[test]
fn message_above_the_limit_fails_only_its_task() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let above = 70 << 20;
        let pids = pool.pids().await;
        for task in [Repeat("x".repeat(above), 1), Repeat("x".to_owned(), above)] {
            match pool.apply(task).await {
                Err(error) => {
                    let Some(TaskFault::Unreadable(why)) = error.fault() else {
                        panic!("{error}");
                    };
                    assert!(why.contains("it has more than 67"), "{why}");
                }
                other => panic!("{:?}", other.map(|output| output.len())),
            }
        }
        assert_eq!(pool.pids().await, pids);
        assert_eq!(pool.apply(Square(3)).await.unwrap(), 9);
    });
}

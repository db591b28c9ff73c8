//! Streams of outcomes: from slow iterators, and of ended pools.

use std::{cell::Cell, iter, process, rc::Rc, thread, time::Duration};

use futures::{Stream, StreamExt};
use lockkeeper::{
    Pool, Task, TaskError,
    builders::{PoolBuilder, Program},
    errors::{TaskFault, WorkerExit},
};
use lockkeeper_test_support::{Watchdog, kill};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Builder, task::LocalSet};

use crate::{
    pool::basic_tasks::{Who, at_once},
    program, run,
};

/// Ends the worker in one of several ways.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum End {
    Exit(i32),
    Abort,
    Kill,
}

impl Task for End {
    const NAME: &'static str = "end";
    type Output = ();

    async fn run(self) {
        match self {
            Self::Exit(code) => process::exit(code),
            Self::Abort => process::abort(),
            Self::Kill => kill(process::id()),
        }
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<End>()
}

/// The method that makes a stream of outcomes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Ordered,
    Unordered,
    InChunks,
}

const WAYS: [Way; 3] = [Way::Ordered, Way::Unordered, Way::InChunks];

impl Way {
    async fn pool(self) -> Pool {
        self.start(Pool::builder(1)).await
    }

    async fn start(self, builder: PoolBuilder) -> Pool {
        let size = match self {
            Self::Ordered | Self::Unordered => 1,
            Self::InChunks => 3,
        };
        builder.chunk_size(size).start().await.unwrap()
    }

    fn stream<'a, T: Task>(
        self,
        pool: &Pool,
        tasks: impl Iterator<Item = T> + 'a,
    ) -> impl Stream<Item = Result<T::Output, TaskError>> + 'a {
        match self {
            Self::Ordered | Self::InChunks => pool.imap(tasks).left_stream(),
            Self::Unordered => {
                let outcomes = pool.imap_unordered(tasks);
                outcomes.map(|(_, outcome)| outcome).right_stream()
            }
        }
    }
}

/// Fewer tasks than a stream takes in advance.
const FEW: usize = 200;

#[test]
fn outcomes_and_other_tasks_are_served_during_a_slow_iterator() {
    program();
    let _watchdog = Watchdog::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for way in WAYS {
        LocalSet::new().block_on(&runtime, async {
            let pool = way.pool().await;
            let (ticks, outcomes) = (Rc::new(Cell::new(0)), Cell::new(0));
            let ticking = Rc::clone(&ticks);
            tokio::task::spawn_local(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    ticking.set(ticking.get() + 1);
                }
            });
            let taken = Cell::new(0);
            let tasks = iter::from_fn(|| {
                let is_over = outcomes.get() >= 3 && ticks.get() >= 3;
                // The sleep makes the iterator slow.
                thread::sleep(Duration::from_millis(20));
                taken.set(taken.get() + 1);
                (!is_over && taken.get() < FEW).then_some(Who)
            });
            let stream = way.stream(&pool, tasks);
            let stream = stream.inspect(|_| outcomes.set(outcomes.get() + 1));
            let all: Vec<_> = stream.collect().await;
            assert!(
                taken.get() < FEW,
                "{way:?}: no outcome arrived during the iteration"
            );
            assert!(all.len() >= 3 && all.iter().all(Result::is_ok), "{all:?}");
        });
    }
}

/// The end of a pool.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Dropped,
    Terminated,
    Joined,
}

impl Gone {
    async fn end(self, pool: Pool) {
        match self {
            Self::Dropped => drop(pool),
            Self::Terminated => pool.terminate().await,
            Self::Joined => pool.join().await.unwrap(),
        }
    }
}

#[test]
fn stream_of_an_ended_pool_is_terminated() {
    run(async {
        for way in WAYS {
            for gone in [Gone::Dropped, Gone::Terminated, Gone::Joined] {
                let pool = way.pool().await;
                let mut begun = Box::pin(way.stream(&pool, iter::repeat_with(|| Who)));
                begun.next().await.unwrap().unwrap();
                let mut not_begun = Box::pin(way.stream(&pool, [Who, Who].into_iter()));
                gone.end(pool).await;
                // First come the outcomes that have arrived, and those of tasks that were submitted
                // before the end.
                let mut last = begun.next().await.unwrap();
                for _ in 0..2000 {
                    last = begun.next().await.unwrap();
                }
                let is_terminated = |outcome: Result<u32, TaskError>| {
                    let error = outcome.unwrap_err();
                    assert_eq!(
                        error.fault(),
                        Some(&TaskFault::Terminated),
                        "{way:?} {gone:?}"
                    );
                };
                is_terminated(last);
                for _ in 0..2 {
                    is_terminated(not_begun.next().await.unwrap());
                }
                assert_eq!(not_begun.next().await, None);
            }
        }
    });
}

#[test]
fn error_of_a_dead_worker_has_its_exit_and_the_number_of_attempts() {
    run(async {
        let ends = [
            (End::Exit(0), WorkerExit::Code(0)),
            (End::Exit(3), WorkerExit::Code(3)),
            (End::Abort, WorkerExit::Signal(6)),
            (End::Kill, WorkerExit::Signal(9)),
        ];
        for way in WAYS {
            let pool = way.start(Pool::builder(1).retry(at_once(2))).await;
            for (end, expected) in ends {
                let applied = pool.apply(end).await;
                let streamed = way.stream(&pool, [end].into_iter()).next().await;
                for outcome in [applied, streamed.unwrap()] {
                    let error = outcome.unwrap_err();
                    let facts = (error.exit(), error.attempts());
                    assert_eq!(facts, (Some(expected), 2), "{way:?}, {end:?}: {error}");
                }
            }
        }
    });
}

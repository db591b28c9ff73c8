//! Tasks that affect their process: each task has one outcome, other tasks keep theirs, and the pool has all
//! of its workers afterwards.

use std::{env, future::pending, process, thread, time::Duration};

use actix_rt::System;
use futures::{StreamExt, future::join_all};
use lockkeeper::{
    Pool, Task,
    builders::Program,
    errors::{TaskFault, WorkerExit},
};
use lockkeeper_test_support::{is_running, until};
use nix::unistd::close;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{pool::basic_tasks::Who, run};

/// The action of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Nothing,
    // These actions end the process.
    Abort,
    ExitOnThread,
    OverflowStack,
    /// Closes all descriptors, including those of the connection and of the lifeline, and never
    /// ends.
    CloseAndStay,
    /// Does the same, and blocks the thread of the tasks for ever.
    CloseAndBlock,
    /// Closes all descriptors and ends.
    CloseAndReturn,
    // These actions do not end the process.
    CloseStandardStreams,
    PanicOnThread,
    PanicInSpawnedTask,
    ChangeFolder,
    HandleSignals,
    SendItselfSignals,
    StopSystem,
    LeaveThreads,
}

/// The actions that end a worker, and the reported exits.
const DEADLY: [(Action, &[WorkerExit]); 6] = [
    (Action::Abort, &[WorkerExit::Signal(6)]),
    (Action::ExitOnThread, &[WorkerExit::Code(3)]),
    // The handler of the standard library or that of the system ends the process.
    (
        Action::OverflowStack,
        &[WorkerExit::Signal(6), WorkerExit::Signal(11)],
    ),
    (Action::CloseAndStay, &ANY_END),
    (Action::CloseAndBlock, &ANY_END),
    (Action::CloseAndReturn, &ANY_END),
];

/// The possible exits of a worker without descriptors: it fails when it reports, its runtimes panic,
/// or its pool kills it.
const ANY_END: [WorkerExit; 4] = [
    WorkerExit::Code(71),
    WorkerExit::Code(101),
    WorkerExit::Signal(6),
    WorkerExit::Signal(9),
];

const HARMLESS: [Action; 8] = [
    Action::CloseStandardStreams,
    Action::PanicOnThread,
    Action::PanicInSpawnedTask,
    Action::ChangeFolder,
    Action::HandleSignals,
    Action::SendItselfSignals,
    Action::StopSystem,
    Action::LeaveThreads,
];

/// More descriptors than a worker has.
const ALL: i32 = 1000;

pub(crate) fn close_from(first: i32) {
    // The descriptor of the connection is closed before those of the runtimes, so that the manager notices
    // it in any case.
    for descriptor in (first..ALL).rev() {
        // Closing a descriptor that is not open has no effect.
        let _ = close(descriptor);
    }
}

fn overflow(depth: u64) -> u64 {
    let array = std::hint::black_box([depth; 1024]);
    if depth == u64::MAX {
        return array[0];
    }
    overflow(depth + 1) + array[1]
}

impl Task for Action {
    const NAME: &'static str = "deed";
    type Output = u32;

    async fn run(self) -> u32 {
        match self {
            Self::Nothing => {}
            Self::Abort => process::abort(),
            Self::ExitOnThread => {
                thread::spawn(|| process::exit(3));
                pending::<()>().await;
            }
            Self::OverflowStack => {
                overflow(0);
            }
            Self::CloseAndStay => {
                close_from(0);
                pending::<()>().await;
            }
            Self::CloseAndBlock => {
                close_from(0);
                loop {
                    thread::park();
                }
            }
            Self::CloseAndReturn => close_from(0),
            Self::CloseStandardStreams => {
                for descriptor in 0..3 {
                    let _ = close(descriptor);
                }
            }
            Self::PanicOnThread => {
                let panicked = thread::spawn(|| panic!("on a thread")).join();
                panicked.unwrap_err();
            }
            Self::PanicInSpawnedTask => {
                let panicked = actix_rt::spawn(async { panic!("in a task") }).await;
                panicked.unwrap_err();
            }
            Self::ChangeFolder => env::set_current_dir("/").unwrap(),
            Self::HandleSignals => {
                for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
                    drop(signal(kind).unwrap());
                }
            }
            Self::SendItselfSignals => {
                for signal in [Signal::INT, Signal::TERM] {
                    kill_process(getpid(), signal).unwrap();
                }
            }
            Self::StopSystem => System::current().stop(),
            Self::LeaveThreads => {
                for _ in 0..10 {
                    thread::spawn(|| {
                        loop {
                            thread::park();
                        }
                    });
                }
            }
        }
        process::id()
    }
}

/// Closes one descriptor of its worker, whatever it is.
#[derive(Debug, Serialize, Deserialize)]
struct CloseOne(i32);

impl Task for CloseOne {
    const NAME: &'static str = "close_one";
    type Output = ();

    async fn run(self) {
        let _ = close(self.0);
    }
}

/// Starts a thread that closes all descriptors long after this task has ended.
#[derive(Debug, Serialize, Deserialize)]
struct CloseLater;

impl Task for CloseLater {
    const NAME: &'static str = "close_later";
    type Output = u32;

    async fn run(self) -> u32 {
        thread::spawn(|| {
            // The sleep is part of the test: the worker may or may not be waiting for its next task by
            // then.
            thread::sleep(Duration::from_millis(100));
            close_from(3);
        });
        process::id()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Action>()
        .task::<CloseLater>()
        .task::<CloseOne>()
}

/// Makes tasks, of which one in four performs the action.
fn tasks(action: Action) -> impl Iterator<Item = Action> {
    (0..12).map(move |number| {
        if number % 4 == 1 {
            action
        } else {
            Action::Nothing
        }
    })
}

async fn until_all_live(pool: &Pool, workers: usize) {
    until("all workers exist", || async {
        let pids = pool.pids().await;
        pids.len() == workers
            && pids.into_iter().all(is_running)
            && pool.status().await.unwrap().missing_workers == 0
    })
    .await;
}

#[test]
fn only_the_task_that_ends_its_process_fails_and_the_process_is_replaced() {
    run(async {
        let each = DEADLY.map(|(action, exits)| async move {
            let pool = Pool::new(2).await.unwrap();
            let outcomes: Vec<_> = pool.imap(tasks(action)).collect().await;
            assert_eq!(outcomes.len(), 12, "{action:?}");
            for (number, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Ok(_) => assert_ne!(number % 4, 1, "{action:?}"),
                    Err(error) => {
                        let exit = error
                            .exit()
                            .unwrap_or_else(|| panic!("{action:?}: {error}"));
                        assert_eq!(number % 4, 1, "{action:?}");
                        assert!(exits.contains(&exit), "{action:?}: {exit:?}");
                    }
                }
            }
            until_all_live(&pool, 2).await;
            pool.join().await.unwrap();
        });
        join_all(each).await;
    });
}

#[test]
fn task_that_changes_its_process_affects_no_outcome() {
    run(async {
        let each = HARMLESS.map(|action| async move {
            let pool = Pool::new(2).await.unwrap();
            let mut workers = pool.pids().await;
            workers.sort_unstable();
            let outcomes: Vec<_> = pool.imap(tasks(action)).collect().await;
            assert_eq!(outcomes.len(), 12, "{action:?}");
            for outcome in outcomes {
                let worker = outcome.unwrap_or_else(|error| panic!("{action:?}: {error}"));
                assert!(workers.contains(&worker), "{action:?}");
            }
            let mut after = pool.pids().await;
            after.sort_unstable();
            assert_eq!(after, workers, "{action:?}");
            pool.apply(Who).await.unwrap();
            pool.join().await.unwrap();
        });
        join_all(each).await;
    });
}

/// A thread that a task has started closes the connection of its worker between two tasks.
#[test]
fn idle_worker_that_has_lost_its_session_is_replaced() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let worker = pool.apply(Who).await.unwrap();
        let closed = pool.apply(CloseLater).await.unwrap();
        assert_eq!(closed, worker);
        until("another worker is in its place", || async {
            let pids = pool.pids().await;
            pids.len() == 1 && pids != [worker]
        })
        .await;
        pool.apply(Who).await.unwrap();
    });
}

/// More descriptors than a worker has, beside the standard ones.
const OPEN: i32 = 32;

/// How long the tasks after one that closed a descriptor may take.
const SOON: Duration = Duration::from_secs(20);

/// Each descriptor of a worker has another use: its connection, its report pipe, its lifeline and its runtimes.
#[test]
fn tasks_behind_one_that_closed_any_descriptor_have_outcomes() {
    run(async {
        let each = (0..OPEN).map(|number| async move {
            let pool = Pool::new(1).await.unwrap();
            let close = pool.apply(CloseOne(number));
            let closed = tokio::time::timeout(SOON, close).await;
            assert!(closed.is_ok(), "{number}: the task that closes it");
            for _ in 0..3 {
                let next = tokio::time::timeout(SOON, pool.apply(Who)).await;
                match next.unwrap_or_else(|_| panic!("{number}: a task behind it")) {
                    Ok(_) => {}
                    Err(error) if matches!(error.fault(), Some(TaskFault::WorkerDied { .. })) => {}
                    Err(error) => panic!("{number}: {error}"),
                }
            }
            let join = tokio::time::timeout(SOON, pool.join()).await;
            join.unwrap_or_else(|_| panic!("{number}: the end"))
                .unwrap();
        });
        let mut each = futures::stream::iter(each).buffer_unordered(4);
        while each.next().await.is_some() {}
    });
}

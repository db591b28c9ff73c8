//! Want of descriptors, and workers that do not get ready: errors that say what is lacking, and pools that
//! work again once there is room.

use std::{
    fs::{self, File},
    future::pending,
    path::PathBuf,
    process,
};

use lockkeeper::{
    Manager, Pool, Task, TaskError, builders::Program, errors::TaskFault, inspect::PoolStatus,
};
use lockkeeper_test_support::{Role, Roles, kill, report, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{pool::basic_tasks::Who, run};

/// An initializer that ends its worker for as long as the file is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ExitWhileFileExists {
    file: PathBuf,
    by_signal: bool,
}

impl Task for ExitWhileFileExists {
    const NAME: &'static str = "unlucky";
    type Output = ();

    async fn run(self) {
        if self.file.exists() {
            if self.by_signal {
                kill(process::id());
                pending::<()>().await;
            }
            process::exit(0);
        }
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<ExitWhileFileExists>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("pool::wants::first_use", use_first);
    roles.add("pool::wants::later", lose_a_worker);
}

/// Lets this process have no descriptor beside those that it has, and so many.
fn leave_descriptors(more: u64) {
    let lowest = File::open("/dev/null").unwrap();
    let lowest = std::os::fd::AsRawFd::as_raw_fd(&lowest);
    set_descriptors(u64::try_from(lowest).unwrap() + more);
}

fn set_descriptors(current: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(current);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// What can be a program's first use, and its error.
async fn uses() -> Vec<Option<String>> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    vec![
        Manager::start().await.err().map(|error| text(&error)),
        Manager::spawn().await.err().map(|error| text(&error)),
        Pool::new(1).await.err().map(|error| text(&error)),
    ]
}

/// Uses the library without descriptors, with more and more of them, and with enough.
async fn use_first((): ()) {
    for more in 0..6 {
        leave_descriptors(more);
        for error in uses().await.into_iter().flatten() {
            report(&error);
        }
        set_descriptors(1000);
    }
    assert_eq!(uses().await, [None, None, None]);
    report("enough");
    pending::<()>().await;
}

async fn until_empty(pool: &Pool, places: u64) {
    until("so many places are empty", || async {
        pool.status().await.unwrap().empty == places
    })
    .await;
}

/// A task fails that has no worker, with its reason.
async fn until_broken(pool: &Pool) -> String {
    loop {
        match pool.apply(Who).await {
            Err(TaskError::Failed(TaskFault::Broken(why))) => return why,
            Ok(_) | Err(TaskError::Failed(TaskFault::WorkerDied { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Has a pool whose worker dies when there is no descriptor for another.
async fn lose_a_worker((): ()) {
    let pool = Pool::new(1).await.unwrap();
    let worker = pool.apply(Who).await.unwrap();
    // Not even those that its end frees.
    set_descriptors(0);
    kill(worker);
    report(&until_broken(&pool).await);
    until_empty(&pool, 1).await;
    set_descriptors(1000);
    // It waits for the next attempt at the most.
    while pool.apply(Who).await.is_err() {}
    until_empty(&pool, 0).await;
    report("works again");
    pending::<()>().await;
}

#[test]
fn first_use_without_descriptors_is_an_error_and_a_later_one_works() {
    run(async {
        let mut role = Role::start("pool::wants::first_use", &());
        let mut errors = 0;
        loop {
            let shown = role.next_report();
            if shown == "enough" {
                break;
            }
            assert!(shown.contains("open files"), "{shown}");
            errors += 1;
        }
        assert!(errors >= 3, "{errors}");
    });
}

#[test]
fn pool_that_lacked_descriptors_for_a_worker_works_again_once_there_are_some() {
    run(async {
        let mut role = Role::start("pool::wants::later", &());
        let why = role.next_report();
        assert!(why.contains("ulimit -n"), "{why}");
        assert_eq!(role.next_report(), "works again");
    });
}

#[test]
fn place_whose_workers_end_before_they_are_ready_is_tried_again_and_again() {
    run(async {
        for by_signal in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("unlucky");
            let unlucky = ExitWhileFileExists {
                file: file.clone(),
                by_signal,
            };
            let pool = Pool::builder(1).initializer(unlucky).start().await.unwrap();
            fs::write(&file, "").unwrap();
            kill(pool.apply(Who).await.unwrap());
            let why = until_broken(&pool).await;
            assert!(why.contains("ended before it was ready"), "{why}");
            until_empty(&pool, 1).await;
            let waiting = pool.spawn(Who);
            fs::remove_file(&file).unwrap();
            // This one, or one that comes after the attempt that was under way.
            if waiting.await.is_err() {
                pool.apply(Who).await.unwrap();
            }
            let PoolStatus { empty, .. } = pool.status().await.unwrap();
            assert_eq!(empty, 0);
        }
    });
}

#[test]
fn pool_without_workers_is_joined_although_none_gets_ready() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("unlucky");
        let unlucky = ExitWhileFileExists {
            file: file.clone(),
            by_signal: false,
        };
        let pool = Pool::builder(2).initializer(unlucky).start().await.unwrap();
        fs::write(&file, "").unwrap();
        for pid in pool.pids().await {
            kill(pid);
        }
        until_empty(&pool, 2).await;
        let waiting = pool.spawn(Who);
        pool.join().await.unwrap();
        let why = waiting.await.unwrap_err().to_string();
        assert!(why.contains("ended before it was ready"), "{why}");
    });
}

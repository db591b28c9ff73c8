//! Lack of descriptors, and workers that do not get ready: the errors name the lacking resource, and pools
//! work again once it is available.

use std::{
    fs::{self, File},
    future::pending,
    path::PathBuf,
    process,
};

use lockkeeper::{Manager, Pool, Task, builders::Program, errors::TaskFault, inspect::PoolStatus};
use lockkeeper_test_support::{Role, Roles, kill, report, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{pool::basic_tasks::Who, run};

/// An initializer that ends its worker while a file exists.
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

/// Limits this process to its open descriptors and `more` further ones.
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

/// Makes each call that can be a program's first use, and returns the errors.
async fn uses() -> Vec<Option<String>> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    vec![
        Manager::start().await.err().map(|error| text(&error)),
        Manager::spawn().await.err().map(|error| text(&error)),
        Pool::new(1).await.err().map(|error| text(&error)),
    ]
}

/// Uses the library without descriptors, then with an increasing number, and then with enough.
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
    until("the expected number of places is empty", || async {
        pool.status().await.unwrap().missing_workers == places
    })
    .await;
}

/// Applies tasks until one fails because there are no workers, and returns the reason.
async fn until_broken(pool: &Pool) -> String {
    loop {
        match pool.apply(Who).await {
            Ok(_) => {}
            Err(error) => match error.fault() {
                Some(TaskFault::Broken(why)) => return why.clone(),
                Some(TaskFault::WorkerDied { .. }) => {}
                _ => panic!("{error}"),
            },
        }
    }
}

/// Owns a pool whose worker dies when there is no descriptor for another one.
async fn lose_a_worker((): ()) {
    let pool = Pool::new(1).await.unwrap();
    let worker = pool.apply(Who).await.unwrap();
    // The limit excludes even the descriptors that the worker's end frees.
    set_descriptors(0);
    kill(worker);
    report(&until_broken(&pool).await);
    until_empty(&pool, 1).await;
    set_descriptors(1000);
    // This waits until the next attempt at most.
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
fn pool_works_again_once_there_are_descriptors_for_a_worker() {
    run(async {
        let mut role = Role::start("pool::wants::later", &());
        let why = role.next_report();
        assert!(why.contains("ulimit -n"), "{why}");
        assert_eq!(role.next_report(), "works again");
    });
}

#[test]
fn starts_are_repeated_at_a_place_whose_workers_do_not_get_ready() {
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
            // This task runs, or one after the attempt that was in progress.
            if waiting.await.is_err() {
                pool.apply(Who).await.unwrap();
            }
            let PoolStatus {
                missing_workers, ..
            } = pool.status().await.unwrap();
            assert_eq!(missing_workers, 0);
        }
    });
}

#[test]
fn pool_can_be_joined_although_no_worker_gets_ready() {
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

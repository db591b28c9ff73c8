//! The tasks of a pool whose workers die.

use std::{
    fs,
    future::{self},
    io::Write,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use lockkeeper::{
    CallError, Lock, Manager, Pool, Task, TaskError,
    builders::Program,
    errors::{TaskFault, WorkerExit},
};
use lockkeeper_test_support::{is_running, kill, seeded, until};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    pool::basic_tasks::{ReturnOrDie, Who, at_once},
    run,
};

/// Ends the worker if the file has a line, and removes the line.
#[derive(Debug, Serialize, Deserialize)]
struct DieOften(PathBuf);

impl Task for DieOften {
    const NAME: &'static str = "die_often";
    type Output = u32;

    async fn run(self) -> u32 {
        let lines = fs::read_to_string(&self.0).expect("the file exists");
        if let Some((_, rest)) = lines.split_once('\n') {
            fs::write(&self.0, rest).expect("the file exists");
            kill(process::id());
            future::pending::<()>().await;
        }
        process::id()
    }
}

/// Returns the worker's process id after it has acquired and released the lock.
#[derive(Debug, Serialize, Deserialize)]
struct Hold(Lock);

impl Task for Hold {
    const NAME: &'static str = "hold";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        drop(self.0.acquire().await?);
        Ok(process::id())
    }
}

/// Ends the worker with exit code 0.
#[derive(Debug, Serialize, Deserialize)]
struct Exit;

impl Task for Exit {
    const NAME: &'static str = "exit";
    type Output = ();

    async fn run(self) {
        process::exit(0);
    }
}

/// An initializer that fails if the file does not exist. Each run adds a line to another file.
#[derive(Debug, Serialize, Deserialize)]
struct Need {
    file: PathBuf,
    tries: PathBuf,
}

impl Task for Need {
    const NAME: &'static str = "need";
    type Output = ();

    async fn run(self) {
        let mut tries = fs::File::options()
            .create(true)
            .append(true)
            .open(self.tries)
            .expect("the folder exists");
        tries.write_all(b"try\n").expect("a line can be written");
        assert!(self.file.exists(), "the file is gone");
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<DieOften>()
        .task::<Hold>()
        .task::<Exit>()
        .task::<Need>()
}

/// Asserts that a task has failed in its first attempt because SIGKILL ended its worker.
#[track_caller]
fn assert_killed<T>(outcome: Result<T, TaskError>, pid: u32) {
    let error = outcome.err().expect("its worker is dead");
    let facts = (error.exit(), error.pid(), error.attempts());
    assert_eq!(
        facts,
        (Some(WorkerExit::Signal(9)), Some(pid), 1),
        "{error}"
    );
    assert!(error.ran().is_some());
}

#[test]
fn killed_worker_fails_only_its_task_frees_what_it_held_and_is_replaced() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(2).await.unwrap();
        let before = pool.pids().await;
        let tasks: Vec<ReturnOrDie> = (0..20)
            .map(|number| match number {
                7 => ReturnOrDie::Die(lock.clone()),
                number => ReturnOrDie::Return(number),
            })
            .collect();
        let outcomes: Vec<_> = pool.imap(tasks).collect().await;
        let guard = lock.acquire().await.unwrap();
        let dead = guard.abandoned().unwrap().holder.pid;
        assert!(before.contains(&dead), "{dead} is none of {before:?}");
        for (outcome, number) in outcomes.into_iter().zip(0..) {
            match number {
                7 => assert_killed(outcome, dead),
                number => assert_eq!(outcome, Ok(Ok(number))),
            }
        }
        until("another worker is in its place", || async {
            let now = pool.pids().await;
            now.len() == 2 && !now.contains(&dead)
        })
        .await;
        assert!(!is_running(dead));
        pool.join().await.unwrap();
    });
}

#[test]
fn idle_worker_that_is_killed_is_replaced() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let dead = pool.apply(Who).await.unwrap();
        kill(dead);
        until("another worker is in its place", || async {
            let now = pool.pids().await;
            now.len() == 1 && now != [dead]
        })
        .await;
        assert_eq!(pool.pids().await, [pool.apply(Who).await.unwrap()]);
    });
}

#[test]
fn all_tasks_have_an_output_although_workers_are_killed_at_any_time() {
    run(async {
        let mut random = seeded();
        let pool = Pool::builder(3).retry(at_once(1001)).start().await.unwrap();
        let tasks = (0..3000).map(|_| Who);
        let mut outcomes = Box::pin(pool.imap(tasks));
        let mut count = 0;
        while let Some(outcome) = outcomes.next().await {
            let worker = outcome.unwrap();
            count += 1;
            // Only workers that were ready are killed: after three workers that do not get ready, a
            // place stays empty.
            if random.random_ratio(1, 100) && pool.pids().await.contains(&worker) {
                kill(worker);
            }
        }
        assert_eq!(count, 3000);
    });
}

#[test]
fn task_of_a_killed_worker_is_run_again_as_often_as_asked() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lives");
        let pool = Pool::builder(1).retry(at_once(3)).start().await.unwrap();
        fs::write(&file, "one\ntwo\n").unwrap();
        pool.apply(DieOften(file.clone())).await.unwrap();
        fs::write(&file, "one\ntwo\nthree\nfour\n").unwrap();
        let outcome = pool.apply(DieOften(file.clone())).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.exit(), Some(WorkerExit::Signal(9)));
        assert_eq!(error.attempts(), 3);
        assert_eq!(fs::read_to_string(&file).unwrap(), "four\n");
    });
}

#[test]
fn killed_worker_fails_its_whole_chunk_and_no_other() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::builder(2).chunk_size(3).start().await.unwrap();
        let tasks = (0..9).map(|number| match number {
            4 => ReturnOrDie::Die(lock.clone()),
            number => ReturnOrDie::Return(number),
        });
        let outcomes: Vec<_> = pool.imap(tasks.collect::<Vec<_>>()).collect().await;
        let failed: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
        let (t, f) = (true, false);
        assert_eq!(failed, [f, f, f, t, t, t, f, f, f]);
    });
}

#[test]
fn task_that_exits_with_code_0_has_failed() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let pid = pool.apply(Who).await.unwrap();
        let error = pool.apply(Exit).await.unwrap_err();
        let facts = (error.exit(), error.pid(), error.attempts());
        assert_eq!(facts, (Some(WorkerExit::Code(0)), Some(pid), 1));
        assert_ne!(pool.apply(Who).await.unwrap(), pid);
    });
}

#[test]
fn pool_whose_workers_no_longer_get_ready_fails_its_tasks() {
    run(async {
        let (folder, pool) = needy_pool(2).await;
        fs::remove_file(folder.path().join("needed")).unwrap();
        let begin = Instant::now();
        for pid in pool.pids().await {
            kill(pid);
        }
        let broken = until_broken(&pool).await;
        assert!(broken.contains("the file is gone"), "{broken}");
        assert_eq!(tries(&folder), 8, "three more tries for each place");
        // This test measures time: there are 100 and 200 milliseconds between the tries.
        assert!(begin.elapsed() >= Duration::from_millis(300));
        pool.join().await.unwrap();
    });
}

#[test]
fn other_workers_run_the_tasks_of_an_empty_place() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let (folder, pool) = needy_pool(2).await;
        let guard = lock.acquire().await.unwrap();
        let running = pool.spawn(Hold(lock.clone()));
        until("the task runs", || async {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        fs::remove_file(folder.path().join("needed")).unwrap();
        let healthy = kill_the_idle_one(&pool).await;
        until("three workers have failed in the place", || async {
            tries(&folder) == 5 && pool.pids().await == [healthy]
        })
        .await;
        let waiting = pool.spawn(Who);
        until("the call waits", || async {
            pool.status().await.unwrap().waiting == 1
        })
        .await;
        drop(guard);
        assert_eq!(running.await, Ok(Ok(healthy)));
        assert_eq!(waiting.await, Ok(healthy));
        kill(healthy);
        until_broken(&pool).await;
        assert_eq!(
            tries(&folder),
            8,
            "no further worker was started in the empty place"
        );
        pool.join().await.unwrap();
    });
}

#[test]
fn pool_may_end_while_a_place_waits_for_its_next_try() {
    run(async {
        let (folder, pool) = needy_pool(1).await;
        fs::remove_file(folder.path().join("needed")).unwrap();
        kill(pool.pids().await[0]);
        until("one worker has failed", || async {
            tries(&folder) == 2 && pool.pids().await.is_empty()
        })
        .await;
        let waiting = pool.spawn(Who);
        until("the call waits", || async {
            pool.status().await.unwrap().waiting == 1
        })
        .await;
        drop(pool);
        let error = waiting.await.unwrap_err();
        assert_eq!(error.fault(), Some(&TaskFault::Terminated));
    });
}

/// Starts a pool whose workers get ready while the file "needed" is in the folder.
async fn needy_pool(workers: usize) -> (TempDir, Pool) {
    let folder = tempfile::tempdir().unwrap();
    let need = Need {
        file: folder.path().join("needed"),
        tries: folder.path().join("tries"),
    };
    fs::write(&need.file, "").unwrap();
    let pool = Pool::builder(workers).initializer(need).start().await;
    (folder, pool.unwrap())
}

/// Returns how many workers of such a pool have tried to get ready.
fn tries(folder: &TempDir) -> usize {
    let tries = fs::read_to_string(folder.path().join("tries"));
    tries.unwrap().lines().count()
}

/// Kills the one of two workers that runs a short task, and returns the other.
async fn kill_the_idle_one(pool: &Pool) -> u32 {
    let pids = pool.pids().await;
    let idle = pool.apply(Who).await.unwrap();
    kill(idle);
    let other = pids.into_iter().find(|pid| *pid != idle);
    other.expect("the pool has two workers")
}

/// Applies tasks until one fails because there are no workers, and returns the reason.
async fn until_broken(pool: &Pool) -> String {
    loop {
        match pool.apply(Who).await {
            Ok(_) => {}
            Err(error) => match error.fault() {
                Some(TaskFault::Broken(why)) => return why.clone(),
                // A worker may have died with the task, or before the pool noticed its death.
                Some(TaskFault::WorkerDied { .. }) => {}
                _ => panic!("{error}"),
            },
        }
    }
}

#[test]
fn unbegun_tasks_of_killed_workers_are_run_by_others() {
    run(async {
        let pool = Pool::new(4).await.unwrap();
        for _ in 0..5 {
            until("all workers are idle", || async {
                pool.status().await.unwrap().idle == 4
            })
            .await;
            // The pool has not noticed the deaths when it assigns the tasks.
            pool.pids().await.into_iter().for_each(kill);
            let tasks: Vec<_> = (0..4).map(|_| pool.spawn(Who)).collect();
            for outcome in join_all(tasks).await {
                outcome.unwrap();
            }
        }
    });
}

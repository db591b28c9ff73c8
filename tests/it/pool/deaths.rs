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
    pool::basic_tasks::{ReturnOrDie, Who},
    run,
};

/// Ends the worker as often as the file has lines, each time taking one.
#[derive(Debug, Serialize, Deserialize)]
struct DieOften(PathBuf);

impl Task for DieOften {
    const NAME: &'static str = "die_often";
    type Output = u32;

    async fn run(self) -> u32 {
        let lines = fs::read_to_string(&self.0).expect("the file is there");
        if let Some((_, rest)) = lines.split_once('\n') {
            fs::write(&self.0, rest).expect("the file is there");
            kill(process::id());
            future::pending::<()>().await;
        }
        process::id()
    }
}

/// The worker, once the lock was had for a moment.
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

/// Ends the worker in an orderly way.
#[derive(Debug, Serialize, Deserialize)]
struct Exit;

impl Task for Exit {
    const NAME: &'static str = "exit";
    type Output = ();

    async fn run(self) {
        process::exit(0);
    }
}

/// An initializer that fails once the file is gone, and leaves a line in another each time.
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
            .expect("the folder is there");
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

fn worker_died(pid: u32) -> TaskError {
    TaskError::Failed(TaskFault::WorkerDied {
        pid,
        exit: WorkerExit::Signal(9),
        attempts: 1,
    })
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
                7 => assert_eq!(outcome, Err(worker_died(dead))),
                number => assert_eq!(outcome, Ok(Ok(number))),
            }
        }
        until("another is in its place", || async {
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
        until("another is in its place", || async {
            let now = pool.pids().await;
            now.len() == 1 && now != [dead]
        })
        .await;
        assert_eq!(pool.pids().await, [pool.apply(Who).await.unwrap()]);
    });
}

#[test]
fn workers_may_be_killed_at_any_time_and_all_tasks_have_an_output() {
    run(async {
        let mut random = seeded();
        let pool = Pool::builder(3).retries(1000).start().await.unwrap();
        let tasks = (0..3000).map(|_| Who);
        let mut outcomes = Box::pin(pool.imap(tasks));
        let mut count = 0;
        while let Some(outcome) = outcomes.next().await {
            let worker = outcome.unwrap();
            count += 1;
            // Only one that got ready: a place where three in a row do not stays empty.
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
        let pool = Pool::builder(1).retries(2).start().await.unwrap();
        fs::write(&file, "one\ntwo\n").unwrap();
        pool.apply(DieOften(file.clone())).await.unwrap();
        fs::write(&file, "one\ntwo\nthree\nfour\n").unwrap();
        let outcome = pool.apply(DieOften(file.clone())).await;
        let died = matches!(
            outcome,
            Err(TaskError::Failed(TaskFault::WorkerDied { .. }))
        );
        assert!(died, "{outcome:?}");
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
fn task_that_exits_with_success_has_failed_all_the_same() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let pid = pool.apply(Who).await.unwrap();
        let died = TaskFault::WorkerDied {
            pid,
            exit: WorkerExit::Code(0),
            attempts: 1,
        };
        assert_eq!(pool.apply(Exit).await, Err(died.into()));
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
        assert_eq!(tries(&folder), 8, "three more of each place");
        // The time itself is what is tested: 100 and 200 milliseconds between the tries.
        assert!(begin.elapsed() >= Duration::from_millis(300));
        pool.join().await.unwrap();
    });
}

#[test]
fn place_that_stays_empty_leaves_the_tasks_to_the_others() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let (folder, pool) = needy_pool(2).await;
        let guard = lock.acquire().await.unwrap();
        let running = pool.spawn(Hold(lock.clone()));
        until("it runs", || async {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        fs::remove_file(folder.path().join("needed")).unwrap();
        let healthy = kill_the_idle_one(&pool).await;
        until("three have failed in its place", || async {
            tries(&folder) == 5 && pool.pids().await == [healthy]
        })
        .await;
        let waiting = pool.spawn(Who);
        until("it waits", || async {
            pool.status().await.unwrap().waiting == 1
        })
        .await;
        drop(guard);
        assert_eq!(running.await, Ok(Ok(healthy)));
        assert_eq!(waiting.await, Ok(healthy));
        kill(healthy);
        until_broken(&pool).await;
        assert_eq!(tries(&folder), 8, "the empty place was tried no more");
        pool.join().await.unwrap();
    });
}

#[test]
fn pool_may_end_while_a_place_waits_for_its_next_try() {
    run(async {
        let (folder, pool) = needy_pool(1).await;
        fs::remove_file(folder.path().join("needed")).unwrap();
        kill(pool.pids().await[0]);
        until("one has failed", || async {
            tries(&folder) == 2 && pool.pids().await.is_empty()
        })
        .await;
        let waiting = pool.spawn(Who);
        until("it waits", || async {
            pool.status().await.unwrap().waiting == 1
        })
        .await;
        drop(pool);
        let terminated = TaskError::Failed(TaskFault::Terminated);
        assert_eq!(waiting.await, Err(terminated));
    });
}

/// A pool whose workers get ready for as long as the file "needed" is in the folder.
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

/// How many workers of such a pool have tried to get ready.
fn tries(folder: &TempDir) -> usize {
    let tries = fs::read_to_string(folder.path().join("tries"));
    tries.unwrap().lines().count()
}

/// Kills the one of two workers that a short task finds idle, and tells the other.
async fn kill_the_idle_one(pool: &Pool) -> u32 {
    let pids = pool.pids().await;
    let idle = pool.apply(Who).await.unwrap();
    kill(idle);
    let other = pids.into_iter().find(|pid| *pid != idle);
    other.expect("there are two")
}

/// Applies tasks until one fails since there are no workers, and says why there are none.
async fn until_broken(pool: &Pool) -> String {
    loop {
        match pool.apply(Who).await {
            Err(TaskError::Failed(TaskFault::Broken(why))) => return why,
            // A worker may have died with the task, or before it was seen to be dead.
            Ok(_) | Err(TaskError::Failed(TaskFault::WorkerDied { .. })) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn tasks_that_killed_workers_have_not_begun_are_run_by_others() {
    run(async {
        let pool = Pool::new(4).await.unwrap();
        for _ in 0..5 {
            until("all workers are idle", || async {
                pool.status().await.unwrap().idle == 4
            })
            .await;
            // The pool has not heard of their deaths yet when it gives them tasks.
            pool.pids().await.into_iter().for_each(kill);
            let tasks: Vec<_> = (0..4).map(|_| pool.spawn(Who)).collect();
            for outcome in join_all(tasks).await {
                outcome.unwrap();
            }
        }
    });
}

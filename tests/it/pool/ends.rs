//! The ends of a pool: closed, joined, terminated, dropped, or with the process that owns it.

use std::{
    future::{self},
    thread,
    time::Duration,
};

use lockkeeper::{
    Blocking, BlockingTask, CallError, Lock, Manager, Pool, Task, TaskError,
    builders::Program,
    errors::{TaskFault, WorkerExit},
};
use lockkeeper_test_support::{Role, Roles, is_running, kill, report, seeded, stop, until};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    pool::basic_tasks::{ReturnOrDie, Who},
    run,
};

/// Acquires the lock and then runs for ever without yielding.
#[derive(Debug, Serialize, Deserialize)]
struct Spin(Lock);

impl Task for Spin {
    const NAME: &'static str = "spin";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        let _guard = self.0.acquire().await?;
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// As `Spin`, on a plain thread.
#[derive(Debug, Serialize, Deserialize)]
struct BlockingSpin(Lock);

impl BlockingTask for BlockingSpin {
    const NAME: &'static str = "plain_spin";
    type Output = Result<(), CallError>;

    fn run(self) -> Self::Output {
        let _guard = self.0.acquire().blocking()?;
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Makes the exit of its worker run a destructor that never returns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HangsAtExit;

/// A value whose destructor never returns.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

thread_local! {
    static ENDLESS: Endless = const { Endless };
}

impl Task for HangsAtExit {
    const NAME: &'static str = "hangs_at_exit";
    type Output = u32;

    async fn run(self) -> u32 {
        // The destructor runs only if the value was used.
        ENDLESS.with(|_| std::process::id())
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<HangsAtExit>()
        .task::<Spin>()
        .task::<Blocking<BlockingSpin>>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("pool::ends::owner", own_a_pool);
}

/// Owns a pool whose tasks never end.
async fn own_a_pool(locks: (Lock, Lock)) {
    let pool = Pool::new(3).await.unwrap();
    drop(pool.spawn(Spin(locks.0)));
    drop(pool.spawn(Blocking(BlockingSpin(locks.1))));
    report(&serde_json::to_string(&pool.pids().await).unwrap());
    future::pending::<()>().await;
}

async fn until_gone(pids: &[u32]) {
    until("the workers have ended", || async {
        !pids.iter().any(|pid| is_running(*pid))
    })
    .await;
}

async fn until_held(lock: &Lock) {
    until("the lock is held", || async {
        lock.status().await.unwrap().is_held
    })
    .await;
}

async fn until_jobs(pool: &Pool, running: u64, waiting: u64) {
    until("the expected numbers of jobs run and wait", || async {
        let status = pool.status().await.unwrap();
        (status.running, status.waiting) == (running, waiting)
    })
    .await;
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
fn closed_pool_runs_its_tasks_and_accepts_no_more() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let pids = pool.pids().await;
        let first = pool.spawn(ReturnOrDie::Die(lock.clone()));
        until_jobs(&pool, 1, 0).await;
        let second = pool.spawn(ReturnOrDie::Return(2));
        until_jobs(&pool, 1, 1).await;
        pool.close().await.unwrap();
        let refused = pool.apply(Who).await;
        assert_eq!(refused.unwrap_err().fault(), Some(&TaskFault::Closed));
        drop(guard);
        assert_killed(first.await, pids[0]);
        assert_eq!(second.await, Ok(Ok(2)));
        pool.join().await.unwrap();
        until_gone(&pids).await;
    });
}

#[test]
fn joined_pool_leaves_no_process() {
    run(async {
        let pool = Pool::new(3).await.unwrap();
        let pids = pool.pids().await;
        let last = pool.spawn(Who);
        assert_eq!(pids.len(), 3);
        last.await.unwrap();
        pool.join().await.unwrap();
        assert!(!pids.iter().any(|pid| is_running(*pid)));
    });
}

#[test]
fn terminated_pool_fails_its_tasks_and_leaves_no_process() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = (manager.lock().await.unwrap(), manager.lock().await.unwrap());
        let pool = Pool::new(2).await.unwrap();
        let pids = pool.pids().await;
        let first = pool.spawn(Spin(locks.0.clone()));
        until_held(&locks.0).await;
        let second = pool.spawn(Blocking(BlockingSpin(locks.1.clone())));
        until_held(&locks.1).await;
        let third = pool.spawn(Spin(locks.0.clone()));
        until_jobs(&pool, 2, 1).await;
        pool.terminate().await;
        assert!(!pids.iter().any(|pid| is_running(*pid)));
        for task in [first, second, third] {
            let error = task.await.unwrap_err();
            assert_eq!(error.fault(), Some(&TaskFault::Terminated));
        }
        assert!(locks.0.acquire().await.unwrap().abandoned().is_some());
    });
}

#[test]
fn dropped_pool_fails_its_tasks_and_leaves_no_process() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let pids = pool.pids().await;
        let first = pool.spawn(Spin(lock.clone()));
        until_held(&lock).await;
        let second = pool.spawn(Spin(lock.clone()));
        until_jobs(&pool, 1, 1).await;
        drop(pool);
        assert!(!pids.iter().any(|pid| is_running(*pid)));
        for task in [first, second] {
            let error = task.await.unwrap_err();
            assert_eq!(error.fault(), Some(&TaskFault::Terminated));
        }
    });
}

#[test]
fn pool_may_end_while_its_workers_die() {
    run(async {
        let mut random = seeded();
        for _ in 0..30 {
            let pool = Pool::new(4).await.unwrap();
            let pids = pool.pids().await;
            pids.iter().for_each(|pid| kill(*pid));
            // Only the time of the end is random.
            thread::sleep(Duration::from_micros(random.random_range(0..1500)));
            drop(pool);
            assert!(!pids.iter().any(|pid| is_running(*pid)));
        }
    });
}

#[test]
fn workers_end_with_their_parent_during_any_task() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = (manager.lock().await.unwrap(), manager.lock().await.unwrap());
        let mut owner = Role::start("pool::ends::owner", &locks);
        let pids: Vec<u32> = serde_json::from_str(&owner.next_report()).unwrap();
        assert!(pids.len() == 3 && !pids.contains(&owner.pid()));
        until_held(&locks.0).await;
        until_held(&locks.1).await;
        assert!(pids.iter().all(|pid| is_running(*pid)));
        owner.kill();
        until_gone(&pids).await;
        let guard = locks.0.acquire().await.unwrap();
        assert!(pids.contains(&guard.abandoned().unwrap().holder.pid));
        drop(locks.1.acquire().await.unwrap());
    });
}

#[test]
fn stopped_idle_worker_does_not_block_the_end_of_a_pool() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        until("all workers are idle", || async {
            pool.status().await.unwrap().idle == 2
        })
        .await;
        let pids = pool.pids().await;
        stop(pids[0]).await;
        pool.join().await.unwrap();
        until_gone(&pids).await;
    });
}

#[test]
fn worker_whose_exit_does_not_return_is_killed_and_replaced() {
    run(async {
        let pool = Pool::builder(1)
            .max_tasks_per_child(1)
            .start()
            .await
            .unwrap();
        let mut workers = Vec::new();
        for _ in 0..2 {
            workers.push(pool.apply(HangsAtExit).await.unwrap());
        }
        assert_ne!(workers[0], workers[1]);
        pool.join().await.unwrap();
        until_gone(&workers).await;
    });
}

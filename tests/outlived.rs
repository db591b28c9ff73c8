//! Guards that outlive what they are of: the session, the object, the manager, their runtime.

#[path = "support/signals.rs"]
mod signals;
mod support;

use std::{fs, future::Future, process, time::Duration};

use lockkeeper::{CallError, ConditionGuard, LockGuard, Manager, Permit, ReentrantGuard, block_on};
use signals::{is_running, kill};
use tokio::{runtime::Builder, time::timeout};

/// Far above what a loss takes to be told.
const PATIENCE: Duration = Duration::from_secs(20);

fn program() {
    lockkeeper::program().in_test("children");
}

fn run<F: Future>(test: F) -> F::Output {
    program();
    support::run(test)
}

#[test]
fn children() {
    program();
}

/// One of each kind of guard.
struct Guards {
    lock: LockGuard,
    reentrant: ReentrantGuard,
    condition: ConditionGuard,
    permit: Permit,
    names: Vec<String>,
}

impl Guards {
    async fn take(manager: &Manager) -> Self {
        let lock = manager.lock().await.unwrap();
        let reentrant = manager.reentrant_lock().await.unwrap();
        let condition = manager.condition().await.unwrap();
        let semaphore = manager.semaphore(2).await.unwrap();
        let names = [
            lock.token().name(),
            reentrant.token().name(),
            condition.token().name(),
            semaphore.token().name(),
        ];
        let names = names.map(str::to_owned).to_vec();
        Self {
            lock: lock.acquire().await.unwrap(),
            reentrant: reentrant.acquire().await.unwrap(),
            condition: condition.acquire().await.unwrap(),
            permit: semaphore.acquire_many(2).await.unwrap(),
            names,
        }
    }

    fn are_valid(&self) -> [bool; 4] {
        [
            self.lock.is_valid(),
            self.reentrant.is_valid(),
            self.condition.is_valid(),
            self.permit.is_valid(),
        ]
    }

    async fn are_lost(&self) {
        let lost = async {
            self.lock.lost().await;
            self.reentrant.lost().await;
            self.condition.lost().await;
            self.permit.lost().await;
        };
        timeout(PATIENCE, lost).await.expect("all of them are lost");
        assert_eq!(self.are_valid(), [false; 4]);
    }

    /// What a release of each is told.
    async fn release(self) -> [CallError; 4] {
        [
            self.lock.release().await.unwrap_err(),
            self.reentrant.release().await.unwrap_err(),
            self.condition.release().await.unwrap_err(),
            self.permit.release().await.unwrap_err(),
        ]
    }
}

/// The process that a manager was started as.
fn child() -> u32 {
    let children = format!("/proc/{0}/task", process::id());
    fs::read_dir(children)
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|pids| {
            let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        })
        .find(|pid| is_running(*pid))
        .expect("it runs")
}

#[test]
fn guards_that_outlive_their_manager_are_lost_and_fall_in_silence() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (kept, dropped) = (Guards::take(&manager).await, Guards::take(&manager).await);
        assert_eq!(kept.are_valid(), [true; 4]);
        manager.shutdown().await;
        kept.are_lost().await;
        drop(dropped);
        for error in kept.release().await {
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
    });
}

#[test]
fn guards_of_a_manager_that_is_killed_are_lost_and_fall_in_silence() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let (kept, dropped) = (Guards::take(&manager).await, Guards::take(&manager).await);
        kill(child());
        kept.are_lost().await;
        // On a plain thread as well, and beside a runtime.
        std::thread::spawn(|| drop(dropped)).join().unwrap();
        for error in kept.release().await {
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
    });
}

#[test]
fn guards_of_objects_that_are_removed_are_lost() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let guards = Guards::take(&manager).await;
        for name in &guards.names {
            manager.remove(name).await.unwrap();
        }
        guards.are_lost().await;
        assert_eq!(guards.release().await, [(); 4].map(|()| CallError::Gone));
    });
}

#[test]
fn guards_outlive_the_runtime_that_they_were_taken_on() {
    program();
    let _watchdog = support::Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let guards = runtime.block_on(Guards::take(&manager));
    drop(runtime);
    assert_eq!(guards.are_valid(), [true; 4]);
    let lock = block_on(async { manager.lock().await.unwrap().acquire().await }).unwrap();
    let Guards { lock: first, .. } = guards;
    block_on(first.release()).unwrap();
    block_on(manager.shutdown());
    block_on(lock.lost());
}

#[test]
fn loss_of_a_guard_that_is_dropped_here_is_told() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let guards = Guards::take(&manager).await;
        let lost = futures::future::join_all([
            futures::FutureExt::boxed(guards.lock.lost()),
            futures::FutureExt::boxed(guards.reentrant.lost()),
            futures::FutureExt::boxed(guards.condition.lost()),
            futures::FutureExt::boxed(guards.permit.lost()),
        ]);
        drop(guards);
        timeout(PATIENCE, lost).await.expect("nothing is held");
    });
}

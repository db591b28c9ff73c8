//! Calls, guards and watchers whose runtime ends or is blocked, or that move to another runtime.

use std::{fs, time::Duration};

use lockkeeper::{Lock, LockGuard, Manager};
use lockkeeper_test_support::{Watchdog, in_own_process, until};
use tokio::runtime::{Builder, Runtime};

use crate::run;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls a future until it waits.
fn begin<F: Future + Unpin>(runtime: &Runtime, waiting: &mut F) {
    let brief = Duration::from_millis(5);
    let outcome = runtime.block_on(async { tokio::time::timeout(brief, waiting).await });
    assert!(outcome.is_err(), "it waits");
}

/// Returns a manager, a lock, and a guard of the lock.
fn held_lock(runtime: &Runtime) -> (Manager, Lock, LockGuard) {
    runtime.block_on(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        (manager, lock, guard)
    })
}

#[test]
fn call_may_move_away_from_a_blocked_runtime() {
    let _watchdog = Watchdog::start();
    let (still, other) = (current_thread(), current_thread());
    let (_manager, lock, guard) = held_lock(&still);
    let mut waiting = Box::pin(lock.acquire());
    begin(&still, &mut waiting);
    drop(guard);
    drop(other.block_on(waiting).unwrap());
}

#[test]
fn call_may_move_to_a_runtime_with_earlier_callers() {
    let _watchdog = Watchdog::start();
    let (first, second) = (current_thread(), current_thread());
    let (_manager, lock, guard) = held_lock(&first);
    second.block_on(lock.status()).unwrap();
    let mut waiting = Box::pin(lock.acquire());
    begin(&first, &mut waiting);
    drop(first);
    drop(guard);
    drop(second.block_on(waiting).unwrap());
}

#[test]
fn watcher_from_an_ended_runtime_notices_the_managers_end() {
    let _watchdog = Watchdog::start();
    let (first, second) = (current_thread(), current_thread());
    let (manager, _lock, guard) = held_lock(&first);
    let mut lost = Box::pin(guard.lost());
    begin(&first, &mut lost);
    drop(first);
    second.block_on(manager.shutdown());
    second.block_on(lost);
    assert!(!guard.is_valid());
}

#[test]
fn guards_that_are_dropped_while_a_runtime_is_blocked_are_released() {
    const MANY: usize = 20_000;

    let _watchdog = Watchdog::start();
    let still = current_thread();
    let (manager, permits, held) = still.block_on(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager
            .semaphore(u32::try_from(MANY).unwrap())
            .await
            .unwrap();
        let mut held = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            held.push(permits.acquire().await.unwrap());
        }
        (manager, permits, held)
    });
    // More releases than the socket takes at once, while the acquiring runtime is blocked.
    drop(held);
    let other = current_thread();
    other.block_on(until("all permits are free", || async {
        permits.status().await.unwrap().held == 0
    }));
    drop(manager);
}

#[test]
fn lock_is_released_by_tasks_whose_runtime_ends_at_any_moment() {
    let _watchdog = Watchdog::start();
    let base = current_thread();
    let (_manager, lock) = base.block_on(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        (manager, lock)
    });
    for round in 0..100 {
        let doomed = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        for _ in 0..4 {
            let lock = lock.clone();
            doomed.spawn(async move {
                while let Ok(guard) = lock.acquire().await {
                    if guard.release().await.is_err() {
                        break;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_micros(round * 20));
        doomed.shutdown_background();
        let patience = Duration::from_secs(20);
        drop(base.block_on(lock.acquire().timeout(patience)).unwrap());
    }
}

#[test]
fn ended_connections_leave_no_descriptor() {
    in_own_process(|| {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let come_and_go = || async {
            let manager = Manager::start().await.unwrap();
            drop(manager.lock().await.unwrap().acquire().await.unwrap());
            manager.shutdown().await;
        };
        run(async {
            come_and_go().await;
            let most = open() + 60;
            for _ in 0..200 {
                come_and_go().await;
            }
            until("the descriptors are closed", || async { open() < most }).await;
        });
    });
}

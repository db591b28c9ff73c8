//! The runtimes and threads that may use a manager, concurrently and one after the other.

mod bare;
mod blocking;
pub(crate) mod changes;
pub(crate) mod spin;
pub(crate) mod threads;

use std::{panic, thread, time::Duration};

use lockkeeper::{Lock, Manager};
use lockkeeper_test_support::{Watchdog, until};
use tokio::runtime::{Builder, Runtime};

use crate::run;

/// Acquires a lock that another task holds, with timers and tasks of the runtime.
async fn take_turns(lock: &Lock) {
    let guard = lock.acquire().await.unwrap();
    let waiting = tokio::spawn(lock.acquire());
    until("another waits", || async {
        lock.status().await.unwrap().waiting == 1
    })
    .await;
    drop(guard);
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn manager_runs_in_a_multi_threaded_runtime() {
    run(async {
        let manager = Manager::start().await.unwrap();
        take_turns(&manager.lock().await.unwrap()).await;
        manager.shutdown().await;
    });
}

#[tokio::test]
async fn manager_runs_in_a_current_thread_runtime() {
    let _watchdog = Watchdog::start();
    let manager = Manager::start().await.unwrap();
    take_turns(&manager.lock().await.unwrap()).await;
    // The drop waits for the manager's thread, not for this one.
    drop(manager);
}

#[test]
fn manager_runs_in_an_actix_system() {
    let _watchdog = Watchdog::start();
    actix_rt::System::new().block_on(async {
        let manager = Manager::start().await.unwrap();
        take_turns(&manager.lock().await.unwrap()).await;
    });
}

#[test]
fn plain_threads_use_a_manager_without_a_runtime() {
    let _watchdog = Watchdog::start();
    let manager = futures::executor::block_on(Manager::start()).unwrap();
    let lock = futures::executor::block_on(manager.lock()).unwrap();
    let permits = futures::executor::block_on(manager.semaphore(1)).unwrap();
    let guard = lock.acquire().blocking().unwrap();
    let brief = Duration::from_millis(10);
    lock.acquire()
        .timeout(brief)
        .blocking()
        .map(drop)
        .unwrap_err();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (lock, permits) = (lock.clone(), permits.clone());
            thread::spawn(move || {
                for _ in 0..100 {
                    let _guard = lock.acquire().blocking().unwrap();
                    let permit = permits.try_acquire().blocking().unwrap();
                    assert!(permit.is_some(), "the lock is free");
                }
            })
        })
        .collect();
    drop(guard);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(lock.try_acquire().blocking().unwrap().is_some());
}

#[test]
fn futures_run_without_any_runtime() {
    let _watchdog = Watchdog::start();
    futures::executor::block_on(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let brief = Duration::from_millis(10);
        lock.acquire().timeout(brief).await.map(drop).unwrap_err();
        let (_, next) = futures::join!(guard.release(), lock.acquire());
        let guard = next.unwrap();
        let lost = guard.lost();
        assert!(lock.force_unlock().await.unwrap());
        lost.await;
        manager.shutdown().await;
    });
}

#[test]
fn connection_outlives_the_runtime_that_made_it() {
    let _watchdog = Watchdog::start();
    let first = Runtime::new().unwrap();
    let (manager, lock) = first.block_on(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        take_turns(&lock).await;
        (manager, lock)
    });
    let guard = first.block_on(lock.acquire()).unwrap();
    let abandoned = lock.clone();
    first.spawn(async move { abandoned.acquire().await.map(drop) });
    let second = current_thread();
    second.block_on(until("the call waits", || async {
        lock.status().await.unwrap().waiting == 1
    }));
    first.shutdown_timeout(Duration::from_secs(5));

    // The runtime's call ended with it, and the hold still exists.
    second.block_on(until("no call waits", || async {
        lock.status().await.unwrap().waiting == 0
    }));
    assert!(guard.is_valid());
    drop(guard);
    second.block_on(take_turns(&lock));
    drop(second);
    drop(lock.acquire().blocking().unwrap());
    current_thread().block_on(async {
        take_turns(&lock).await;
        manager.shutdown().await;
    });
}

#[test]
fn call_may_move_from_one_runtime_to_another() {
    let _watchdog = Watchdog::start();
    let (first, second) = (current_thread(), current_thread());
    let manager = first.block_on(Manager::start()).unwrap();
    let lock = first.block_on(manager.lock()).unwrap();
    let guard = first.block_on(lock.acquire()).unwrap();
    let mut waiting = Box::pin(lock.acquire());
    first
        .block_on(async {
            let brief = Duration::from_millis(5);
            tokio::time::timeout(brief, &mut waiting).await.map(drop)
        })
        .unwrap_err();
    drop(first);
    drop(guard);
    let guard = second.block_on(waiting).unwrap();
    assert!(guard.is_valid());
}

#[test]
fn blocked_runtime_delays_no_other() {
    let _watchdog = Watchdog::start();
    let (still, other) = (current_thread(), Runtime::new().unwrap());
    let manager = still.block_on(Manager::start()).unwrap();
    let lock = still.block_on(manager.lock()).unwrap();
    let guard = still.block_on(lock.acquire()).unwrap();
    let asleep = still.spawn(lock.acquire());
    still.block_on(until("the call waits", || async {
        lock.status().await.unwrap().waiting == 1
    }));
    // The lock is granted to a task whose runtime is blocked.
    drop(guard);
    let waiting = other.spawn(lock.acquire());
    other.block_on(until("the other task waits after it", || async {
        let status = lock.status().await.unwrap();
        status.is_held && status.waiting == 1
    }));
    drop(still.block_on(asleep).unwrap().unwrap());
    drop(other.block_on(waiting).unwrap().unwrap());
}

#[test]
fn blocking_methods_panic_inside_an_async_context() {
    let _watchdog = Watchdog::start();
    let runtime = current_thread();
    let manager = runtime.block_on(Manager::start()).unwrap();
    let lock = runtime.block_on(manager.lock()).unwrap();
    let permits = runtime.block_on(manager.semaphore(1)).unwrap();
    runtime.block_on(async {
        let inside = || lock.acquire().blocking().map(drop);
        panic::catch_unwind(panic::AssertUnwindSafe(inside)).unwrap_err();
        let inside = || permits.acquire().blocking().map(drop);
        panic::catch_unwind(panic::AssertUnwindSafe(inside)).unwrap_err();
        // The runtime still works.
        drop(lock.acquire().await.unwrap());
    });
}

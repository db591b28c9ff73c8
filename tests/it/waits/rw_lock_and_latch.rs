//! Waits at readers-writer locks and latches whose manager is killed or stopped, or that are
//! removed.

use std::{thread, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use lockkeeper::{CallError, Latch, Manager, RwLock};
use lockkeeper_test_support::{kill, signal, stop};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::{
    latch::until_waiting,
    manager::process::pid_of,
    run,
    rw_lock::status::{FREE, state, until_state},
    waits::is_disconnected,
};

/// Runs a test in its own process, where the manager is the only child.
type Outcome = Result<(), CallError>;
type Wait = BoxFuture<'static, Outcome>;

/// Starts a wait of each mode, none of which is granted while the caller holds its read guard.
async fn all_waiting(lock: &RwLock) -> Vec<JoinHandle<Outcome>> {
    let upgradable = lock.upgradable_read().await.unwrap();
    let [read, upgradable_read, write, timed] = [(); 4].map(|()| lock.clone());
    let waits: [Wait; 5] = [
        async move { upgradable.upgrade().await.map(drop) }.boxed(),
        async move { read.read().await.map(drop) }.boxed(),
        async move { upgradable_read.upgradable_read().await.map(drop) }.boxed(),
        async move { write.write().await.map(drop) }.boxed(),
        async move { timed.write().timeout(Duration::MAX).await.map(drop) }.boxed(),
    ];
    let mut tasks = Vec::new();
    for (place, wait) in (1..).zip(waits) {
        tasks.push(tokio::spawn(wait));
        until_state(lock, (1, true, false, place)).await;
    }
    tasks
}

/// Asserts that all waits have the expected outcome.
async fn all_are_told(tasks: Vec<JoinHandle<Outcome>>, is_right: impl Fn(&Outcome) -> bool) {
    for task in tasks {
        let shown = task.await.unwrap();
        assert!(is_right(&shown), "{shown:?}");
    }
}

#[test]
fn waits_fail_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let reader = lock.read().await.unwrap();
        let tasks = all_waiting(&lock).await;
        let blocked = {
            let lock = lock.clone();
            thread::spawn(move || lock.read().blocking().map(drop))
        };
        until_state(&lock, (1, true, false, 6)).await;
        let lost = reader.lost();
        kill(pid_of(&manager).await);
        lost.await;
        all_are_told(tasks, is_disconnected).await;
        assert!(is_disconnected(&blocked.join().unwrap()));
        assert!(!reader.is_valid());
        assert!(is_disconnected(&lock.read().await.map(drop)));
    });
}

#[test]
fn waits_fail_when_the_lock_is_removed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let reader = lock.read().await.unwrap();
        let tasks = all_waiting(&lock).await;
        manager.remove(&lock.token().name).await.unwrap();
        all_are_told(tasks, |shown| *shown == Err(CallError::gone())).await;
        reader.lost().await;
        assert!(!reader.is_valid());
    });
}

#[test]
fn upgrade_at_a_stopped_manager_returns_the_unchanged_guard() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let guard = lock.upgradable_read().await.unwrap();
        let manager_process = pid_of(&manager).await;
        stop(manager_process).await;
        // When the manager runs again, it grants the call and then processes the withdrawal.
        let outcome = guard.try_upgrade().timeout(Duration::from_millis(1)).await;
        signal(manager_process, Signal::CONT);
        let guard = outcome.unwrap().unwrap_err();
        assert_eq!(state(&lock).await, (0, true, false, 0));
        guard.release().await.unwrap();
        assert_eq!(state(&lock).await, FREE);
    });
}

/// Starts a wait of each form at a closed latch.
fn all_at(latch: &Latch) -> Vec<JoinHandle<Outcome>> {
    let [plain, timed, arrives] = [(); 3].map(|()| latch.clone());
    let waits: [Wait; 3] = [
        async move { plain.wait().await }.boxed(),
        async move { timed.wait().timeout(Duration::MAX).await }.boxed(),
        async move { arrives.arrive_and_wait(1).await }.boxed(),
    ];
    waits.into_iter().map(tokio::spawn).collect()
}

#[test]
fn waits_at_a_latch_fail_when_its_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let latch = manager.latch(2).await.unwrap();
        let tasks = all_at(&latch);
        let blocked = {
            let latch = latch.clone();
            thread::spawn(move || latch.wait().blocking())
        };
        until_waiting(&latch, 4).await;
        kill(pid_of(&manager).await);
        all_are_told(tasks, is_disconnected).await;
        assert!(is_disconnected(&blocked.join().unwrap()));
        assert!(is_disconnected(&latch.count_down(1).await.map(drop)));
    });
}

#[test]
fn waits_at_a_latch_fail_when_it_is_removed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let latch = manager.latch(2).await.unwrap();
        let tasks = all_at(&latch);
        until_waiting(&latch, 3).await;
        manager.remove(&latch.token().name).await.unwrap();
        all_are_told(tasks, |shown| *shown == Err(CallError::gone())).await;
        assert_eq!(latch.count_down(1).await, Err(CallError::gone()));
    });
}

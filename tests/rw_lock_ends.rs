//! Readers-writer locks and latches whose manager is killed or stands still, or that are removed.

#[path = "support/family.rs"]
mod family;
#[path = "support/readers.rs"]
mod readers;
#[path = "support/signals.rs"]
mod signals;
#[path = "support/stopped.rs"]
mod stopped;
mod support;
#[path = "support/until.rs"]
mod until;

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use family::child;
use futures::{FutureExt, future::BoxFuture};
use lockkeeper::{CallError, Latch, Manager, RwLock};
use readers::{FREE, state, until_state};
use rustix::process::Signal;
use signals::{kill, signal};
use stopped::stop;
use tokio::task::JoinHandle;
use until::until;

fn program() {
    lockkeeper::program().in_test("children");
}

/// Runs one test at a time, whose manager is the only child of this process.
fn run<F: Future>(test: F) -> F::Output {
    static ALONE: Mutex<()> = Mutex::new(());
    program();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    support::run(test)
}

#[test]
fn children() {
    program();
}

type Told = Result<(), CallError>;
type Wait = BoxFuture<'static, Told>;

/// A wait of each sort, none of which is granted while one reads, as somebody does.
async fn all_waiting(lock: &RwLock) -> Vec<JoinHandle<Told>> {
    let upgradable = lock.upgradable_read().await.unwrap();
    let [read, upgradable_read, write, timed] = [(); 4].map(|()| lock.clone());
    let waits: [Wait; 5] = [
        async move { upgradable.upgrade().await.map(drop) }.boxed(),
        async move { read.read_owned().await.map(drop) }.boxed(),
        async move { upgradable_read.upgradable_read_owned().await.map(drop) }.boxed(),
        async move { write.write_owned().await.map(drop) }.boxed(),
        async move { timed.write_timeout(Duration::MAX).await.map(drop) }.boxed(),
    ];
    let mut tasks = Vec::new();
    for (place, wait) in (1..).zip(waits) {
        tasks.push(tokio::spawn(wait));
        until_state(lock, (1, true, false, place)).await;
    }
    tasks
}

fn is_disconnected(told: &Told) -> bool {
    matches!(told, Err(CallError::Disconnected { .. }))
}

/// Asserts that all are told something of that sort.
async fn all_are_told(tasks: Vec<JoinHandle<Told>>, is_right: impl Fn(&Told) -> bool) {
    for task in tasks {
        let told = task.await.unwrap();
        assert!(is_right(&told), "{told:?}");
    }
}

#[test]
fn all_who_wait_are_told_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let reader = lock.read().await.unwrap();
        let tasks = all_waiting(&lock).await;
        let blocked = {
            let lock = lock.clone();
            thread::spawn(move || lock.blocking_read().map(drop))
        };
        until_state(&lock, (1, true, false, 6)).await;
        let lost = reader.lost();
        kill(child());
        lost.await;
        all_are_told(tasks, is_disconnected).await;
        assert!(is_disconnected(&blocked.join().unwrap()));
        assert!(!reader.is_valid());
        assert!(is_disconnected(&lock.read().await.map(drop)));
    });
}

#[test]
fn all_who_wait_are_told_when_the_lock_is_removed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let reader = lock.read().await.unwrap();
        let tasks = all_waiting(&lock).await;
        manager.remove(lock.token().name()).await.unwrap();
        all_are_told(tasks, |told| *told == Err(CallError::Gone)).await;
        reader.lost().await;
        assert!(!reader.is_valid());
    });
}

#[test]
fn upgrade_whose_manager_stands_still_gives_a_guard_back_that_is_what_it_was() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let guard = lock.upgradable_read().await.unwrap();
        let manager_process = child();
        stop(manager_process).await;
        // The manager will grant it when it runs again, and find it withdrawn.
        let outcome = guard.upgrade_timeout(Duration::from_millis(1)).await;
        signal(manager_process, Signal::CONT);
        let guard = outcome.unwrap().unwrap_err();
        assert_eq!(state(&lock).await, (0, true, false, 0));
        guard.release().await.unwrap();
        assert_eq!(state(&lock).await, FREE);
    });
}

/// A wait of each sort at a latch that is not open.
fn all_at(latch: &Latch) -> Vec<JoinHandle<Told>> {
    let [plain, timed, arrives] = [(); 3].map(|()| latch.clone());
    let waits: [Wait; 3] = [
        async move { plain.wait().await }.boxed(),
        async move { timed.wait_timeout(Duration::MAX).await }.boxed(),
        async move { arrives.arrive_and_wait(1).await }.boxed(),
    ];
    waits.into_iter().map(tokio::spawn).collect()
}

async fn until_waiting(latch: &Latch, waiting: u64) {
    until("they wait", || async {
        latch.status().await.unwrap().waiting == waiting
    })
    .await;
}

#[test]
fn all_who_wait_at_a_latch_are_told_when_its_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let latch = manager.latch(2).await.unwrap();
        let tasks = all_at(&latch);
        let blocked = {
            let latch = latch.clone();
            thread::spawn(move || latch.blocking_wait())
        };
        until_waiting(&latch, 4).await;
        kill(child());
        all_are_told(tasks, is_disconnected).await;
        assert!(is_disconnected(&blocked.join().unwrap()));
        assert!(is_disconnected(&latch.count_down(1).await.map(drop)));
    });
}

#[test]
fn all_who_wait_at_a_latch_are_told_when_it_is_removed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let latch = manager.latch(2).await.unwrap();
        let tasks = all_at(&latch);
        until_waiting(&latch, 3).await;
        manager.remove(latch.token().name()).await.unwrap();
        all_are_told(tasks, |told| *told == Err(CallError::Gone)).await;
        assert_eq!(latch.count_down(1).await, Err(CallError::Gone));
    });
}

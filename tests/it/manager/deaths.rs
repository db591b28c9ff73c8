//! A manager that is killed or stopped: no client hangs, and no guard stays valid.

use std::time::{Duration, Instant};

use lockkeeper::{CallError, Lock, Manager, Semaphore, StartError};
use lockkeeper_test_support::{Role, Roles, Watchdog, is_running, kill, report, signal, until};
use rustix::process::Signal;

use crate::{
    lock::waiting::until_waiting, manager::process::pid_of, program, run, waits::is_disconnected,
};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::deaths::owner", own_a_manager);
    roles.add("manager::deaths::waiter", wait_in_vain);
}

/// Owns a spawned manager, and reports its address.
async fn own_a_manager((): ()) {
    let manager = Manager::spawn().await.unwrap();
    report(&manager.address().to_string());
    std::future::pending::<()>().await;
}

/// Waits for a lock, and reports the error.
async fn wait_in_vain(lock: Lock) {
    report(&lock.acquire().await.unwrap_err().to_string());
}

#[test]
fn killed_manager_fails_every_call_and_every_hold_is_lost() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let permits: Semaphore = manager.semaphore(1).await.unwrap();
        let mut guard = lock.acquire().await.unwrap();
        let permit = permits.acquire().await.unwrap();
        let lost = tokio::spawn(guard.lost());
        let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(lock.acquire())).collect();
        let timed = lock.clone();
        let timed =
            tokio::spawn(async move { timed.acquire().timeout(Duration::from_secs(3600)).await });
        let mut elsewhere = Role::start("manager::deaths::waiter", &lock);
        until_waiting(&lock, 5).await;
        assert!(guard.is_valid() && permit.is_valid() && !lost.is_finished());

        kill(pid_of(&manager).await);
        lost.await.unwrap();
        permit.lost().await;
        assert!(!guard.is_valid() && !permit.is_valid());
        for waiting in waiting {
            assert!(is_disconnected(&waiting.await.unwrap()));
        }
        assert!(is_disconnected(&timed.await.unwrap()));
        assert!(elsewhere.next_report().starts_with("disconnected"));
        assert!(is_disconnected(&lock.acquire().await));
        assert!(is_disconnected(&lock.try_acquire().await));
        assert!(is_disconnected(&lock.status().await));
        assert!(is_disconnected(&permits.add_permits(1).await));
        assert!(is_disconnected(&manager.lock().await));
        assert!(is_disconnected(&manager.remove("none").await));
        guard.mark_consistent();
        assert!(is_disconnected(&guard.release().await));
        drop(permit);
        let late = manager.named("late").lock().await;
        assert!(is_disconnected(&late));
        manager.shutdown().await;
    });
}

#[test]
fn blocked_threads_get_the_error_too() {
    program();
    let _watchdog = Watchdog::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let manager = runtime.block_on(Manager::spawn()).unwrap();
    let lock = runtime.block_on(manager.lock()).unwrap();
    let guard = lock.acquire().blocking().unwrap();
    let blocked = std::thread::spawn({
        let lock = lock.clone();
        move || lock.acquire().blocking().map(drop)
    });
    runtime.block_on(until_waiting(&lock, 1));
    kill(runtime.block_on(pid_of(&manager)));
    assert!(is_disconnected(&blocked.join().unwrap()));
    drop(guard);
}

#[test]
fn deserialized_proxy_finds_the_next_manager() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("locks.sock");
        let address = address.to_str().unwrap();
        let first = Manager::builder().address(address).spawn().await.unwrap();
        let lock = first.named("again").lock().await.unwrap();
        let anonymous = first.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let [token, nameless] =
            [&lock, &anonymous].map(|lock| serde_json::to_string(lock).unwrap());
        kill(pid_of(&first).await);
        guard.lost().await;
        // The drop waits for the end of the process, which closes its sockets.
        drop(first);

        let fresh: Lock = serde_json::from_str(&token).unwrap();
        let outcome = fresh.acquire().await.map(drop);
        assert!(
            matches!(outcome, Err(CallError::NoManager { .. })),
            "{outcome:?}"
        );
        let second = Manager::builder().address(address).start().await.unwrap();
        assert!(is_disconnected(&lock.acquire().await));
        // A token finds only an object that was opened with its kind and spec.
        let outcome = fresh.acquire().await.map(drop);
        assert!(
            matches!(outcome, Err(CallError::NoObject { .. })),
            "{outcome:?}"
        );
        second.named("again").lock().await.unwrap();
        drop(fresh.acquire().await.unwrap());
        let orphan: Lock = serde_json::from_str(&nameless).unwrap();
        let outcome = orphan.acquire().await.map(drop);
        assert!(
            matches!(outcome, Err(CallError::NoObject { .. })),
            "{outcome:?}"
        );
    });
}

#[test]
fn spawned_manager_ends_with_the_process_that_spawned_it() {
    run(async {
        let mut owner = Role::start("manager::deaths::owner", &());
        let manager = Manager::connect(owner.next_report().as_str())
            .await
            .unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let pid = pid_of(&manager).await;
        assert_ne!(pid, owner.pid());
        owner.kill();
        guard.lost().await;
        until("the manager has ended", || async { !is_running(pid) }).await;
        assert!(!manager.address().path().unwrap().exists());
    });
}

#[test]
fn caller_times_out_although_the_manager_is_stopped() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let pid = pid_of(&manager).await;
        signal(pid, Signal::STOP);
        // This test measures time.
        let begin = Instant::now();
        let patience = Duration::from_millis(50);
        for _ in 0..3 {
            let outcome = tokio::time::timeout(patience, lock.acquire()).await;
            outcome.map(drop).unwrap_err();
        }
        drop(guard);
        assert!(begin.elapsed() < Duration::from_secs(2));
        signal(pid, Signal::CONT);
        // Calls that were dropped meanwhile are withdrawn, and released locks are free.
        lock.acquire().await.unwrap().release().await.unwrap();
        let status = lock.status().await.unwrap();
        assert_eq!((status.is_held, status.waiting), (false, 0));
    });
}

#[test]
fn client_is_not_blocked_by_a_stopped_manager_that_does_not_read() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pid = pid_of(&manager).await;
        signal(pid, Signal::STOP);
        let calls: Vec<_> = (0..50_000).map(|_| Box::pin(lock.status())).collect();
        let mut calls = futures::future::join_all(calls);
        let nothing = futures::FutureExt::now_or_never(&mut calls);
        assert!(nothing.is_none());
        signal(pid, Signal::CONT);
        for outcome in calls.await {
            assert!(!outcome.unwrap().is_held);
        }
    });
}

#[test]
fn deadline_passes_although_the_manager_is_stopped() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pid = pid_of(&manager).await;
        signal(pid, Signal::STOP);
        // The threads of a process stop one by one.
        until("the manager is stopped", || async {
            std::fs::read_dir(format!("/proc/{pid}/task"))
                .unwrap()
                .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")))
                .all(|stat| stat.unwrap().contains(") T "))
        })
        .await;
        let outcome = lock.acquire().timeout(Duration::from_millis(10)).await;
        assert_eq!(outcome.map(drop), Err(CallError::timed_out()));
        assert_eq!(
            lock.try_acquire().await.map(|guard| guard.is_some()),
            Ok(false)
        );
        signal(pid, Signal::CONT);
        // The call that timed out is withdrawn in the manager.
        assert!(lock.try_acquire().await.unwrap().is_some());
    });
}

#[test]
fn new_connection_finds_the_manager_after_a_killed_one() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("locks.sock");
        let address = address.to_str().unwrap();
        let first = Manager::builder().address(address).spawn().await.unwrap();
        let lock = first.lock().await.unwrap();
        kill(pid_of(&first).await);
        // The threads of a process end one by one, and its claim ends with the last.
        let _second = loop {
            match Manager::builder().address(address).start().await {
                Err(StartError::AddressInUse { .. }) => tokio::task::yield_now().await,
                started => break started.unwrap(),
            }
        };
        // This process has not noticed yet that the connection is lost.
        let fresh = Manager::connect(address).await.unwrap();
        drop(fresh.lock().await.unwrap().acquire().await.unwrap());
        assert!(is_disconnected(&lock.acquire().await));
    });
}

//! The guarantees of keyed locks and keyed semaphores, through their proxies and from other
//! processes.

use std::{thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    CallError, KeyedLock, KeyedLockGuard, KeyedSemaphore, Manager, Ticket, block_on,
    errors::Refusal, lock_all,
};
use lockkeeper_test_support::{Role, Roles, Watchdog, is_running, kill, report, until};

use crate::{manager::process::pid_of, program, run};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("lock::keyed::holder", hold);
    roles.add("lock::keyed::waiter", |locks: KeyedLock| async move {
        let held = locks.acquire("theirs").await.unwrap();
        assert!(held.is_valid());
        report("waits");
        let taken = locks.acquire("ours").await.unwrap();
        drop(taken);
        report("granted");
        std::future::pending::<()>().await;
    });
    roles.add(
        "lock::keyed::adopter",
        |(locks, ticket): (KeyedLock, Ticket)| async move {
            let guard = locks.adopt(ticket.clone()).await.unwrap();
            assert!(guard.is_valid() && guard.fence() > ticket.fence());
            report(guard.key());
            std::future::pending::<()>().await;
        },
    );
    roles.add(
        "lock::keyed::seated",
        |permits: KeyedSemaphore| async move {
            let permit = permits.acquire_many("a", 2).await.unwrap();
            assert!(permit.is_valid());
            report("seated");
            std::future::pending::<()>().await;
        },
    );
}

/// Acquires some keys and keeps them until the holds are lost.
async fn hold((locks, keys): (KeyedLock, Vec<String>)) {
    let mut guards = Vec::new();
    for key in keys {
        guards.push(locks.acquire(key).await.unwrap());
    }
    report("held");
    for guard in guards {
        guard.lost().await;
        assert_eq!(guard.release().await, Err(NOT_HELD));
        report("lost");
    }
}

async fn manager_and_locks() -> (Manager, KeyedLock) {
    let manager = Manager::start().await.unwrap();
    let locks = manager.keyed_lock().await.unwrap();
    (manager, locks)
}

async fn until_waiting(locks: &KeyedLock, key: &str, waiting: u64) {
    until("the calls wait", || async {
        locks.key_status(key).await.unwrap().waiting == waiting
    })
    .await;
}

async fn is_empty(locks: &KeyedLock) -> bool {
    let count = locks.status().await.unwrap();
    (count.keys, count.grants, count.waiting) == (0, 0, 0)
}

/// Starts a process that acquires keys.
fn holder(locks: &KeyedLock, keys: &[&str]) -> Role {
    let mut holder = Role::start("lock::keyed::holder", &(locks, keys));
    assert_eq!(holder.next_report(), "held");
    holder
}

#[test]
fn each_key_is_granted_in_order_of_arrival_and_a_try_never_overtakes() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let guard = locks.acquire("a").await.unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(locks.acquire("a"))).collect();
        for call in &mut waiting {
            assert!(call.now_or_never().is_none());
        }
        // Another key is free.
        drop(locks.acquire("b").await.unwrap());
        assert!(locks.try_acquire("a").await.unwrap().is_none());
        drop(guard);
        assert!(locks.try_acquire("a").await.unwrap().is_none());
        let mut last = None;
        for call in waiting {
            let guard: KeyedLockGuard = call.await.unwrap();
            assert!(Some(guard.fence()) > last && guard.key() == "a");
            last = Some(guard.fence());
            assert!(locks.try_acquire("a").await.unwrap().is_none());
        }
        assert!(locks.try_acquire("a").await.unwrap().is_some());
    });
}

#[test]
fn key_has_an_entry_only_while_a_call_holds_it_or_waits() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let long = "x".repeat(255);
        let mut guards = Vec::new();
        for key in ["b", "", &long, "a"] {
            guards.push(locks.acquire(key).await.unwrap());
        }
        let mut keys = locks.keys().await.unwrap();
        keys.sort();
        assert!(keys.iter().map(AsRef::as_ref).eq(["", "a", "b", &long]));
        let waiting = tokio::spawn(locks.acquire("a"));
        until_waiting(&locks, "a", 1).await;
        let count = locks.status().await.unwrap();
        assert_eq!((count.keys, count.grants, count.waiting), (4, 4, 1));
        guards.clear();
        drop(waiting.await.unwrap().unwrap());
        until("all entries are removed", || is_empty(&locks)).await;
        assert_eq!(locks.keys().await.unwrap(), []);
        assert_eq!(locks.status().await.unwrap().abandoned, 0);
    });
}

#[test]
fn key_of_more_than_255_bytes_is_refused_with_the_limit() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let long = "x".repeat(256);
        let shown = locks.acquire(&long).await.map(drop).unwrap_err();
        assert!(
            shown.to_string().contains("at most 255 bytes, not 256"),
            "{shown}"
        );
        assert_eq!(locks.key_status(&long).await.unwrap_err(), shown);
        assert_eq!(locks.force_unlock(&long).await.unwrap_err(), shown);
        assert!(is_empty(&locks).await);
    });
}

#[test]
fn manager_enforces_the_timeout_and_nothing_is_left() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let guard = locks.acquire("a").await.unwrap();
        for patience in [Duration::ZERO, Duration::from_millis(20)] {
            let outcome = locks.acquire("a").timeout(patience).await.map(drop);
            assert_eq!(outcome, Err(CallError::timed_out()));
        }
        assert_eq!(locks.key_status("a").await.unwrap().waiting, 0);
        drop(guard);
        drop(locks.acquire("a").timeout(Duration::MAX).await.unwrap());
        until("the key is free", || is_empty(&locks)).await;
    });
}

#[test]
fn dropped_wait_holds_nothing_and_delays_no_other() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let guard = locks.acquire("a").await.unwrap();
        let aborted = tokio::spawn(locks.acquire("a"));
        until_waiting(&locks, "a", 1).await;
        let next = tokio::spawn(locks.acquire("a"));
        until_waiting(&locks, "a", 2).await;
        aborted.abort();
        aborted.await.map(drop).unwrap_err();
        until_waiting(&locks, "a", 1).await;
        drop(guard);
        drop(next.await.unwrap().unwrap());
        // The wait is dropped when the grant may be on its way.
        for _ in 0..100 {
            let mut call = Box::pin(locks.acquire("a"));
            let _ = (&mut call).now_or_never();
            drop(call);
        }
        drop(locks.acquire("a").await.unwrap());
        until("the key is free", || is_empty(&locks)).await;
    });
}

#[test]
fn plain_threads_have_all_forms() {
    program();
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let locks = block_on(manager.keyed_lock()).unwrap();
    let guard = locks.acquire("a").blocking().unwrap();
    assert!(locks.try_acquire("a").blocking().unwrap().is_none());
    let late = locks
        .acquire("a")
        .timeout(Duration::from_millis(1))
        .blocking();
    assert_eq!(late.map(drop), Err(CallError::timed_out()));
    let waiter = thread::spawn({
        let locks = locks.clone();
        move || locks.acquire("a").blocking().map(|guard| guard.fence())
    });
    block_on(until_waiting(&locks, "a", 1));
    let fence = guard.fence();
    block_on(guard.release()).unwrap();
    assert!(waiter.join().unwrap().unwrap() > fence);
}

#[test]
fn keys_of_a_killed_holder_are_granted_at_once_and_marked_until_consistent() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let mut holder = holder(&locks, &["a", "b"]);
        let successor = tokio::spawn(locks.acquire("a"));
        until_waiting(&locks, "a", 1).await;
        holder.kill();
        let successor = successor.await.unwrap().unwrap();
        let dead = |guard: &KeyedLockGuard| guard.abandoned().map(|left| left.holder.pid);
        assert_eq!(dead(&successor), Some(holder.pid()));
        // "b" had no waiter, so the mark is for its next holder.
        assert!(locks.keys().await.unwrap().iter().eq([&"a".into()]));
        assert_eq!(locks.status().await.unwrap().abandoned, 1);
        assert!(locks.key_status("b").await.unwrap().is_abandoned);
        for _ in 0..2 {
            let marked = locks.acquire("b").await.unwrap();
            assert_eq!(dead(&marked), Some(holder.pid()));
        }
        let marked = locks.acquire("b").await.unwrap().strict().unwrap_err();
        let mut marked = marked.guard;
        marked.mark_consistent();
        marked.release().await.unwrap();
        let unmarked = locks.acquire("b").await.unwrap().strict().unwrap();
        unmarked.release().await.unwrap();
        assert!(!locks.key_status("b").await.unwrap().is_abandoned);
        assert!(
            locks.key_status("a").await.unwrap().is_abandoned,
            "the key's own mark"
        );
        // A key that the dead process did not hold has no mark.
        assert_eq!(dead(&locks.acquire("c").await.unwrap()), None);
    });
}

#[test]
fn killed_waiter_is_never_granted_a_key() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let guard = locks.acquire("ours").await.unwrap();
        let mut waiter = Role::start("lock::keyed::waiter", &locks);
        assert_eq!(waiter.next_report(), "waits");
        until_waiting(&locks, "ours", 1).await;
        waiter.kill();
        until_waiting(&locks, "ours", 0).await;
        drop(guard);
        let next = locks.acquire("ours").await.unwrap();
        assert_eq!(next.abandoned(), None);
        assert!(locks.key_status("theirs").await.unwrap().is_abandoned);
    });
}

#[test]
fn another_process_may_adopt_a_key() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let ticket = locks.acquire("stock").await.unwrap().into_ticket();
        let mut adopter = Role::start("lock::keyed::adopter", &(&locks, ticket.clone()));
        assert_eq!(adopter.next_report(), "stock");
        assert_eq!(locks.release_ticket(ticket.clone()).await, Err(NOT_HELD));
        assert_eq!(locks.adopt(ticket).await.map(drop), Err(NOT_HELD));
        assert!(locks.try_acquire("stock").await.unwrap().is_none());
        adopter.kill();
        let guard = locks.acquire("stock").await.unwrap();
        assert_eq!(guard.abandoned().unwrap().holder.pid, adopter.pid());
        let ticket = guard.into_ticket();
        locks.release_ticket(ticket).await.unwrap();
        assert!(is_empty(&locks).await);
    });
}

#[test]
fn late_or_second_release_does_not_release_the_next_hold() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        let ticket = locks.acquire("a").await.unwrap().into_ticket();
        locks.release_ticket(ticket.clone()).await.unwrap();
        let _next = locks.acquire("a").await.unwrap();
        assert_eq!(locks.release_ticket(ticket).await, Err(NOT_HELD));
        assert!(locks.try_acquire("a").await.unwrap().is_none());
    });
}

#[test]
fn process_learns_that_a_key_was_ended_by_force_and_keeps_its_other_keys() {
    run(async {
        let (_manager, locks) = manager_and_locks().await;
        assert!(!locks.force_unlock("a").await.unwrap());
        let mut holder = holder(&locks, &["a", "b"]);
        let mut next = Box::pin(locks.acquire("a"));
        assert!((&mut next).now_or_never().is_none());
        assert!(locks.force_unlock("a").await.unwrap());
        assert_eq!(holder.next_report(), "lost");
        let next = next.await.unwrap();
        assert!(next.is_valid() && next.abandoned().is_none());
        assert!(locks.try_acquire("b").await.unwrap().is_none());
    });
}

#[test]
fn names_and_copies_are_one_object_and_another_spec_is_not() {
    run(async {
        let (manager, locks) = manager_and_locks().await;
        let token = serde_json::to_string(&locks).unwrap();
        let copy: KeyedLock = serde_json::from_str(&token).unwrap();
        let _guard = copy.acquire("a").await.unwrap();
        assert!(locks.clone().try_acquire("a").await.unwrap().is_none());
        assert_eq!(copy.token(), locks.token());
        let [one, other] = [manager.named("records"), manager.named("records")];
        let one = one.keyed_lock().await.unwrap();
        let _held = one.acquire("a").await.unwrap();
        let other = other.keyed_lock().await.unwrap();
        assert!(other.try_acquire("a").await.unwrap().is_none());
        let wrong = manager.named("records").keyed_semaphore(1).await;
        assert!(matches!(wrong, Err(CallError::Fault(_))), "{wrong:?}");
        let none = manager.keyed_semaphore(0).await.unwrap_err();
        assert!(none.to_string().contains("1 to 4294967295"), "{none}");
    });
}

#[test]
fn permits_of_a_key_are_granted_up_to_the_number_and_released_at_a_death() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager.keyed_semaphore(3).await.unwrap();
        let mut seated = Role::start("lock::keyed::seated", &permits);
        assert_eq!(seated.next_report(), "seated");
        let one = permits.acquire("a").await.unwrap();
        assert_eq!((one.key(), one.permits()), ("a", 1));
        assert!(permits.try_acquire("a").await.unwrap().is_none());
        let others = permits.try_acquire_many("b", 3).await.unwrap();
        assert_eq!(others.unwrap().permits(), 3);
        let all = tokio::spawn(permits.acquire_many("a", 3));
        until("the call waits", || async {
            permits.key_status("a").await.unwrap().waiting == 1
        })
        .await;
        seated.kill();
        let status = || async { permits.key_status("a").await.unwrap() };
        until("the permits are released", || async {
            status().await.available == 2
        })
        .await;
        // The first waiter requests more permits, and no later caller overtakes it.
        let behind = permits
            .acquire_many("a", 1)
            .timeout(Duration::from_millis(5));
        assert_eq!(behind.await.map(drop), Err(CallError::timed_out()));
        drop(one);
        let all = all.await.unwrap().unwrap();
        assert_eq!(all.abandoned().unwrap().holder.pid, seated.pid());
        drop(all);
        until("all permits are free", || async {
            status().await.held == 0
        })
        .await;
    });
}

#[test]
fn zero_permits_and_more_than_a_key_has_are_refused_at_once() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager.keyed_semaphore(3).await.unwrap();
        let more = permits.acquire_many("a", 4).await.map(drop);
        let refusal = Refusal::TooMany { asked: 4, most: 3 };
        assert_eq!(more, Err(refusal.into()));
        let none = permits.acquire_many("a", 0).await.map(drop).unwrap_err();
        assert!(none.to_string().contains("1 to 3 permits"), "{none}");
        assert_eq!(permits.status().await.unwrap().keys, 0);
    });
}

#[test]
fn waits_fail_and_guards_are_lost_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let locks = manager.keyed_lock().await.unwrap();
        let guard = locks.acquire("a").await.unwrap();
        let waiting = tokio::spawn(locks.acquire("a"));
        let several = tokio::spawn({
            let locks = locks.clone();
            async move {
                lock_all(["a", "b"].map(|key| (&locks, key)))
                    .await
                    .map(drop)
            }
        });
        until_waiting(&locks, "a", 2).await;
        let process = pid_of(&manager).await;
        assert!(is_running(process));
        kill(process);
        let outcomes = [waiting.await.unwrap().map(drop), several.await.unwrap()];
        for shown in outcomes
            .into_iter()
            .chain([locks.acquire("c").await.map(drop)])
        {
            assert!(
                matches!(shown, Err(CallError::Disconnected { .. })),
                "{shown:?}"
            );
        }
        guard.lost().await;
        assert!(!guard.is_valid());
    });
}

#[test]
fn guards_of_a_removed_object_are_lost_and_its_waits_fail() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = manager.named("records").keyed_lock().await.unwrap();
        let guard = locks.acquire("a").await.unwrap();
        let mut waiting = Box::pin(locks.acquire("a"));
        assert!((&mut waiting).now_or_never().is_none());
        manager.remove("records").await.unwrap();
        assert_eq!(waiting.await.map(drop), Err(CallError::gone()));
        guard.lost().await;
        assert_eq!(locks.acquire("b").await.map(drop), Err(CallError::gone()));
    });
}

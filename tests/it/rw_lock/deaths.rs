//! Readers-writer locks whose holders and waiters are killed, or drop their calls.

use std::future::pending;

use lockkeeper::{Manager, RwLock};
use lockkeeper_test_support::{Role, Roles, for_turns, report, run_in_turns, sweep};

use crate::{
    program, run,
    rw_lock::status::{FREE, state, until_state},
};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("rw_lock::deaths::writer", |lock: RwLock| async move {
        let _guard = lock.write().await.unwrap();
        report("writes");
        pending::<()>().await;
    });
    roles.add("rw_lock::deaths::upgraded", |lock: RwLock| async move {
        let guard = lock.upgradable_read().await.unwrap();
        let _guard = guard.upgrade().await.unwrap();
        report("writes");
        pending::<()>().await;
    });
    roles.add("rw_lock::deaths::downgraded", |lock: RwLock| async move {
        let guard = lock.write().await.unwrap();
        let _guard = guard.downgrade().await.unwrap();
        report("reads");
        pending::<()>().await;
    });
    roles.add(
        "rw_lock::deaths::reader_of_many",
        |lock: RwLock| async move {
            let _guard = lock.upgradable_read().await.unwrap();
            let _guards = [lock.read().await.unwrap(), lock.read().await.unwrap()];
            report("reads");
            pending::<()>().await;
        },
    );
    roles.add("rw_lock::deaths::upgrading", |lock: RwLock| async move {
        let guard = lock.upgradable_read().await.unwrap();
        report("reads");
        let _guard = guard.upgrade().await.unwrap();
        report("writes");
    });
}

async fn manager_and_lock() -> (Manager, RwLock) {
    let manager = Manager::start().await.unwrap();
    let lock = manager.rw_lock().await.unwrap();
    (manager, lock)
}

/// Makes another process acquire the lock and die with it.
async fn die(role: &str, lock: &RwLock) -> u32 {
    let mut holder = Role::start(role, lock);
    holder.next_report();
    holder.kill();
    until_state(lock, FREE).await;
    holder.pid()
}

#[test]
fn killed_writer_leaves_a_mark_for_all_later_grants_until_marked_consistent() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        for role in ["rw_lock::deaths::writer", "rw_lock::deaths::upgraded"] {
            let dead = die(role, &lock).await;
            let readers = [lock.read().await.unwrap(), lock.read().await.unwrap()];
            for reader in readers {
                let abandoned = reader.abandoned().unwrap();
                assert_eq!(abandoned.holder.pid, dead);
                assert!(abandoned.fence < reader.fence());
                let shown = reader.strict().unwrap_err();
                assert!(
                    shown.to_string().contains("look after what it left"),
                    "{shown}"
                );
                assert!(shown.guard.is_valid());
            }
            let upgradable = lock.upgradable_read().await.unwrap();
            assert!(upgradable.abandoned().is_some());
            let mut writer = upgradable.upgrade().await.unwrap();
            assert_eq!(writer.abandoned().unwrap().holder.pid, dead);
            writer.mark_consistent();
            drop(writer.strict().unwrap());
            assert!(lock.read().await.unwrap().abandoned().is_none());
            assert!(lock.write().await.unwrap().abandoned().is_none());
        }
    });
}

#[test]
fn killed_reader_leaves_no_mark() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        for role in [
            "rw_lock::deaths::reader_of_many",
            "rw_lock::deaths::downgraded",
        ] {
            die(role, &lock).await;
            assert!(lock.write().await.unwrap().abandoned().is_none(), "{role}");
        }
    });
}

#[test]
fn all_holds_of_a_killed_process_are_released_in_one_turn() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let mut holder = Role::start("rw_lock::deaths::reader_of_many", &lock);
        assert_eq!(holder.next_report(), "reads");
        assert_eq!(state(&lock).await, (2, true, false, 0));
        let writer = tokio::spawn(lock.write());
        until_state(&lock, (2, true, false, 1)).await;
        holder.kill();
        let writer = writer.await.unwrap().unwrap();
        assert!(writer.is_valid() && writer.abandoned().is_none());
    });
}

#[test]
fn killed_waiter_is_never_granted_and_delays_no_other() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let mut writer = Role::start("rw_lock::deaths::writer", &lock);
        until_state(&lock, (1, false, false, 1)).await;
        let behind = tokio::spawn(lock.read());
        until_state(&lock, (1, false, false, 2)).await;
        writer.kill();
        let behind = behind.await.unwrap().unwrap();
        assert_eq!(state(&lock).await, (2, false, false, 0));
        drop((reader, behind));
        assert!(lock.write().await.unwrap().abandoned().is_none());
    });
}

/// Starts a process that waits for an upgrade while this process reads.
async fn upgrading(lock: &RwLock) -> Role {
    let mut upgrading = Role::start("rw_lock::deaths::upgrading", lock);
    assert_eq!(upgrading.next_report(), "reads");
    until_state(lock, (1, true, false, 1)).await;
    upgrading
}

#[test]
fn others_get_the_lock_of_a_process_that_is_killed_during_an_upgrade() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let mut upgrading = upgrading(&lock).await;
        let behind = tokio::spawn(lock.upgradable_read());
        until_state(&lock, (1, true, false, 2)).await;
        upgrading.kill();
        let behind = behind.await.unwrap().unwrap();
        assert_eq!(state(&lock).await, (1, true, false, 0));
        drop(reader);
        let writer = behind.upgrade().await.unwrap();
        assert!(writer.abandoned().is_none());
    });
}

#[test]
fn upgrade_is_granted_to_another_process_once_the_last_reader_has_left() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let mut upgrading = upgrading(&lock).await;
        drop(reader);
        assert_eq!(upgrading.next_report(), "writes");
    });
}

#[test]
fn calls_that_are_dropped_at_any_point_hold_nothing() {
    program();
    run_in_turns(async {
        let (_manager, lock) = manager_and_lock().await;
        sweep(async |turns| {
            let read = for_turns(turns, lock.read()).await.is_some();
            let upgradable = for_turns(turns, lock.upgradable_read()).await.is_some();
            let write = for_turns(turns, lock.write()).await.is_some();
            assert_eq!(state(&lock).await, FREE, "after {turns} turns");
            read && upgradable && write
        })
        .await;
        // If another caller reads meanwhile, the upgrade waits.
        for is_beside in [false, true] {
            sweep(async |turns| {
                let guard = lock.upgradable_read().await.unwrap();
                let reader = if is_beside {
                    Some(lock.read().await.unwrap())
                } else {
                    None
                };
                let leaves = async {
                    tokio::task::yield_now().await;
                    drop(reader);
                    pending::<()>().await;
                };
                let upgrade = async {
                    tokio::select! {
                        upgraded = guard.upgrade() => upgraded.map(drop),
                        () = leaves => unreachable!("the future never completes"),
                    }
                };
                let upgraded = for_turns(turns, upgrade).await;
                assert_eq!(state(&lock).await, FREE, "after {turns} turns");
                upgraded.is_some()
            })
            .await;
        }
    });
}

#[test]
fn downgrades_that_are_dropped_at_any_point_hold_nothing() {
    program();
    run_in_turns(async {
        let (_manager, lock) = manager_and_lock().await;
        sweep(async |turns| {
            let writer = lock.write().await.unwrap();
            let first = for_turns(turns, writer.downgrade()).await.is_some();
            assert_eq!(state(&lock).await, FREE, "after {turns} turns");
            let writer = lock.write().await.unwrap();
            let downgrade = writer.downgrade_to_upgradable();
            let second = for_turns(turns, downgrade).await.is_some();
            assert_eq!(state(&lock).await, FREE, "after {turns} turns");
            let upgradable = lock.upgradable_read().await.unwrap();
            let third = for_turns(turns, upgradable.downgrade()).await.is_some();
            assert_eq!(state(&lock).await, FREE, "after {turns} turns");
            first && second && third
        })
        .await;
    });
}

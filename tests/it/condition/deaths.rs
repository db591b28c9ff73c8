//! Conditions whose sleepers, notifiers and holders are killed, stopped, or drop their waits.

use std::{future::pending, pin::pin, process, time::Duration};

use futures::FutureExt;
use lockkeeper::{Condition, ConditionGuard, Manager, Semaphore};
use lockkeeper_test_support::{
    Role, Roles, for_turns, kill, report, run_in_turns, signal, stop, sweep, until,
};
use rustix::process::Signal;

use crate::{
    condition::sleepers::{Sleeper, asleep, state},
    program, run,
};

const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "condition::deaths::sleeper",
        |condition: Condition| async move {
            let guard = condition.acquire().await.unwrap();
            let _guard = condition.wait(guard).await.unwrap();
            report("woken");
            pending::<()>().await;
        },
    );
    roles.add(
        "condition::deaths::late_sleeper",
        |condition: Condition| async move {
            let guard = condition.acquire().await.unwrap();
            let woken = condition.wait(guard).timeout(Duration::from_millis(1));
            let _woken = woken.await.unwrap();
            report("late");
            pending::<()>().await;
        },
    );
    roles.add(
        "condition::deaths::notifier",
        |(condition, most): Notice| async move {
            let guard = condition.acquire().await.unwrap();
            let woken = notify(&condition, &guard, most).await;
            report(&format!("notified {woken}"));
            pending::<()>().await;
        },
    );
    roles.add(
        "condition::deaths::woken_notifier",
        |condition: Condition| async move {
            let guard = condition.acquire().await.unwrap();
            let guard = condition.wait(guard).await.unwrap();
            assert_eq!(condition.notify_one(&guard).await, Ok(1));
            report("notified");
            pending::<()>().await;
        },
    );
    roles.add(
        "condition::deaths::holder",
        |condition: Condition| async move {
            let _guard = condition.acquire().await.unwrap();
            report("holds");
            pending::<()>().await;
        },
    );
    roles.add(
        "condition::deaths::crier",
        |(condition, cries): Cries| async move {
            while cries.consume(1).await.is_ok() {
                let guard = condition.acquire().await.unwrap();
                condition.notify(&guard, 2).await.unwrap();
            }
        },
    );
    roles.add(
        "condition::deaths::hasty",
        |(condition, turns): (Condition, u32)| async move {
            let guard = condition.acquire().await.unwrap();
            report("inside");
            let mut wait = pin!(condition.wait(guard));
            match for_turns(turns, wait.as_mut()).await {
                Some(woken) => woken.unwrap().release().await.unwrap(),
                None => {
                    report("dying");
                    kill(process::id());
                }
            }
            report("woken");
        },
    );
}

/// The number of sleepers to notify, or all.
type Notice = (Condition, Option<u64>);

/// Each permit requests a notification.
type Cries = (Condition, Semaphore);

async fn notify(condition: &Condition, guard: &ConditionGuard, most: Option<u64>) -> u64 {
    let woken = match most {
        Some(most) => condition.notify(guard, most).await,
        None => condition.notify_all(guard).await,
    };
    woken.unwrap()
}

async fn manager_and_condition() -> (Manager, Condition) {
    let manager = Manager::start().await.unwrap();
    let condition = manager.condition().await.unwrap();
    (manager, condition)
}

async fn until_state(condition: &Condition, expected: (u64, u64)) {
    until("the expected numbers sleep and wait", || async {
        state(condition).await == expected
    })
    .await;
}

async fn until_free(condition: &Condition) {
    until("the lock is free", || async {
        !condition.status().await.unwrap().is_held
    })
    .await;
}

/// Starts a process that sleeps, and stops it, so that it never notices its grant.
async fn stopped_sleeper(condition: &Condition) -> Role {
    let (asleep, waiting) = state(condition).await;
    let sleeper = Role::start("condition::deaths::sleeper", condition);
    until_state(condition, (asleep + 1, waiting)).await;
    stop(sleeper.pid()).await;
    sleeper
}

/// Waits until the sleeper holds the lock, and marks the state of a dead holder as consistent.
async fn woken_after(sleeper: Sleeper, dead: Option<u32>) -> ConditionGuard {
    let mut guard = sleeper.await.unwrap().unwrap();
    assert_eq!(guard.abandoned().map(|left| left.holder.pid), dead);
    guard.mark_consistent();
    guard
}

/// Returns all orders of three.
fn orders() -> impl Iterator<Item = [usize; 3]> {
    let last = |last| [[1, 2], [2, 1]].map(|[a, b]| [(last + a) % 3, (last + b) % 3, last]);
    (0..3).flat_map(last)
}

#[test]
fn sleepers_and_their_notifier_die_in_any_order_and_the_last_sleeper_is_woken() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        for most in [Some(1), Some(2), None] {
            for order in orders() {
                let first = stopped_sleeper(&condition).await;
                let second = stopped_sleeper(&condition).await;
                let patient = asleep(&condition).await;
                let mut notifier = Role::start("condition::deaths::notifier", &(&condition, most));
                let woken = most.unwrap_or(3);
                assert_eq!(notifier.next_report(), format!("notified {woken}"));
                let mut mortals = [first, second, notifier];
                for dying in order {
                    let before = state(&condition).await;
                    mortals[dying].kill();
                    until("the manager has noticed the death", || async {
                        state(&condition).await != before
                    })
                    .await;
                }
                // Each process holds the lock when it dies, if all earlier ones are dead.
                let last = mortals[order[2]].pid();
                let guard = woken_after(patient, Some(last)).await;
                assert_eq!(state(&condition).await, (0, 0), "{most:?}, {order:?}");
                guard.release().await.unwrap();
            }
        }
    });
}

#[test]
fn simultaneous_deaths_of_sleepers_and_notifier_leave_no_sleeper_behind() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        for _ in 0..20 {
            let first = stopped_sleeper(&condition).await;
            let patient = asleep(&condition).await;
            let mut notifier = Role::start("condition::deaths::notifier", &(&condition, Some(1)));
            assert_eq!(notifier.next_report(), "notified 1");
            kill(notifier.pid());
            kill(first.pid());
            drop(patient.await.unwrap().unwrap());
            until_free(&condition).await;
            assert_eq!(state(&condition).await, (0, 0));
        }
    });
}

#[test]
fn grant_of_a_stopped_sleeper_stays_until_it_dies() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        for dies in [false, true] {
            let mut stopped = stopped_sleeper(&condition).await;
            let other = asleep(&condition).await;
            let guard = condition.acquire().await.unwrap();
            assert_eq!(condition.notify_one(&guard).await, Ok(1));
            guard.release().await.unwrap();
            assert!(condition.try_acquire().await.unwrap().is_none());
            assert_eq!(state(&condition).await, (1, 0), "one call holds the lock");
            if !dies {
                signal(stopped.pid(), Signal::CONT);
                assert_eq!(stopped.next_report(), "woken");
                assert_eq!(state(&condition).await, (1, 0));
            }
            stopped.kill();
            drop(woken_after(other, Some(stopped.pid())).await);
        }
    });
}

#[test]
fn sleeper_that_was_woken_with_all_others_passes_nothing_on() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        for most in [Some(1), None] {
            let mut stopped = stopped_sleeper(&condition).await;
            let guard = condition.acquire().await.unwrap();
            // It arrives before the sleeper is notified, and sleeps before that one is granted the
            // lock.
            let patient = tokio::spawn({
                let condition = condition.clone();
                async move {
                    let guard = condition.acquire().await?;
                    condition.wait(guard).await
                }
            });
            until_state(&condition, (1, 1)).await;
            assert_eq!(notify(&condition, &guard, most).await, 1);
            drop(guard);
            until_state(&condition, (1, 0)).await;
            stopped.kill();
            if most.is_none() {
                until_free(&condition).await;
                assert_eq!(state(&condition).await, (1, 0), "it still sleeps");
                let guard = condition.acquire().await.unwrap();
                assert_eq!(condition.notify_all(&guard).await, Ok(1));
            }
            drop(woken_after(patient, Some(stopped.pid())).await);
        }
    });
}

#[test]
fn sleeper_that_dies_after_its_timeout_passes_nothing_on() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let patient = asleep(&condition).await;
        let mut late = Role::start("condition::deaths::late_sleeper", &condition);
        assert_eq!(late.next_report(), "late");
        late.kill();
        until_free(&condition).await;
        assert_eq!(state(&condition).await, (1, 0), "no notification was sent");
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        drop(guard);
        drop(woken_after(patient, Some(late.pid())).await);
    });
}

#[test]
fn dead_notifier_has_notified_and_its_own_notification_is_passed_on() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let mut notifier = Role::start("condition::deaths::woken_notifier", &condition);
        until_state(&condition, (1, 0)).await;
        let sleepers = [asleep(&condition).await, asleep(&condition).await];
        let _last = asleep(&condition).await;
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        drop(guard);
        assert_eq!(notifier.next_report(), "notified");
        notifier.kill();
        let mut dead = Some(notifier.pid());
        for sleeper in sleepers {
            drop(woken_after(sleeper, dead.take()).await);
        }
        assert_eq!(state(&condition).await, (1, 0));
    });
}

#[test]
fn death_of_a_holder_wakes_no_sleeper() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let mut sleeper = Role::start("condition::deaths::sleeper", &condition);
        until_state(&condition, (1, 0)).await;
        let _patient = asleep(&condition).await;
        let mut holder = Role::start("condition::deaths::holder", &condition);
        assert_eq!(holder.next_report(), "holds");
        stop(holder.pid()).await;
        let mut next = pin!(condition.acquire());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(state(&condition).await, (2, 1), "a call waits for the lock");
        holder.kill();
        let mut guard = next.await.unwrap();
        assert_eq!(guard.abandoned().unwrap().holder.pid, holder.pid());
        guard.mark_consistent();
        assert_eq!(state(&condition).await, (2, 0));
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        drop(guard);
        assert_eq!(sleeper.next_report(), "woken");
        assert_eq!(state(&condition).await, (1, 0));
    });
}

#[test]
fn no_notification_is_lost_while_waits_are_dropped_at_any_turn() {
    program();
    run_in_turns(async {
        let (manager, condition) = manager_and_condition().await;
        let cries = manager.semaphore(0).await.unwrap();
        let _crier = Role::start("condition::deaths::crier", &(&condition, &cries));
        for way in 0..3 {
            sweep(async |turns| {
                let before = asleep(&condition).await;
                let guard = condition.acquire().await.unwrap();
                let hasty = for_turns(turns, wait(way, &condition, guard));
                let others = async {
                    let after = asleep(&condition).await;
                    cries.add_permits(1).await.unwrap();
                    drop(before.await.unwrap().unwrap());
                    [after]
                };
                let (woken, [after]) = tokio::join!(hasty, others);
                let has_completed = woken.is_some();
                if let Some(guard) = woken {
                    let woken = condition.notify_one(&guard).await;
                    assert_eq!(woken, Ok(1), "the dropped wait consumed the second one");
                }
                drop(after.await.unwrap().unwrap());
                assert_eq!(state(&condition).await, (0, 0));
                has_completed
            })
            .await;
        }
    });
}

/// Waits for a notification.
async fn wait(way: u32, condition: &Condition, guard: ConditionGuard) -> ConditionGuard {
    let mut looks = 0..2;
    let woken = match way {
        0 => condition.wait(guard).await,
        1 => {
            condition
                .wait_while(guard, move || looks.next() == Some(0))
                .await
        }
        _ => {
            let guard = condition.wait(guard).timeout(LONG).await.unwrap();
            assert!(!guard.timed_out());
            Ok(guard)
        }
    };
    woken.unwrap()
}

#[test]
fn death_at_any_turn_of_a_wait_loses_no_notification() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        sweep(async |turns| {
            let mut hasty = Role::start("condition::deaths::hasty", &(&condition, turns));
            assert_eq!(hasty.next_report(), "inside");
            let patient = asleep(&condition).await;
            let guard = condition.acquire().await.unwrap();
            assert_eq!(condition.notify_one(&guard).await, Ok(1));
            drop(guard);
            let is_woken = hasty.next_report() == "woken";
            if is_woken {
                let guard = condition.acquire().await.unwrap();
                assert_eq!(condition.notify_one(&guard).await, Ok(1));
            }
            let mut guard = patient.await.unwrap().unwrap();
            guard.mark_consistent();
            guard.release().await.unwrap();
            assert_eq!(state(&condition).await, (0, 0));
            is_woken
        })
        .await;
    });
}

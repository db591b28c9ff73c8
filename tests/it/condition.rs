//! The guarantees of a condition, through its proxy and from other processes.

pub(crate) mod deaths;
pub(crate) mod sleepers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{
    CallError, Condition, Manager, Pool, Task, block_on, builders::Program, errors::Refusal,
};
use lockkeeper_test_support::{Role, Roles, for_turns, report, run_in_turns, sweep, until};
use serde::{Deserialize, Serialize};

use crate::{
    condition::sleepers::{Sleeper, state},
    program, run,
};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);
const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Nap>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("condition::sleeper", |condition: Condition| async move {
        let guard = condition.acquire().await.unwrap();
        let guard = condition.wait(guard).await.unwrap();
        report("woken");
        // The woken process never releases the lock.
        std::future::pending::<()>().await;
        drop(guard);
    });
    roles.add("condition::notifier", |condition: Condition| async move {
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        report("notified");
        std::future::pending::<()>().await;
    });
}

/// Waits for the condition in a pool task.
#[derive(Serialize, Deserialize)]
struct Nap(Condition);

impl Task for Nap {
    const NAME: &'static str = "condition::nap";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        let guard = self.0.acquire().await?;
        self.0.wait(guard).await?.release().await
    }
}

async fn manager_and_condition() -> (Manager, Condition) {
    let manager = Manager::start().await.unwrap();
    let condition = manager.condition().await.unwrap();
    (manager, condition)
}

async fn until_asleep(condition: &Condition, sleepers: u64) {
    until("the calls sleep", || async {
        condition.sleepers().await.unwrap() == sleepers
    })
    .await;
}

/// Starts a task that waits for the condition and returns the guard. The task sleeps when this
/// returns.
async fn asleep(condition: &Condition) -> Sleeper {
    let before = condition.sleepers().await.unwrap();
    let sleeper = tokio::spawn({
        let condition = condition.clone();
        async move {
            let guard = condition.acquire().await?;
            condition.wait(guard).await
        }
    });
    until_asleep(condition, before + 1).await;
    sleeper
}

#[test]
fn sleepers_are_woken_in_the_order_in_which_they_began_to_wait() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let mut sleepers = Vec::new();
        for _ in 0..4 {
            sleepers.push(asleep(&condition).await);
        }
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify(&guard, 2).await, Ok(2));
        assert_eq!(condition.notify_all(&guard).await, Ok(2));
        assert_eq!(
            condition.notify_one(&guard).await,
            Ok(0),
            "a notification is not stored"
        );
        let mut last = guard.fence();
        drop(guard);
        for sleeper in sleepers {
            let guard = sleeper.await.unwrap().unwrap();
            assert!(guard.fence() > last);
            last = guard.fence();
        }
    });
}

#[test]
fn waiting_and_notifying_need_the_lock() {
    run(async {
        let (manager, condition) = manager_and_condition().await;
        let other = manager.condition().await.unwrap();
        let strange = other.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&strange).await, Err(NOT_HELD));
        assert!(strange.is_valid());
        let lost = condition.acquire().await.unwrap();
        assert!(condition.force_unlock().await.unwrap());
        assert_eq!(condition.notify_all(&lost).await, Err(NOT_HELD));
        assert_eq!(condition.wait(lost).await.map(drop), Err(NOT_HELD));
        assert_eq!(condition.wait(strange).await.map(drop), Err(NOT_HELD));
        assert!(
            other.try_acquire().await.unwrap().is_some(),
            "the guard was consumed"
        );
        assert_eq!(condition.sleepers().await, Ok(0));
    });
}

#[test]
fn wait_sets_share_the_lock_and_are_notified_separately() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let not_full = condition.wait_set("not full");
        // A serialized proxy contains its wait set.
        let travelled = serde_json::to_string(&not_full).unwrap();
        let travelled: Condition = serde_json::from_str(&travelled).unwrap();
        let in_set = asleep(&travelled).await;
        let in_none = asleep(&condition).await;
        let guard = condition.acquire().await.unwrap();
        assert_eq!(
            condition.wait_set("not ful").notify_all(&guard).await,
            Ok(0)
        );
        assert_eq!(not_full.notify_all(&guard).await, Ok(1));
        drop(guard);
        drop(in_set.await.unwrap().unwrap());
        assert_eq!(condition.sleepers().await, Ok(1));
        assert_eq!(not_full.sleepers().await, Ok(0));
        in_none.abort();
        until_asleep(&condition, 0).await;
    });
}

#[test]
fn too_long_name_of_a_wait_set_is_refused_and_the_lock_is_free() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let set = condition.wait_set(&"x".repeat(256));
        let guard = set.acquire().await.unwrap();
        let Err(CallError::Refused(Refusal::Invalid(why), _)) = set.wait(guard).await else {
            panic!("it was not refused");
        };
        assert!(why.contains("at most 255 bytes"), "{why}");
        drop(condition.acquire().await.unwrap());
    });
}

#[test]
fn timeout_limits_the_sleep_and_not_the_wait_for_the_lock() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let guard = condition.acquire().await.unwrap();
        let holder = tokio::spawn(condition.acquire());
        until("the next holder waits for the lock", || async {
            condition.status().await.unwrap().waiting == 1
        })
        .await;
        // It gets the lock in the turn in which this one begins to sleep.
        let mut late = Box::pin(condition.wait(guard).timeout(SHORT));
        assert!((&mut late).now_or_never().is_none());
        let holder = holder.await.unwrap().unwrap();
        // Waits until the sleeper is in the lock's line, and two more seconds. This is far longer
        // than a client waits for a manager that does not enforce the timeout.
        until("the timeout has passed", || async {
            condition.status().await.unwrap().waiting == 1
        })
        .await;
        let longer = tokio::time::timeout(Duration::from_millis(2_500), &mut late).await;
        assert!(longer.is_err());
        drop(holder);
        let guard = late.await.unwrap();
        assert!(guard.timed_out());
        assert!(guard.is_valid() && condition.status().await.unwrap().is_held);
    });
}

#[test]
fn sleeper_that_timed_out_consumes_no_notification() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let guard = condition.acquire().await.unwrap();
        let guard = condition.wait(guard).timeout(SHORT).await.unwrap();
        assert!(guard.timed_out());
        drop(guard);
        let patient = sleepers::asleep(&condition).await;
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        drop(guard);
        drop(patient.await.unwrap().unwrap());
    });
}

#[test]
fn predicate_is_checked_before_each_sleep_and_after_a_timeout() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let guard = condition.acquire().await.unwrap();
        let guard = condition.wait_while(guard, || false).await.unwrap();
        let looks = Arc::new(AtomicUsize::new(0));
        let looked = Arc::clone(&looks);
        let twice = move || looked.fetch_add(1, Ordering::Relaxed) + 1 < 2;
        // Long enough that it does not pass before the first check.
        let time = Duration::from_millis(300);
        let waited = condition.wait_while(guard, twice).timeout(time).await;
        let guard = waited.unwrap();
        assert!(
            !guard.timed_out(),
            "the predicate became true at the timeout"
        );
        let waited = condition.wait_while(guard, || true).timeout(SHORT).await;
        assert!(waited.unwrap().timed_out());
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn dropped_wait_holds_nothing_and_its_notification_goes_to_the_next() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        // The sleeper is notified and waits for the lock when it is dropped.
        let first = asleep(&condition).await;
        let second = asleep(&condition).await;
        let guard = condition.acquire().await.unwrap();
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        until_asleep(&condition, 0).await;
        drop(guard);
        second.await.unwrap().unwrap().release().await.unwrap();
        assert!(!condition.status().await.unwrap().is_held);
    });
}

#[test]
fn no_notification_is_lost_if_a_wait_is_dropped_at_any_turn() {
    program();
    run_in_turns(async {
        let (_manager, condition) = manager_and_condition().await;
        sweep(async |turns| {
            let guard = condition.acquire().await.unwrap();
            let hasty = for_turns(turns, condition.wait(guard));
            let notified = async {
                let patient = sleepers::asleep(&condition).await;
                let guard = condition.acquire().await.unwrap();
                assert_eq!(condition.notify_one(&guard).await, Ok(1), "one sleeps");
                [patient]
            };
            let (hasty, [patient]) = tokio::join!(hasty, notified);
            let is_woken = hasty.is_some();
            if let Some(guard) = hasty {
                let notified = condition.notify_one(&guard.unwrap()).await;
                assert_eq!(notified, Ok(1), "the dropped wait consumed the first one");
            }
            drop(patient.await.unwrap().unwrap());
            assert_eq!(state(&condition).await, (0, 0));
            is_woken
        })
        .await;
    });
}

#[test]
fn wait_that_is_dropped_at_any_turn_holds_nothing() {
    program();
    run_in_turns(async {
        let (_manager, condition) = manager_and_condition().await;
        sweep(async |turns| {
            let guard = condition.acquire().await.unwrap();
            let wait = condition.wait(guard).timeout(Duration::ZERO);
            let woken = for_turns(turns, wait).await;
            let held = condition.status().await.unwrap().is_held;
            assert_eq!(held, woken.is_some());
            assert_eq!(state(&condition).await, (0, 0));
            woken.is_some()
        })
        .await;
    });
}

#[test]
fn notify_that_is_dropped_at_any_turn_has_its_whole_effect_or_none() {
    program();
    run_in_turns(async {
        let (_manager, condition) = manager_and_condition().await;
        sweep(async |turns| {
            let sleeper = sleepers::asleep(&condition).await;
            let guard = condition.acquire().await.unwrap();
            let shown = for_turns(turns, condition.notify_one(&guard)).await;
            let (asleep, waiting) = state(&condition).await;
            assert_eq!(asleep + waiting, 1);
            assert!(shown.is_none() || shown == Some(Ok(waiting)));
            assert!(guard.is_valid() && condition.status().await.unwrap().is_held);
            assert_eq!(condition.notify_one(&guard).await, Ok(asleep));
            drop(guard);
            drop(sleeper.await.unwrap().unwrap());
            shown.is_some()
        })
        .await;
    });
}

#[test]
fn killed_sleeper_gets_no_notification() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let mut killed = Role::start("condition::sleeper", &condition);
        until_asleep(&condition, 1).await;
        let other = asleep(&condition).await;
        killed.kill();
        until_asleep(&condition, 1).await;
        let guard = condition.acquire().await.unwrap();
        assert_eq!(guard.abandoned(), None, "the sleeper held nothing");
        assert_eq!(condition.notify_one(&guard).await, Ok(1));
        drop(guard);
        drop(other.await.unwrap().unwrap());
    });
}

#[test]
fn notification_of_a_process_that_is_killed_before_using_it_goes_to_the_next() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        for is_inside in [false, true] {
            let mut killed = Role::start("condition::sleeper", &condition);
            until_asleep(&condition, 1).await;
            let other = asleep(&condition).await;
            let guard = condition.acquire().await.unwrap();
            assert_eq!(condition.notify_one(&guard).await, Ok(1));
            if is_inside {
                drop(guard);
                assert_eq!(killed.next_report(), "woken");
                killed.kill();
            } else {
                killed.kill();
                until_asleep(&condition, 0).await;
                drop(guard);
            }
            let mut guard = other.await.unwrap().unwrap();
            let left = guard.abandoned().map(|left| left.holder.pid);
            assert_eq!(left, is_inside.then_some(killed.pid()));
            guard.mark_consistent();
            guard.release().await.unwrap();
        }
    });
}

#[test]
fn notification_outlives_its_killed_sender() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let sleeper = asleep(&condition).await;
        let mut notifier = Role::start("condition::notifier", &condition);
        assert_eq!(notifier.next_report(), "notified");
        notifier.kill();
        let guard = sleeper.await.unwrap().unwrap();
        assert_eq!(guard.abandoned().unwrap().holder.pid, notifier.pid());
    });
}

#[test]
fn plain_threads_and_pool_tasks_can_wait() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let thread = {
            let condition = condition.clone();
            thread::spawn(move || {
                let guard = condition.acquire().blocking()?;
                let guard = condition.wait(guard).timeout(Duration::ZERO).blocking()?;
                assert!(guard.timed_out());
                let mut rounds = 0;
                let twice = move || {
                    rounds += 1;
                    rounds <= 2
                };
                let guard = condition.wait_while(guard, twice).blocking()?;
                block_on(guard.release())
            })
        };
        let pool = Pool::new(2).await.unwrap();
        let naps = [(); 2].map(|()| pool.spawn(Nap(condition.clone())));
        for sleepers in [3, 1] {
            until_asleep(&condition, sleepers).await;
            let guard = condition.acquire().await.unwrap();
            assert_eq!(condition.notify_all(&guard).await, Ok(sleepers));
        }
        thread.join().unwrap().unwrap();
        for nap in naps {
            assert_eq!(nap.await, Ok(Ok(())));
        }
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, condition) = manager_and_condition().await;
        let guard = condition.acquire().await.unwrap();
        let _ = condition.wait(guard).blocking();
    });
}

#[test]
fn waits_fail_when_the_condition_or_its_manager_ends() {
    run(async {
        let (manager, condition) = manager_and_condition().await;
        let sleeper = asleep(&condition).await;
        manager.remove(&condition.token().name).await.unwrap();
        assert_eq!(sleeper.await.unwrap().map(drop), Err(CallError::gone()));

        let condition = manager.condition().await.unwrap();
        let sleeper = asleep(&condition).await;
        let guard = condition.acquire().await.unwrap();
        manager.shutdown().await;
        let outcome = sleeper.await.unwrap().map(drop);
        assert!(matches!(outcome, Err(CallError::Disconnected { .. })));
        guard.lost().await;
        let outcome = condition.wait(guard).await.map(drop);
        assert!(matches!(outcome, Err(CallError::Disconnected { .. })));
    });
}

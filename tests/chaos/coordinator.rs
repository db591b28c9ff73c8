//! The coordinator: the process that is never killed or stopped. It ends waits that no other
//! process may end, and checks at the end that all objects are like fresh ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use lockkeeper::{
    CallError, Condition, Fence, Latch, Manager, Permit, RwLock,
    errors::Refusal,
    kind::sync::Bound,
    proxies::{LockKind, LockOf, SemaphoreOf},
};
use lockkeeper_test_support::until;
use rand::rngs::StdRng;

use super::{
    keyed, latches,
    notes::Notes,
    queues,
    setup::{NOT_EMPTY, NOT_FULL, Named, Setup},
    values,
    worker::Runner,
};

/// The pause between two rounds.
const REST: Duration = Duration::from_millis(40);

/// Ends waits without a timeout, in rounds, until all other processes have ended. Returns the
/// latches that were published.
pub(crate) async fn coordinate(
    setup: Arc<Setup>,
    manager: Manager,
    random: StdRng,
    ended: Arc<AtomicBool>,
) -> Vec<Named<Latch>> {
    let mut latches = Vec::new();
    let mut runner = Runner::new(random, &Notes::in_folder(&setup.folder), 0);
    while !ended.load(Ordering::Relaxed) {
        for event in &setup.events {
            runner.trace(event, "set by the coordinator");
            event.object.set().await.unwrap();
        }
        for condition in &setup.conditions {
            runner.trace(condition, "all notified by the coordinator");
            notify_all(&runner, condition).await;
        }
        for barrier in &setup.barriers {
            if runner.chance(4) {
                runner.trace(barrier, "reset by the coordinator");
                barrier.object.reset().await.unwrap();
            }
        }
        for semaphore in &setup.semaphores {
            forget(&mut runner, semaphore).await;
        }
        for semaphore in &setup.bounded_semaphores {
            forget(&mut runner, semaphore).await;
            // No other process forgets permits, so the semaphore is at its bound.
            cannot_be_added_to(semaphore).await;
        }
        for queue in &setup.queues {
            queues::unblock(&mut runner, queue).await;
        }
        for value in &setup.values {
            values::unblock(&runner, value).await;
        }
        latches::unblock(&runner, &mut latches, &manager).await;
        tokio::time::sleep(REST).await;
    }
    latches
}

async fn notify_all(runner: &Runner, named: &Named<Condition>) {
    let hold_record = named.hold_record(&runner.notes);
    let guard = named.object.acquire().await.unwrap();
    let entry = hold_record.enter(1, guard.fence(), 0);
    for set in [NOT_FULL, NOT_EMPTY] {
        let condition = named.object.wait_set(set);
        condition.notify_all(&guard).await.unwrap();
    }
    hold_record.leave(entry);
    guard.release().await.unwrap();
}

/// Forgets a permit and adds it again. Another process could be killed before it adds the permit.
async fn forget<B: Bound>(runner: &mut Runner, named: &Named<SemaphoreOf<B>>) {
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let Some(permit) = named.object.try_acquire().await.unwrap() else {
        return;
    };
    runner.trace(named, "forgotten and added");
    let entry = hold_record.enter(1, permit.fence(), highest);
    permit.forget();
    runner.pause().await;
    hold_record.leave(entry);
    named.object.add_permits(1).await.unwrap();
}

async fn cannot_be_added_to<B: Bound>(named: &Named<SemaphoreOf<B>>) {
    let bound = named.most.into();
    let refused = named.object.add_permits(1).await;
    let over_release = CallError::refused(Refusal::OverRelease { bound });
    assert_eq!(refused, Err(over_release), "{}", named.name);
}

/// Checks that every object is like a new one, while the other processes still exist and do
/// nothing.
pub(crate) async fn find_all_fresh(setup: &Setup, notes: &Notes) {
    let locks = setup.locks.iter().chain(&setup.forced_locks);
    for lock in locks.chain(&setup.several_locks) {
        find_free(lock, notes).await;
    }
    for lock in &setup.rw_locks {
        find_empty(lock, notes).await;
    }
    for locks in &setup.keyed_locks {
        keyed::find_fresh(locks, notes).await;
    }
    for semaphores in &setup.keyed_semaphores {
        keyed::find_fresh(semaphores, notes).await;
    }
    for queue in &setup.queues {
        queues::find_fresh(queue, notes).await;
    }
    for value in &setup.values {
        values::find_fresh(value, notes).await;
    }
    for lock in &setup.reentrant_locks {
        find_free(lock, notes).await;
    }
    for condition in &setup.conditions {
        for set in [NOT_FULL, NOT_EMPTY, ""] {
            until(&format!("{}: no call sleeps", condition.name), || async {
                condition.object.wait_set(set).sleepers().await.unwrap() == 0
            })
            .await;
        }
        find_free(condition, notes).await;
    }
    for semaphore in &setup.semaphores {
        drop(find_complete(semaphore, notes).await);
    }
    for semaphore in &setup.bounded_semaphores {
        let all = find_complete(semaphore, notes).await;
        all.release().await.unwrap();
        cannot_be_added_to(semaphore).await;
    }
    for event in &setup.events {
        let event = &event.object;
        event.clear().await.unwrap();
        until("no call waits for the event", || async {
            event.status().await.unwrap().waiting == 0
        })
        .await;
        let generation = event.status().await.unwrap().generation;
        let patience = Duration::from_secs(10);
        assert_eq!(
            event.wait().timeout(Duration::ZERO).await,
            Err(CallError::timed_out())
        );
        assert_eq!(event.set().await, Ok(generation + 1));
        assert_eq!(event.wait().timeout(patience).await, Ok(generation + 1));
        assert!(event.is_set().await.unwrap());
    }
    for barrier in &setup.barriers {
        let (barrier, parties) = (&barrier.object, barrier.most);
        until("no call waits at the barrier", || async {
            barrier.status().await.unwrap().arrived == 0
        })
        .await;
        barrier.reset().await.unwrap();
        let waiting = (0..parties).map(|_| barrier.wait().timeout(Duration::from_secs(10)));
        let passed = join_all(waiting).await;
        let mut places: Vec<u32> = passed
            .iter()
            .map(|passed| passed.clone().unwrap().index())
            .collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..parties));
    }
}

async fn find_free<P: LockKind>(named: &Named<LockOf<P>>, notes: &Notes) {
    let lock = &named.object;
    until(&format!("{} is free", named.name), || async {
        let status = lock.status().await.unwrap();
        !status.is_held && status.depth == 0 && status.waiting == 0
    })
    .await;
    let guard = lock.try_acquire().await.unwrap().expect("the lock is free");
    check_fence(named, notes, guard.fence());
    guard.release().await.unwrap();
}

async fn find_empty(named: &Named<RwLock>, notes: &Notes) {
    let lock = &named.object;
    until(&format!("{} is free", named.name), || async {
        let status = lock.status().await.unwrap();
        (status.readers, status.waiting) == (0, 0) && !status.has_upgradable && !status.has_writer
    })
    .await;
    let reader = lock
        .try_read()
        .await
        .unwrap()
        .expect("the lock has no writer");
    check_fence(named, notes, reader.fence());
    let upgradable = lock.try_upgradable_read().await.unwrap();
    let upgradable = upgradable.expect("one reads");
    reader.release().await.unwrap();
    let writer = upgradable.try_upgrade().await.unwrap();
    let writer = writer.expect("the lock has no reader");
    assert!(lock.try_read().await.unwrap().is_none(), "{}", named.name);
    writer.release().await.unwrap();
}

async fn find_complete<B: Bound>(named: &Named<SemaphoreOf<B>>, notes: &Notes) -> Permit {
    let semaphore = &named.object;
    until(&format!("{} has all permits", named.name), || async {
        let status = semaphore.status().await.unwrap();
        status.available == u64::from(named.most) && status.held == 0 && status.waiting == 0
    })
    .await;
    let permit = semaphore.try_acquire_many(named.most).await.unwrap();
    let permit = permit.expect("all permits are free");
    check_fence(named, notes, permit.fence());
    permit
}

fn check_fence<T>(named: &Named<T>, notes: &Notes, fence: Fence) {
    let highest = named.hold_record(notes).highest();
    assert!(
        fence.number() > highest,
        "{}: {fence} after {highest}",
        named.name
    );
}

/// Returns the status of each object, to find out why a call has no answer.
pub(crate) async fn describe(setup: &Setup) -> String {
    let mut words = Vec::new();
    let locks = setup.locks.iter().chain(&setup.forced_locks);
    for Named { object, name, .. } in locks.chain(&setup.several_locks) {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.reentrant_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.conditions {
        let asleep = [NOT_FULL, NOT_EMPTY].map(|set| object.wait_set(set));
        let asleep = join_all(asleep.iter().map(Condition::sleepers)).await;
        words.push(format!("{name}: {:?}, {asleep:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.bounded_semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.events {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.barriers {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.rw_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.keyed_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.keyed_semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.queues {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Named { object, name, .. } in &setup.values {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    words.join("\n")
}

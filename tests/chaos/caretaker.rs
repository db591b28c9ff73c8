//! The process that is never killed or stopped. It ends the waits that no other process may end,
//! and checks that all objects are as fresh in the end.

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
    scene::{Known, NOT_EMPTY, NOT_FULL, Scene},
    values,
    worker::Hand,
};

/// How long the caretaker rests between two rounds.
const REST: Duration = Duration::from_millis(40);

/// Goes round until all the others have ended, and ends the waits without a timeout. Returns
/// the latches that were laid out.
pub(crate) async fn care(
    scene: Arc<Scene>,
    manager: Manager,
    random: StdRng,
    ended: Arc<AtomicBool>,
) -> Vec<Known<Latch>> {
    let mut latches = Vec::new();
    let mut hand = Hand::new(random, &Notes::in_folder(&scene.folder), 0);
    while !ended.load(Ordering::Relaxed) {
        for event in &scene.events {
            hand.does(event, "set by the caretaker");
            event.object.set().await.unwrap();
        }
        for condition in &scene.conditions {
            hand.does(condition, "all notified by the caretaker");
            notify_all(&hand, condition).await;
        }
        for barrier in &scene.barriers {
            if hand.chance(4) {
                hand.does(barrier, "reset by the caretaker");
                barrier.object.reset().await.unwrap();
            }
        }
        for semaphore in &scene.semaphores {
            forget(&mut hand, semaphore).await;
        }
        for semaphore in &scene.bounded_semaphores {
            forget(&mut hand, semaphore).await;
            // No other process forgets any, so there is no room for one more.
            cannot_be_added_to(semaphore).await;
        }
        for queue in &scene.queues {
            queues::tend(&mut hand, queue).await;
        }
        for value in &scene.values {
            values::tend(&hand, value).await;
        }
        latches::tend(&hand, &mut latches, &manager).await;
        tokio::time::sleep(REST).await;
    }
    latches
}

async fn notify_all(hand: &Hand, known: &Known<Condition>) {
    let ledger = known.ledger(&hand.notes);
    let guard = known.object.acquire().await.unwrap();
    let entry = ledger.enter(1, guard.fence(), 0);
    for set in [NOT_FULL, NOT_EMPTY] {
        let condition = known.object.wait_set(set);
        condition.notify_all(&guard).await.unwrap();
    }
    ledger.leave(entry);
    guard.release().await.unwrap();
}

/// Forgets a permit and adds it again. A process that may be killed might not add it.
async fn forget<B: Bound>(hand: &mut Hand, known: &Known<SemaphoreOf<B>>) {
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let Some(permit) = known.object.try_acquire().await.unwrap() else {
        return;
    };
    hand.does(known, "forgotten and added");
    let entry = ledger.enter(1, permit.fence(), highest);
    permit.forget();
    hand.linger().await;
    ledger.leave(entry);
    known.object.add_permits(1).await.unwrap();
}

async fn cannot_be_added_to<B: Bound>(known: &Known<SemaphoreOf<B>>) {
    let bound = known.most.into();
    let refused = known.object.add_permits(1).await;
    let over_release = CallError::refused(Refusal::OverRelease { bound });
    assert_eq!(refused, Err(over_release), "{}", known.name);
}

/// Looks whether every object is as one that was just made, while the others live, and do nothing.
pub(crate) async fn find_all_fresh(scene: &Scene, notes: &Notes) {
    let locks = scene.locks.iter().chain(&scene.forced_locks);
    for lock in locks.chain(&scene.several_locks) {
        find_free(lock, notes).await;
    }
    for lock in &scene.rw_locks {
        find_empty(lock, notes).await;
    }
    for locks in &scene.keyed_locks {
        keyed::find_fresh(locks, notes).await;
    }
    for semaphores in &scene.keyed_semaphores {
        keyed::find_fresh(semaphores, notes).await;
    }
    for queue in &scene.queues {
        queues::find_fresh(queue, notes).await;
    }
    for value in &scene.values {
        values::find_fresh(value, notes).await;
    }
    for lock in &scene.reentrant_locks {
        find_free(lock, notes).await;
    }
    for condition in &scene.conditions {
        for set in [NOT_FULL, NOT_EMPTY, ""] {
            until(&format!("{}: nobody sleeps", condition.name), || async {
                condition.object.wait_set(set).sleepers().await.unwrap() == 0
            })
            .await;
        }
        find_free(condition, notes).await;
    }
    for semaphore in &scene.semaphores {
        drop(find_complete(semaphore, notes).await);
    }
    for semaphore in &scene.bounded_semaphores {
        let all = find_complete(semaphore, notes).await;
        all.release().await.unwrap();
        cannot_be_added_to(semaphore).await;
    }
    for event in &scene.events {
        let event = &event.object;
        event.clear().await.unwrap();
        until("nobody waits for the event", || async {
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
    for barrier in &scene.barriers {
        let (barrier, parties) = (&barrier.object, barrier.most);
        until("nobody waits at the barrier", || async {
            barrier.status().await.unwrap().arrived == 0
        })
        .await;
        barrier.reset().await.unwrap();
        let waiting = (0..parties).map(|_| barrier.wait().timeout(Duration::from_secs(10)));
        let passed = join_all(waiting).await;
        let mut places: Vec<u32> = passed
            .iter()
            .map(|passed| passed.clone().unwrap().index)
            .collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..parties));
    }
}

async fn find_free<P: LockKind>(known: &Known<LockOf<P>>, notes: &Notes) {
    let lock = &known.object;
    until(&format!("{} is free", known.name), || async {
        let status = lock.status().await.unwrap();
        !status.held && status.depth == 0 && status.waiting == 0
    })
    .await;
    let guard = lock.try_acquire().await.unwrap().expect("it is free");
    check_fence(known, notes, guard.fence());
    guard.release().await.unwrap();
}

async fn find_empty(known: &Known<RwLock>, notes: &Notes) {
    let lock = &known.object;
    until(&format!("{} is free", known.name), || async {
        let status = lock.status().await.unwrap();
        (status.readers, status.waiting) == (0, 0) && !status.upgradable && !status.writer
    })
    .await;
    let reader = lock.try_read().await.unwrap().expect("nobody writes");
    check_fence(known, notes, reader.fence());
    let upgradable = lock.try_upgradable_read().await.unwrap();
    let upgradable = upgradable.expect("one reads");
    reader.release().await.unwrap();
    let writer = upgradable.try_upgrade().await.unwrap();
    let writer = writer.expect("nobody reads beside it");
    assert!(lock.try_read().await.unwrap().is_none(), "{}", known.name);
    writer.release().await.unwrap();
}

async fn find_complete<B: Bound>(known: &Known<SemaphoreOf<B>>, notes: &Notes) -> Permit {
    let semaphore = &known.object;
    until(&format!("{} has all permits", known.name), || async {
        let status = semaphore.status().await.unwrap();
        status.available == u64::from(known.most) && status.held == 0 && status.waiting == 0
    })
    .await;
    let permit = semaphore.try_acquire_many(known.most).await.unwrap();
    let permit = permit.expect("all are free");
    check_fence(known, notes, permit.fence());
    permit
}

fn check_fence<T>(known: &Known<T>, notes: &Notes, fence: Fence) {
    let highest = known.ledger(notes).highest();
    assert!(
        fence.number() > highest,
        "{}: {fence} after {highest}",
        known.name
    );
}

/// The status of each object, to find out why a call has no answer.
pub(crate) async fn describe(scene: &Scene) -> String {
    let mut words = Vec::new();
    let locks = scene.locks.iter().chain(&scene.forced_locks);
    for Known { object, name, .. } in locks.chain(&scene.several_locks) {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.reentrant_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.conditions {
        let asleep = [NOT_FULL, NOT_EMPTY].map(|set| object.wait_set(set));
        let asleep = join_all(asleep.iter().map(Condition::sleepers)).await;
        words.push(format!("{name}: {:?}, {asleep:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.bounded_semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.events {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.barriers {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.rw_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.keyed_locks {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.keyed_semaphores {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.queues {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    for Known { object, name, .. } in &scene.values {
        words.push(format!("{name}: {:?}", object.status().await));
    }
    words.join("\n")
}

//! The guarantees of semaphores, through their proxies.
//!
//! Permits whose holder is killed are tested in `processes`.

use std::{
    future::{Future, pending},
    panic, thread,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{
    BoundedSemaphore, CallError, Limits, Manager, Permit, ReleaseBy, Semaphore, block_on,
    errors::{Fault, Refusal},
    inspect::SemaphoreStatus,
};
use lockkeeper_test_support::Watchdog;

use crate::run;

/// Polls calls once, so that they are sent and wait.
fn begin<F: Future + Unpin>(calls: &mut [F]) {
    for call in calls {
        assert!(call.now_or_never().is_none());
    }
}

/// Returns the status of an open semaphore without waiters.
fn status(available: u64, held: u64) -> SemaphoreStatus {
    let mut status = SemaphoreStatus::default();
    (status.available, status.held) = (available, held);
    status
}

async fn semaphore(permits: u32) -> (Manager, Semaphore) {
    let manager = Manager::start().await.unwrap();
    let semaphore = manager.semaphore(permits).await.unwrap();
    (manager, semaphore)
}

async fn bounded(permits: u32) -> (Manager, BoundedSemaphore) {
    let manager = Manager::start().await.unwrap();
    let semaphore = manager.bounded_semaphore(permits).await.unwrap();
    (manager, semaphore)
}

fn refused<T>(refusal: Refusal) -> Result<T, CallError> {
    Err(CallError::refused(refusal))
}

#[test]
fn no_more_permits_are_held_than_exist() {
    run(async {
        let (_manager, semaphore) = semaphore(3).await;
        let mut first = semaphore.acquire_many(2).await.unwrap();
        let second = semaphore.acquire().await.unwrap();
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        assert_eq!(semaphore.status().await.unwrap(), status(0, 3));
        assert!(second.fence() > first.fence());
        drop(first.split(1));
        assert_eq!(semaphore.status().await.unwrap(), status(1, 2));
        first.release().await.unwrap();
        second.release().await.unwrap();
        assert_eq!(semaphore.status().await.unwrap(), status(3, 0));
    });
}

#[test]
fn permits_are_granted_in_order_and_a_try_never_overtakes() {
    run(async {
        let (_manager, semaphore) = semaphore(2).await;
        let one = semaphore.acquire().await.unwrap();
        let mut waiting = [
            Box::pin(semaphore.acquire_many(2)),
            Box::pin(semaphore.acquire_many(1)),
        ];
        begin(&mut waiting);
        // One permit is free, but a caller waits for two.
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        drop(one);
        let [first, second] = waiting;
        let first = first.await.unwrap();
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        drop(first);
        assert_eq!(second.await.unwrap().permits(), 1);
    });
}

#[test]
fn next_waiter_that_fits_is_granted_when_the_first_leaves() {
    run(async {
        let (_manager, semaphore) = semaphore(2).await;
        let _one = semaphore.acquire().await.unwrap();
        let mut big = [Box::pin(semaphore.acquire_many(2))];
        begin(&mut big);
        let mut small = [Box::pin(semaphore.acquire())];
        begin(&mut small);
        drop(big);
        let [small] = small;
        drop(small.await.unwrap());
        assert_eq!(semaphore.status().await.unwrap(), status(1, 1));
    });
}

#[test]
fn timeouts_leave_nothing_and_zero_permits_are_granted_in_turn() {
    run(async {
        let (_manager, semaphore) = semaphore(1).await;
        let brief = Duration::from_millis(10);
        let held = semaphore.acquire_many(1).timeout(brief).await.unwrap();
        let outcome = semaphore.acquire().timeout(brief).await.map(drop);
        assert_eq!(outcome, Err(CallError::timed_out()));
        let none = semaphore.acquire_many(0).await.unwrap();
        assert_eq!(none.permits(), 0);
        none.release().await.unwrap();
        drop(held);
        assert_eq!(semaphore.status().await.unwrap(), status(1, 0));
    });
}

#[test]
fn owned_futures_can_be_spawned() {
    run(async {
        let (_manager, semaphore) = semaphore(4).await;
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let call = semaphore.acquire_many(number % 4 + 1);
                tokio::spawn(async { call.await.unwrap().permits() })
            })
            .collect();
        for (task, number) in tasks.into_iter().zip(0..) {
            assert_eq!(task.await.unwrap(), number % 4 + 1);
        }
        let single = tokio::spawn(semaphore.acquire());
        drop(single.await.unwrap().unwrap());
        assert_eq!(semaphore.status().await.unwrap(), status(4, 0));
    });
}

#[test]
fn semaphore_without_permits_is_a_signal() {
    run(async {
        let (_manager, semaphore) = semaphore(0).await;
        let mut consumer = [Box::pin(semaphore.consume(2))];
        begin(&mut consumer);
        semaphore.add_permits(1).await.unwrap();
        begin(&mut consumer);
        semaphore.add_permits(2).await.unwrap();
        let [consumer] = consumer;
        consumer.await.unwrap();
        assert_eq!(semaphore.status().await.unwrap(), status(1, 0));
    });
}

#[test]
fn forgotten_permits_are_not_released() {
    run(async {
        let (_manager, semaphore) = semaphore(3).await;
        let mut permit = semaphore.acquire_many(3).await.unwrap();
        permit.split(2).unwrap().forget();
        assert_eq!(semaphore.status().await.unwrap(), status(0, 1));
        drop(permit);
        assert_eq!(semaphore.status().await.unwrap(), status(1, 0));
        semaphore.add_permits(2).await.unwrap();
        assert_eq!(semaphore.status().await.unwrap(), status(3, 0));
    });
}

#[test]
fn permits_are_split_and_merged_without_a_loss() {
    run(async {
        let (manager, semaphore) = semaphore(6).await;
        let mut all = semaphore.acquire_many(4).await.unwrap();
        let lowest = all.fence();
        assert!(all.split(5).is_none());
        assert_eq!(all.permits(), 4);
        let mut half = all.split(2).unwrap();
        assert_eq!((all.permits(), half.permits()), (2, 2));
        half.merge(semaphore.acquire_many(2).await.unwrap())
            .unwrap();
        half.merge(all).unwrap();
        assert_eq!((half.permits(), half.fence()), (6, lowest));
        assert_eq!(semaphore.status().await.unwrap(), status(0, 6));

        let other = manager.semaphore(1).await.unwrap();
        let stranger = other.acquire().await.unwrap();
        let stranger = half.merge(stranger).unwrap_err();
        assert!(stranger.is_valid() && half.is_valid());
        let parts: Vec<Permit> = (0..6).map(|_| half.split(1).unwrap()).collect();
        assert_eq!(half.permits(), 0);
        drop(half);
        assert_eq!(semaphore.status().await.unwrap(), status(0, 6));
        for (part, back) in parts.into_iter().zip(1..) {
            part.release().await.unwrap();
            assert_eq!(semaphore.status().await.unwrap(), status(back, 6 - back));
        }
    });
}

#[test]
fn permit_of_zero_belongs_to_its_semaphore() {
    run(async {
        let (manager, semaphore) = semaphore(2).await;
        let mut permit = semaphore.acquire().await.unwrap();
        let mut none = permit.split(0).unwrap();
        assert_eq!((none.permits(), permit.permits()), (0, 1));
        assert!(none.is_valid() && none.lost().now_or_never().is_none());
        let other = manager.semaphore(1).await.unwrap();
        let stranger = other.acquire().await.unwrap();
        drop(none.merge(stranger).unwrap_err());
        none.merge(permit).unwrap();
        let rest = none.split(1).unwrap();
        assert_eq!((none.permits(), rest.permits()), (0, 1));
        drop(none);
        assert_eq!(semaphore.status().await.unwrap(), status(1, 1));
        let mut none = rest;
        let last = none.split(1).unwrap();
        let lost = none.lost();
        manager.remove(&semaphore.token().name).await.unwrap();
        lost.await;
        assert!(!none.is_valid() && !last.is_valid());
    });
}

#[test]
fn repeatedly_split_and_merged_permit_does_not_grow() {
    run(async {
        let (_manager, semaphore) = semaphore(5).await;
        let mut permit = semaphore.acquire_many(3).await.unwrap();
        let size = format!("{permit:?}").len();
        for _ in 0..50 {
            let part = permit.split(1).unwrap();
            permit.merge(part).unwrap();
            let none = permit.split(0).unwrap();
            permit.merge(none).unwrap();
        }
        assert_eq!(format!("{permit:?}").len(), size);
        assert_eq!(semaphore.status().await.unwrap(), status(2, 3));
        // A permit that is merged with new grants does not grow either.
        for _ in 0..50 {
            permit.merge(semaphore.acquire().await.unwrap()).unwrap();
            drop(permit.split(1));
        }
        assert!(format!("{permit:?}").len() < 5 * size);
        assert_eq!(semaphore.status().await.unwrap(), status(2, 3));
        permit.release().await.unwrap();
        assert_eq!(semaphore.status().await.unwrap(), status(5, 0));
    });
}

#[test]
fn release_is_served_at_the_limit_of_waiting_calls() {
    run(async {
        let limits = Limits {
            calls_in_flight: 1,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let semaphore = manager.semaphore(4).await.unwrap();
        let mut permit = semaphore.acquire_many(4).await.unwrap();
        let rest = permit.split(2).unwrap();
        let mut waiting = [Box::pin(semaphore.acquire_many(2))];
        begin(&mut waiting);
        let limit = CallError::Fault(Fault::limit("calls in flight", 1));
        assert_eq!(semaphore.acquire_many(2).await.map(drop), Err(limit));
        assert_eq!(permit.release().await, Ok(()));
        let [waiting] = waiting;
        drop(waiting.await.unwrap());
        assert_eq!(semaphore.status().await.unwrap(), status(2, 2));
        drop(rest);
        assert_eq!(semaphore.status().await.unwrap(), status(4, 0));
    });
}

#[test]
fn release_that_is_dropped_at_any_point_releases_exactly_its_permits() {
    run(async {
        let (_manager, semaphore) = semaphore(4).await;
        let mut permit = semaphore.acquire_many(4).await.unwrap();
        let rest = permit.split(2).unwrap();
        drop(permit.split(1).unwrap().release());
        assert_eq!(semaphore.status().await.unwrap(), status(1, 3));
        // After one poll the release is sent or already complete. Then it is dropped.
        let _ = permit.release().now_or_never();
        assert_eq!(semaphore.status().await.unwrap(), status(2, 2));
        rest.release().await.unwrap();
        assert_eq!(semaphore.status().await.unwrap(), status(4, 0));
    });
}

#[test]
fn plain_threads_can_make_all_calls() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let semaphore = block_on(manager.semaphore(0)).unwrap();
    let consumer = {
        let semaphore = semaphore.clone();
        thread::spawn(move || block_on(semaphore.consume(2)))
    };
    block_on(semaphore.add_permits(3)).unwrap();
    consumer.join().unwrap().unwrap();
    block_on(
        semaphore
            .acquire_many(1)
            .map(Result::unwrap)
            .then(Permit::release),
    )
    .unwrap();
    assert_eq!(block_on(semaphore.status()).unwrap(), status(1, 0));
    block_on(semaphore.close()).unwrap();
    let outcome = semaphore.acquire().blocking().map(drop);
    assert_eq!(outcome, refused(Refusal::Closed));
    block_on(manager.shutdown());
}

#[test]
fn blocking_inside_an_async_context_panics() {
    run(async {
        panic::catch_unwind(|| block_on(async {})).unwrap_err();
    });
}

#[test]
fn bounded_semaphore_never_has_more_permits_than_initially() {
    run(async {
        let (_manager, semaphore) = bounded(2).await;
        let over = Refusal::OverRelease { bound: 2 };
        assert_eq!(semaphore.add_permits(1).await, refused(over.clone()));
        let permit = semaphore.acquire().await.unwrap();
        assert_eq!(semaphore.add_permits(1).await, refused(over.clone()));
        assert_eq!(semaphore.status().await.unwrap(), status(1, 1));
        permit.forget();
        semaphore.add_permits(1).await.unwrap();
        assert_eq!(semaphore.add_permits(1).await, refused(over));
        assert_eq!(semaphore.status().await.unwrap(), status(2, 0));
    });
}

#[test]
fn acquire_above_the_maximum_is_refused_at_once() {
    run(async {
        let (manager, semaphore) = bounded(2).await;
        let _permit = semaphore.acquire().await.unwrap();
        let too_many = Refusal::TooMany { asked: 3, most: 2 };
        let outcome = semaphore.acquire_many(3).await.map(drop);
        assert_eq!(outcome, refused(too_many.clone()));
        let outcome = semaphore.try_acquire_many(3).await.map(drop);
        assert_eq!(outcome, refused(too_many));
        let most = manager.semaphore(u32::MAX).await.unwrap();
        let over = Refusal::OverRelease {
            bound: u32::MAX.into(),
        };
        assert_eq!(most.add_permits(1).await, refused(over));
        let all = most.acquire_many(u32::MAX).await.unwrap();
        all.release().await.unwrap();
        let expected = status(u32::MAX.into(), 0);
        assert_eq!(most.status().await.unwrap(), expected);
    });
}

#[test]
fn closed_semaphore_refuses_waiting_and_later_calls() {
    run(async {
        let (_manager, semaphore) = semaphore(1).await;
        let held = semaphore.acquire().await.unwrap();
        let mut waiting = [Box::pin(semaphore.acquire()), Box::pin(semaphore.acquire())];
        begin(&mut waiting);
        semaphore.close().await.unwrap();
        for call in waiting {
            assert_eq!(call.await.map(drop), refused(Refusal::Closed));
        }
        assert_eq!(
            semaphore.try_acquire().await.map(drop),
            refused(Refusal::Closed)
        );
        assert_eq!(semaphore.consume(1).await, refused(Refusal::Closed));
        assert!(held.is_valid());
        held.release().await.unwrap();
        let after = semaphore.status().await.unwrap();
        assert!(after.is_closed && after.held == 0);
    });
}

#[test]
fn permits_are_lost_with_their_semaphore() {
    run(async {
        let (manager, semaphore) = semaphore(2).await;
        let mut permit = semaphore.acquire_many(2).await.unwrap();
        let part = permit.split(1).unwrap();
        let lost = permit.lost();
        assert!(permit.is_valid() && part.is_valid());
        manager.remove(&semaphore.token().name).await.unwrap();
        lost.await;
        part.lost().await;
        assert!(!permit.is_valid() && !part.is_valid());
        assert_eq!(permit.release().await, Err(CallError::gone()));
    });
}

#[test]
fn future_that_a_permit_runs_ends_by_itself_or_with_one_of_the_permits() {
    run(async {
        let (manager, semaphore) = semaphore(2).await;
        let mut permit = semaphore.acquire().await.unwrap();
        permit.merge(semaphore.acquire().await.unwrap()).unwrap();
        assert_eq!(permit.run(async { 42 }).await, Ok(42));
        assert!(permit.run(pending::<()>()).now_or_never().is_none());
        assert!(permit.is_valid());
        let remove = async { manager.remove(&semaphore.token().name).await.unwrap() };
        let (ran, ()) = futures::join!(permit.run(pending::<()>()), remove);
        assert!(ran.unwrap_err().is_gone());

        let anyone = manager.release_by(ReleaseBy::Anyone);
        let semaphore = anyone.semaphore(2).await.unwrap();
        let mut permit = semaphore.acquire().await.unwrap();
        permit.merge(semaphore.acquire().await.unwrap()).unwrap();
        let release = async { semaphore.release_any().await.unwrap() };
        let (ran, ()) = futures::join!(permit.run(pending::<()>()), release);
        assert_eq!(ran, refused(Refusal::NotHeld));
        // The other grant is still held.
        assert_eq!(semaphore.status().await.unwrap(), status(1, 1));
    });
}

#[test]
fn the_two_kinds_of_semaphore_are_different_kinds() {
    run(async {
        let (manager, semaphore) = semaphore(2).await;
        let token = serde_json::to_string(&semaphore).unwrap();
        let wrong: BoundedSemaphore = serde_json::from_str(&token).unwrap();
        let outcome = wrong.acquire().await.map(drop);
        let refused = matches!(outcome, Err(CallError::Fault(Fault::WrongKind { .. })));
        assert!(refused, "{outcome:?}");
        let right: Semaphore = serde_json::from_str(&token).unwrap();
        drop(right.acquire().await.unwrap());
        manager.shutdown().await;
    });
}

//! Futures that are dropped at random points hold nothing afterwards.
//!
//! The frames of a session reach an object in order, so a status call after the drops shows their
//! effect.

use std::{
    future::Future,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use lockkeeper::{Lock, LockGuard, Manager, Semaphore};
use lockkeeper_test_support::seeded;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::run;

/// The number of tasks that drop concurrently, and the number of drops of each.
const TASKS: usize = 4;
const DROPS: usize = 250;

/// Polls a future for a random time and drops it if it is not ready by then.
async fn poll_a_while<F: Future>(random: &mut StdRng, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if random.random_ratio(1, 20) {
        return None;
    }
    let end = Instant::now() + Duration::from_micros(random.random_range(0..300));
    loop {
        if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
            return Some(output);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::task::yield_now().await;
    }
}

/// Runs `TASKS` tasks concurrently, each with its own random numbers, and returns the sum of their
/// results.
async fn many<F>(random: &mut StdRng, task: impl Fn(StdRng) -> F) -> usize
where
    F: Future<Output = usize> + Send + 'static,
{
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(task(StdRng::from_rng(random))))
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum
}

/// Keeps a grant for a moment, and counts it.
async fn keep<T>(random: &mut StdRng, granted: Option<T>) -> usize {
    let Some(granted) = granted else { return 0 };
    if random.random() {
        tokio::task::yield_now().await;
    }
    drop(granted);
    1
}

async fn drop_waits_for_a_lock(mut random: StdRng, lock: Lock) -> usize {
    let mut granted = 0;
    for _ in 0..DROPS {
        let random = &mut random;
        let guard = match random.random_range(0..4) {
            0 => poll_a_while(random, lock.acquire().timeout(Duration::from_micros(100)))
                .await
                .and_then(Result::ok),
            1 => poll_a_while(random, lock.try_acquire())
                .await
                .and_then(|outcome| outcome.unwrap()),
            2 => tokio::select! {
                outcome = lock.acquire() => Some(outcome.unwrap()),
                outcome = lock.acquire() => Some(outcome.unwrap()),
            },
            _ => poll_a_while(random, lock.acquire())
                .await
                .map(Result::unwrap),
        };
        granted += keep(random, guard).await;
    }
    granted
}

#[test]
fn dropped_waits_for_a_lock_hold_nothing() {
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let granted = many(&mut random, |random| {
            drop_waits_for_a_lock(random, lock.clone())
        })
        .await;
        let status = lock.status().await.unwrap();
        assert_eq!((status.is_held, status.waiting), (false, 0));
        let all = TASKS * DROPS;
        assert!(0 < granted && granted < all, "{granted} of {all} granted");
        assert!(lock.try_acquire().await.unwrap().is_some());
    });
}

async fn drop_waits_for_permits(mut random: StdRng, semaphore: Semaphore) -> usize {
    let mut granted = 0;
    for _ in 0..DROPS {
        let random = &mut random;
        let many = random.random_range(0..=3);
        let permit = poll_a_while(random, semaphore.acquire_many(many)).await;
        granted += keep(random, permit.map(Result::unwrap)).await;
    }
    granted
}

#[test]
fn dropped_waits_for_permits_lose_none() {
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        let semaphore = manager.semaphore(3).await.unwrap();
        let granted = many(&mut random, |random| {
            drop_waits_for_permits(random, semaphore.clone())
        })
        .await;
        let status = semaphore.status().await.unwrap();
        assert_eq!((status.available, status.held, status.waiting), (3, 0, 0));
        let all = TASKS * DROPS;
        assert!(0 < granted && granted < all, "{granted} of {all} granted");
    });
}

async fn drop_consumers(mut random: StdRng, semaphore: Semaphore) -> usize {
    let mut consumed = 0;
    for _ in 0..DROPS {
        let outcome = poll_a_while(&mut random, semaphore.consume(1)).await;
        consumed += outcome.map_or(0, |outcome| outcome.map_or(0, |()| 1));
    }
    consumed
}

#[test]
fn dropped_consumer_has_consumed_nothing() {
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        let all = TASKS * DROPS;
        let permits = all.try_into().unwrap();
        let semaphore = manager.semaphore(permits).await.unwrap();
        let consumed = many(&mut random, |random| {
            drop_consumers(random, semaphore.clone())
        })
        .await;
        let status = semaphore.status().await.unwrap();
        assert_eq!(status.available, u64::try_from(all - consumed).unwrap());
        assert_eq!((status.held, status.waiting), (0, 0));
        assert!(0 < consumed && consumed < all, "{consumed} of {all}");
    });
}

async fn drop_releases(mut random: StdRng, lock: Lock) -> usize {
    let mut released = 0;
    for _ in 0..DROPS {
        let random = &mut random;
        let guard: LockGuard = lock.acquire().await.unwrap();
        if random.random() {
            let outcome = poll_a_while(random, guard.release()).await;
            released += usize::from(outcome.is_some());
        } else {
            let ticket = guard.into_ticket();
            let adopted = poll_a_while(random, lock.adopt(ticket.clone())).await;
            if adopted.is_none() {
                // Either the hold was adopted and released, or it is unchanged.
                let _ = lock.release_ticket(ticket).await;
            }
        }
    }
    released
}

#[test]
fn dropped_releases_and_adoptions_leave_the_lock_free() {
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let released = many(&mut random, |random| drop_releases(random, lock.clone())).await;
        let status = lock.status().await.unwrap();
        assert_eq!((status.is_held, status.waiting), (false, 0));
        assert!(released > 0, "no release was awaited to its end");
    });
}

#[test]
fn dropped_opens_leave_no_call() {
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        for _ in 0..DROPS {
            let lock = poll_a_while(&mut random, manager.named("one").lock()).await;
            if let Some(lock) = lock {
                drop(lock.unwrap().acquire().await.unwrap());
            }
        }
        let lock = manager.named("one").lock().await.unwrap();
        assert!(lock.try_acquire().await.unwrap().is_some());
    });
}

//! Calls that spin before they sleep.
//!
//! The setting is the process's, so each test runs in a process of its own.

use std::{thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{CallError, Manager, spin_for};
use lockkeeper_test_support::in_own_process;

use crate::run;

#[test]
fn calls_are_answered_wait_and_are_dropped_as_ever() {
    in_own_process(|| {
        spin_for(Duration::from_micros(50));
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.lock().await.unwrap();
            for _ in 0..1000 {
                drop(lock.acquire().await.unwrap());
            }
            let guard = lock.acquire().await.unwrap();
            let short = Duration::from_millis(5);
            let late = lock.acquire().timeout(short).await.map(drop);
            assert_eq!(late, Err(CallError::timed_out()));
            let waiting = tokio::spawn(lock.acquire());
            let dropped = lock.acquire().now_or_never();
            assert!(dropped.is_none());
            drop(guard);
            drop(waiting.await.unwrap().unwrap());
            let blocking = lock.clone();
            let blocked = thread::spawn(move || {
                for _ in 0..1000 {
                    drop(blocking.acquire().blocking().unwrap());
                }
            });
            blocked.join().unwrap();
            manager.shutdown().await;
            let gone = lock.acquire().await.map(drop);
            assert!(matches!(gone, Err(CallError::Disconnected { .. })));
        });
    });
}

#[test]
fn crowd_of_calls_is_answered() {
    in_own_process(|| {
        spin_for(Duration::from_micros(50));
        run(async {
            let manager = Manager::start().await.unwrap();
            let semaphore = manager.semaphore(3).await.unwrap();
            let crowd = (0..200).map(|_| {
                let semaphore = semaphore.clone();
                tokio::spawn(async move { semaphore.acquire().await.map(drop) })
            });
            for member in crowd.collect::<Vec<_>>() {
                member.await.unwrap().unwrap();
            }
            assert_eq!(semaphore.status().await.unwrap().available, 3);
        });
    });
}

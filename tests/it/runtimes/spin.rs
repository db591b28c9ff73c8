//! Calls that spin before they sleep.

use std::{thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{CallError, Manager};

use crate::run;

/// Returns a manager, and a handle of it whose calls spin.
async fn spinning() -> (Manager, Manager) {
    let manager = Manager::start().await.unwrap();
    let client = Manager::client().spin(Duration::from_micros(50));
    let spinning = client.connect(manager.address()).await.unwrap();
    (manager, spinning)
}

#[test]
fn spinning_calls_are_answered_wait_and_can_be_dropped() {
    run(async {
        let (manager, client) = spinning().await;
        let lock = client.lock().await.unwrap();
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
}

#[test]
fn many_concurrent_calls_are_answered() {
    run(async {
        let (_manager, client) = spinning().await;
        let semaphore = client.semaphore(3).await.unwrap();
        let crowd = (0..200).map(|_| {
            let semaphore = semaphore.clone();
            tokio::spawn(async move { semaphore.acquire().await.map(drop) })
        });
        for member in crowd.collect::<Vec<_>>() {
            member.await.unwrap().unwrap();
        }
        assert_eq!(semaphore.status().await.unwrap().available, 3);
    });
}

//! A call as a value: it sends nothing before it is polled, and can be moved like any future.

use std::time::Duration;

use futures::FutureExt;
use lockkeeper::{Manager, lock_all};
use tokio::task::spawn_blocking;

use crate::run;

#[test]
fn calls_send_nothing_before_they_are_polled() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let queue = manager.queue::<u32>(1).await.unwrap();
        let latch = manager.latch(1).await.unwrap();
        let calls = (
            lock.acquire(),
            lock_all([&lock]),
            queue.put(1),
            latch.arrive_and_wait(1),
        );
        // These calls are answered after all earlier ones.
        assert!(!lock.status().await.unwrap().is_held);
        assert_eq!(queue.len().await.unwrap(), 0);
        assert_eq!(latch.status().await.unwrap().count, 1);
        let (acquire, all, put, arrive) = calls;
        drop((acquire.await.unwrap(), arrive.await.unwrap()));
        assert_eq!(all.await.unwrap().len(), 1);
        put.await.unwrap();
        assert_eq!(queue.len().await.unwrap(), 1);
        assert!(latch.status().await.unwrap().is_open());
    });
}

#[test]
fn calls_outlive_their_proxies_and_move_to_tasks_and_threads() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let acquire = manager.lock().await.unwrap().acquire();
        let permit = manager.semaphore(1).await.unwrap().acquire();
        let get = manager.queue::<u32>(1).await.unwrap().try_get();
        let value = manager
            .value(1)
            .await
            .unwrap()
            .wait_for(|value| *value == 1);
        let spawned = tokio::spawn(acquire);
        let blocked = spawn_blocking(move || permit.timeout(Duration::from_secs(60)).blocking());
        drop(spawned.await.unwrap().unwrap());
        drop(blocked.await.unwrap().unwrap());
        assert!(get.await.unwrap().is_none());
        assert_eq!(value.await.unwrap().value, 1);
    });
}

#[test]
fn call_that_is_dropped_after_a_poll_is_withdrawn() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let queue = manager.queue::<u32>(1).await.unwrap();
        let event = manager.event().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        assert!(lock.acquire().now_or_never().is_none());
        assert!(queue.get().now_or_never().is_none());
        assert!(event.wait().now_or_never().is_none());
        assert_eq!(lock.status().await.unwrap().waiting, 0);
        assert_eq!(event.status().await.unwrap().waiting, 0);
        queue.put(1).await.unwrap();
        assert_eq!(queue.len().await.unwrap(), 1, "no call waits for the item");
        drop(guard);
    });
}

//! Runtimes without I/O and without timers.

use std::{thread, time::Duration};

use lockkeeper::{Manager, Pool, block_on};
use lockkeeper_test_support::{Watchdog, in_own_process};
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

use crate::{pool::Square, program};

fn bare() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

#[test]
fn calls_work_on_a_runtime_without_io() {
    in_own_process(|| {
        let manager = block_on(Manager::start()).unwrap();
        let address = manager.address().clone();
        let lock = block_on(manager.lock()).unwrap();
        let queue = block_on(manager.queue(1)).unwrap();
        let guard = block_on(lock.acquire()).unwrap();
        for _ in 0..2 {
            bare().block_on(async {
                let late = lock.acquire().timeout(Duration::from_millis(1)).await;
                assert!(late.unwrap_err().is_timeout());
                drop(manager.named("a").lock().await.unwrap().acquire().await);
                manager.inspect().await.unwrap();
                let (put, got) = tokio::join!(queue.put(7), queue.get());
                put.unwrap();
                assert_eq!(*got.unwrap(), 7);
                Manager::connect(address.clone()).await.unwrap();
                Manager::start().await.unwrap().shutdown().await;
            });
        }
        // A waiter there is woken by a release elsewhere.
        bare().block_on(async {
            let waiter = tokio::spawn(lock.acquire());
            while lock.status().await.unwrap().waiting == 0 {}
            thread::spawn(|| drop(guard)).join().unwrap();
            drop(waiter.await.unwrap().unwrap());
        });
        drop(block_on(lock.acquire()).unwrap());
    });
}

#[test]
fn pool_works_on_a_runtime_without_io() {
    program();
    let _watchdog = Watchdog::start();
    bare().block_on(async {
        let pool = Pool::new(1).await.unwrap();
        assert_eq!(pool.apply(Square(3)).await, Ok(9));
        pool.join().await.unwrap();
    });
}

#[test]
fn permits_are_released_on_a_runtime_without_io() {
    in_own_process(|| {
        let manager = block_on(Manager::start()).unwrap();
        let permits = block_on(manager.semaphore(2)).unwrap();
        let both = block_on(permits.acquire_many(2)).unwrap();
        bare().block_on(both.release()).unwrap();
        assert_eq!(permits.status().blocking().unwrap().available, 2);
    });
}

#[test]
fn manager_in_memory_says_that_its_runtime_has_no_timers() {
    in_own_process(|| {
        let in_memory = Manager::in_memory(async |_| ());
        let refused = LocalSet::new().block_on(&bare(), in_memory);
        let told = refused.unwrap_err().to_string();
        assert!(
            told.contains("has no timers") && told.contains("enable_all()"),
            "{told}"
        );
    });
}

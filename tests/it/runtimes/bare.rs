//! Runtimes without I/O and without timers.

use std::{fmt::Display, time::Duration};

use lockkeeper::{CallError, Manager, Pool, StartError, block_on};
use lockkeeper_test_support::in_own_process;
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

fn bare() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Checks that an error says how to build the runtime.
fn says<E: Display>(error: &E, what: &str) {
    let told = error.to_string();
    assert!(
        told.contains(what) && told.contains("enable_all()"),
        "{told}"
    );
}

fn is_refused<T>(outcome: Result<T, CallError>) {
    let error = outcome.map(drop).unwrap_err();
    assert!(matches!(error, CallError::Runtime(_)), "{error:?}");
    says(&error, "has no I/O");
}

#[test]
fn call_on_a_runtime_without_io_is_an_error_that_says_what_to_build() {
    in_own_process(|| {
        let manager = block_on(Manager::start()).unwrap();
        let address = manager.address().clone();
        let lock = block_on(manager.lock()).unwrap();
        let queue = block_on(manager.queue(1)).unwrap();
        let guard = block_on(lock.acquire()).unwrap();
        for _ in 0..2 {
            bare().block_on(async {
                is_refused(lock.acquire().await);
                is_refused(lock.acquire().timeout(Duration::from_millis(1)).await);
                is_refused(manager.named("a").lock().await);
                is_refused(manager.inspect().await);
                is_refused(queue.put(7).await.map_err(CallError::from));
                let pool = Pool::new(1).await;
                assert!(
                    matches!(&pool, Err(StartError::Call(CallError::Runtime(_)))),
                    "{pool:?}"
                );
                // What needs no stream of this runtime works.
                Manager::connect(address.clone()).await.unwrap();
                Manager::start().await.unwrap().shutdown().await;
            });
        }
        // Nothing was sent, and what is dropped there is released.
        assert_eq!(queue.len().blocking(), Ok(0));
        bare().block_on(async { drop(guard) });
        drop(block_on(lock.acquire()).unwrap());
    });
}

#[test]
fn manager_in_memory_says_that_its_runtime_has_no_timers() {
    in_own_process(|| {
        let in_memory = Manager::in_memory(async |_| ());
        let refused = LocalSet::new().block_on(&bare(), in_memory);
        says(&refused.unwrap_err(), "has no timers");
    });
}

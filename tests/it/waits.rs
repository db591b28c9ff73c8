//! Waits of all kinds: when the manager is killed or shut down, and with zero and very long
//! timeouts.

pub(crate) mod calls;
pub(crate) mod objects;
pub(crate) mod queue_and_value;
pub(crate) mod rw_lock_and_latch;

use std::time::Duration;

use futures::future::join_all;
use lockkeeper::{Blocking, BlockingTask, CallError, Manager, Pool, Task, builders::Program};
use lockkeeper_test_support::kill;
use serde::{Deserialize, Serialize};

use crate::{
    manager::process::pid_of,
    run,
    waits::objects::{HOUR, Objects, Outcome},
};

/// Waits in every way in one task of a pool.
#[derive(Debug, Serialize, Deserialize)]
struct Awaits(Objects);

impl Task for Awaits {
    const NAME: &'static str = "waits::awaits";
    type Output = Vec<(String, Outcome)>;

    async fn run(self) -> Self::Output {
        let waits = [None, Some(HOUR)].map(|timeout| self.0.waits(timeout));
        let waits = waits.into_iter().flatten();
        let waits = waits.map(|(what, wait)| async move { (what.to_owned(), wait.await) });
        join_all(waits).await
    }
}

/// As `Awaits`, on blocked threads.
#[derive(Debug, Serialize, Deserialize)]
struct Blocks(Objects);

impl BlockingTask for Blocks {
    const NAME: &'static str = "waits::blocks";
    type Output = Vec<(String, Outcome)>;

    fn run(self) -> Self::Output {
        let waits = self.0.blocked().into_iter().enumerate();
        let waits = waits.map(|(place, wait)| {
            let shown = wait.join().expect("no wait panics");
            (place.to_string(), shown)
        });
        waits.collect()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Awaits>().task::<Blocking<Blocks>>()
}

/// Returns whether a call failed because the connection to the manager was lost.
pub(crate) fn is_disconnected<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Disconnected { .. }))
}

#[track_caller]
fn assert_disconnected(what: &str, shown: &Outcome) {
    assert!(is_disconnected(shown), "to {what}: {shown:?}");
}

#[test]
fn waits_fail_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let doomed = pid_of(&manager).await;
        let (objects, _reader) = Objects::set(&manager).await;
        let pool = Pool::new(2).await.unwrap();
        let awaits = pool.spawn(Awaits(objects.clone()));
        let blocks = pool.spawn(Blocking(Blocks(objects.clone())));
        let waits = [None, Some(HOUR)].map(|timeout| objects.waits(timeout));
        let waits = waits.into_iter().flatten();
        let waits: Vec<_> = waits
            .map(|(what, wait)| (what, tokio::spawn(wait)))
            .collect();
        let blocked = objects.blocked();
        objects.until_waiting(8).await;
        kill(doomed);
        for (what, wait) in waits {
            assert_disconnected(what, &wait.await.unwrap());
        }
        for (place, wait) in blocked.into_iter().enumerate() {
            assert_disconnected(&place.to_string(), &wait.join().unwrap());
        }
        for shown in [awaits.await.unwrap(), blocks.await.unwrap()] {
            assert_eq!(shown.len(), 30);
            for (what, shown) in shown {
                assert_disconnected(&what, &shown);
            }
        }
        for (what, wait) in objects.waits(None) {
            assert_disconnected(what, &wait.await);
        }
    });
}

#[test]
fn calls_after_a_shutdown_fail_at_once() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (objects, _reader) = Objects::set(&manager).await;
        manager.shutdown().await;
        for timeout in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            for (what, wait) in objects.waits(timeout) {
                assert_disconnected(what, &wait.await);
            }
        }
    });
}

#[test]
fn timeouts_beyond_the_clock_never_end() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (objects, reader) = Objects::set(&manager).await;
        // More microseconds than the protocol can encode, more than the clock can count, and fewer.
        let times = [
            Duration::MAX,
            Duration::from_micros(u64::MAX),
            Duration::from_secs(1 << 40),
        ];
        let waits = times.map(|time| objects.waits(Some(time)));
        let waits = waits.into_iter().flatten();
        let waits: Vec<_> = waits
            .map(|(what, wait)| (what, tokio::spawn(wait)))
            .collect();
        objects.until_waiting(3).await;
        objects.grant_all(reader).await;
        for (what, wait) in waits {
            let is_at_barrier = what == "pass the barrier";
            let shown = wait.await.unwrap();
            assert_eq!(shown.is_err(), is_at_barrier, "to {what}: {shown:?}");
        }
    });
}

#[test]
fn zero_timeouts_end_at_once_and_hold_nothing() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (objects, reader) = Objects::set(&manager).await;
        for (what, wait) in objects.waits(Some(Duration::ZERO)) {
            // For a sleeper a timeout is not an error, and it holds the lock again.
            let sleeps = what == "be notified";
            let shown = if sleeps {
                Ok(())
            } else {
                Err(CallError::timed_out())
            };
            assert_eq!(wait.await, shown, "to {what}");
        }
        objects.barrier.reset().await.unwrap();
        objects.until_waiting(0).await;
        objects.grant_all(reader).await;
        // The earlier waits that timed out have left no state.
        for (what, wait) in objects.waits(Some(Duration::ZERO)) {
            let (is_at_barrier, shown) = (what == "pass the barrier", wait.await);
            assert_eq!(shown.is_err(), is_at_barrier, "to {what}: {shown:?}");
        }
    });
}

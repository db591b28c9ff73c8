//! Waits of all kinds: when the manager is killed or shut down, and with timeouts of zero and of
//! ages.

pub(crate) mod calls;
pub(crate) mod queue_and_value;
pub(crate) mod rw_lock_and_latch;
pub(crate) mod scene;

use std::time::Duration;

use futures::future::join_all;
use lockkeeper::{CallError, Manager, PlainTask, Pool, Task, builders::Program, proxies::Plain};
use lockkeeper_test_support::kill;
use serde::{Deserialize, Serialize};

use crate::{
    manager::process::pid_of,
    run,
    waits::scene::{FAR, Scene, Told},
};

/// Waits in every way, in one task of a pool.
#[derive(Debug, Serialize, Deserialize)]
struct Awaits(Scene);

impl Task for Awaits {
    const NAME: &'static str = "waits::awaits";
    type Output = Vec<(String, Told)>;

    async fn run(self) -> Self::Output {
        let waits = [None, Some(FAR)].map(|timeout| self.0.waits(timeout));
        let waits = waits.into_iter().flatten();
        let waits = waits.map(|(what, wait)| async move { (what.to_owned(), wait.await) });
        join_all(waits).await
    }
}

/// The same on threads that are blocked.
#[derive(Debug, Serialize, Deserialize)]
struct Blocks(Scene);

impl PlainTask for Blocks {
    const NAME: &'static str = "waits::blocks";
    type Output = Vec<(String, Told)>;

    fn run(self) -> Self::Output {
        let waits = self.0.blocked().into_iter().enumerate();
        let waits = waits.map(|(place, wait)| {
            let told = wait.join().expect("no wait panics");
            (place.to_string(), told)
        });
        waits.collect()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Awaits>().task::<Plain<Blocks>>()
}

/// Whether a call has failed since the connection to the manager is lost.
pub(crate) fn is_disconnected<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Disconnected { .. }))
}

#[track_caller]
fn assert_disconnected(what: &str, told: &Told) {
    assert!(is_disconnected(told), "to {what}: {told:?}");
}

#[test]
fn all_who_wait_are_told_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let doomed = pid_of(&manager).await;
        let (scene, _reader) = Scene::set(&manager).await;
        let pool = Pool::new(2).await.unwrap();
        let awaits = pool.spawn(Awaits(scene.clone()));
        let blocks = pool.spawn(Plain(Blocks(scene.clone())));
        let waits = [None, Some(FAR)].map(|timeout| scene.waits(timeout));
        let waits = waits.into_iter().flatten();
        let waits: Vec<_> = waits
            .map(|(what, wait)| (what, tokio::spawn(wait)))
            .collect();
        let blocked = scene.blocked();
        scene.until_waiting(8).await;
        kill(doomed);
        for (what, wait) in waits {
            assert_disconnected(what, &wait.await.unwrap());
        }
        for (place, wait) in blocked.into_iter().enumerate() {
            assert_disconnected(&place.to_string(), &wait.join().unwrap());
        }
        for told in [awaits.await.unwrap(), blocks.await.unwrap()] {
            assert_eq!(told.len(), 30);
            for (what, told) in told {
                assert_disconnected(&what, &told);
            }
        }
        for (what, wait) in scene.waits(None) {
            assert_disconnected(what, &wait.await);
        }
    });
}

#[test]
fn calls_after_a_shutdown_fail_at_once() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (scene, _reader) = Scene::set(&manager).await;
        manager.shutdown().await;
        for timeout in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            for (what, wait) in scene.waits(timeout) {
                assert_disconnected(what, &wait.await);
            }
        }
    });
}

#[test]
fn times_too_long_to_be_counted_never_end() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (scene, reader) = Scene::set(&manager).await;
        // More microseconds than the wire can say, more than a clock can count, and less.
        let times = [
            Duration::MAX,
            Duration::from_micros(u64::MAX),
            Duration::from_secs(1 << 40),
        ];
        let waits = times.map(|time| scene.waits(Some(time)));
        let waits = waits.into_iter().flatten();
        let waits: Vec<_> = waits
            .map(|(what, wait)| (what, tokio::spawn(wait)))
            .collect();
        scene.until_waiting(3).await;
        scene.let_all_in(reader).await;
        for (what, wait) in waits {
            let is_at_barrier = what == "pass the barrier";
            let told = wait.await.unwrap();
            assert_eq!(told.is_err(), is_at_barrier, "to {what}: {told:?}");
        }
    });
}

#[test]
fn times_of_zero_end_at_once_and_hold_nothing() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (scene, reader) = Scene::set(&manager).await;
        for (what, wait) in scene.waits(Some(Duration::ZERO)) {
            // The end of the time is no error to who sleeps, and has the lock again.
            let sleeps = what == "be notified";
            let told = if sleeps {
                Ok(())
            } else {
                Err(CallError::timed_out())
            };
            assert_eq!(wait.await, told, "to {what}");
        }
        scene.barrier.reset().await.unwrap();
        scene.until_waiting(0).await;
        scene.let_all_in(reader).await;
        // The earlier waits that timed out leave nothing behind.
        for (what, wait) in scene.waits(Some(Duration::ZERO)) {
            let (is_at_barrier, told) = (what == "pass the barrier", wait.await);
            assert_eq!(told.is_err(), is_at_barrier, "to {what}: {told:?}");
        }
    });
}

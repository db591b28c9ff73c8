//! What all waits have in common: the death of the manager, and times that are absurd.

#[path = "support/family.rs"]
mod family;
#[path = "support/signals.rs"]
mod signals;
mod support;
#[path = "support/until.rs"]
mod until;

use std::{future::Future, thread, time::Duration};

use family::child;
use futures::{FutureExt, future::BoxFuture};
use lockkeeper::{
    ActionError, Barrier, CallError, Condition, ConditionGuard, Event, Manager, Owner,
    ReentrantLock,
};
use signals::kill;
use until::until;

fn program() {
    lockkeeper::program().in_test("children");
}

fn run<F: Future>(test: F) -> F::Output {
    program();
    support::run(test)
}

#[test]
fn children() {
    program();
}

/// An object of each kind whose waits are not those of a plain lock, and nobody can be let in.
struct Scene {
    reentrant: ReentrantLock,
    event: Event,
    condition: Condition,
    barrier: Barrier,
}

impl Scene {
    async fn set(manager: &Manager) -> Self {
        let reentrant = manager.reentrant_lock().await.unwrap();
        let guard = reentrant.owned_by(Owner::new()).acquire().await.unwrap();
        // It is held for good.
        drop(guard.into_ticket());
        Self {
            reentrant,
            event: manager.event().await.unwrap(),
            condition: manager.condition().await.unwrap(),
            barrier: manager.barrier(u32::MAX).await.unwrap(),
        }
    }

    /// Waits until so many wait at each of them.
    async fn until_waiting(&self, waiting: u64) {
        until("all wait", || async {
            let counts = [
                self.reentrant.status().await.unwrap().waiting,
                self.event.status().await.unwrap().waiting,
                self.condition.sleepers().await.unwrap(),
                self.barrier.status().await.unwrap().arrived,
            ];
            counts == [waiting; 4]
        })
        .await;
    }

    /// A wait at each, without a timeout or with one.
    fn waits(&self, timeout: Option<Duration>) -> [BoxFuture<'static, Result<(), CallError>>; 4] {
        let (reentrant, event) = (self.reentrant.clone(), self.event.clone());
        let (condition, barrier) = (self.condition.clone(), self.barrier.clone());
        [
            async move {
                match timeout {
                    None => reentrant.acquire().await.map(drop),
                    Some(timeout) => reentrant.acquire_timeout(timeout).await.map(drop),
                }
            }
            .boxed(),
            async move {
                match timeout {
                    None => event.wait().await.map(drop),
                    Some(timeout) => event.wait_timeout(timeout).await.map(drop),
                }
            }
            .boxed(),
            async move {
                let guard = condition.acquire().await?;
                match timeout {
                    None => condition.wait(guard).await.map(drop),
                    Some(timeout) => condition.wait_timeout(guard, timeout).await.map(drop),
                }
            }
            .boxed(),
            async move {
                match timeout {
                    None => barrier.wait().await.map(drop),
                    Some(timeout) => barrier.wait_timeout(timeout).await.map(drop),
                }
            }
            .boxed(),
        ]
    }

    /// The waits of plain threads, each in all its forms.
    fn blocked(&self) -> Vec<thread::JoinHandle<Result<(), CallError>>> {
        type Wait = Box<dyn FnOnce(&Scene) -> Result<(), CallError> + Send>;
        fn failed(error: ActionError<()>) -> CallError {
            match error {
                ActionError::Call(error) => error,
                ActionError::Failed(()) => panic!("no action fails"),
            }
        }
        const FAR: Duration = Duration::from_secs(3600);
        let guard = |scene: &Self| -> Result<ConditionGuard, CallError> {
            scene.condition.blocking_acquire()
        };
        let waits: Vec<Wait> = vec![
            Box::new(|scene| scene.reentrant.blocking_acquire().map(drop)),
            Box::new(|scene| scene.reentrant.blocking_acquire_timeout(FAR).map(drop)),
            Box::new(|scene| scene.event.blocking_wait_since(0).map(drop)),
            Box::new(|scene| scene.event.blocking_wait_since_timeout(0, FAR).map(drop)),
            Box::new(move |scene| {
                let guard = guard(scene)?;
                scene
                    .condition
                    .blocking_wait_while(guard, || true)
                    .map(drop)
            }),
            Box::new(move |scene| {
                let guard = guard(scene)?;
                let condition = &scene.condition;
                let waited = condition.blocking_wait_while_timeout(guard, FAR, || true);
                waited.map(drop)
            }),
            Box::new(|scene| {
                let waited = scene.barrier.blocking_wait_with(|| Ok(()));
                waited.map(drop).map_err(failed)
            }),
            Box::new(|scene| {
                let waited = scene.barrier.blocking_wait_with_timeout(FAR, || Ok(()));
                waited.map(drop).map_err(failed)
            }),
        ];
        let waits = waits.into_iter().map(|wait| {
            let scene = Self {
                reentrant: self.reentrant.clone(),
                event: self.event.clone(),
                condition: self.condition.clone(),
                barrier: self.barrier.clone(),
            };
            thread::spawn(move || wait(&scene))
        });
        waits.collect()
    }
}

#[test]
fn all_who_wait_are_told_when_the_manager_is_killed() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let scene = Scene::set(&manager).await;
        let waits = [None, Some(Duration::from_secs(3600))].map(|timeout| scene.waits(timeout));
        let waits: Vec<_> = waits.into_iter().flatten().map(tokio::spawn).collect();
        let blocked = scene.blocked();
        scene.until_waiting(4).await;
        kill(child());
        for wait in waits {
            let told = wait.await.unwrap();
            assert!(
                matches!(told, Err(CallError::Disconnected { .. })),
                "{told:?}"
            );
        }
        for wait in blocked {
            let told = wait.join().unwrap();
            assert!(
                matches!(told, Err(CallError::Disconnected { .. })),
                "{told:?}"
            );
        }
        for wait in scene.waits(None) {
            let told = wait.await;
            assert!(
                matches!(told, Err(CallError::Disconnected { .. })),
                "{told:?}"
            );
        }
    });
}

#[test]
fn calls_after_a_shutdown_fail_at_once() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let scene = Scene::set(&manager).await;
        manager.shutdown().await;
        for timeout in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            for wait in scene.waits(timeout) {
                let told = wait.await;
                assert!(
                    matches!(told, Err(CallError::Disconnected { .. })),
                    "{told:?}"
                );
            }
        }
    });
}

#[test]
fn times_too_long_to_be_counted_never_end() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let scene = Scene::set(&manager).await;
        // More microseconds than the wire can say, more than a clock can count, and less.
        let times = [
            Duration::MAX,
            Duration::from_micros(u64::MAX),
            Duration::from_secs(1 << 40),
        ];
        let waits = times.map(|time| scene.waits(Some(time)));
        let waits: Vec<_> = waits.into_iter().flatten().map(tokio::spawn).collect();
        scene.until_waiting(3).await;
        scene.event.set().await.unwrap();
        let guard = scene.condition.acquire().await.unwrap();
        assert_eq!(scene.condition.notify_all(&guard).await, Ok(3));
        drop(guard);
        scene.barrier.abort().await.unwrap();
        scene.reentrant.force_unlock().await.unwrap();
        for (place, wait) in waits.into_iter().enumerate() {
            let is_at_barrier = place % 4 == 3;
            assert_eq!(wait.await.unwrap().is_err(), is_at_barrier, "{place}");
        }
    });
}

#[test]
fn times_of_zero_end_at_once_and_hold_nothing() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let scene = Scene::set(&manager).await;
        let [reentrant, event, condition, barrier] = scene.waits(Some(Duration::ZERO));
        for wait in [reentrant, event, barrier] {
            assert_eq!(wait.await, Err(CallError::TimedOut));
        }
        // The end of the time is no error to who sleeps, and has the lock again.
        assert_eq!(condition.await, Ok(()));
        scene.barrier.reset().await.unwrap();
        scene.until_waiting(0).await;
    });
}

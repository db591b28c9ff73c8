//! All waits of all kinds, from inside tasks of a pool: async tasks, and plain ones that block.

mod support;

use std::{convert::Infallible, future::Future, time::Duration};

use lockkeeper::{
    Barrier, BoundedSemaphore, CallError, Condition, Event, Lock, Manager, Plain, PlainTask, Pool,
    ReentrantLock, Semaphore, Task, Wake,
};
use serde::{Deserialize, Serialize};

/// Too short for anything to happen.
const SHORT: Duration = Duration::from_millis(5);

/// An object of each kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scene {
    lock: Lock,
    reentrant: ReentrantLock,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    event: Event,
    condition: Condition,
    barrier: Barrier,
}

impl Scene {
    async fn set(manager: &Manager) -> Self {
        Self {
            lock: manager.lock().await.unwrap(),
            reentrant: manager.reentrant_lock().await.unwrap(),
            semaphore: manager.semaphore(1).await.unwrap(),
            bounded: manager.bounded_semaphore(1).await.unwrap(),
            event: manager.event().await.unwrap(),
            condition: manager.condition().await.unwrap(),
            barrier: manager.barrier(2).await.unwrap(),
        }
    }
}

/// Waits in every way there is, and meets another task at the barrier.
#[derive(Debug, Serialize, Deserialize)]
struct Awaits(Scene);

impl Task for Awaits {
    const NAME: &'static str = "awaits";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let scene = self.0;
        drop(scene.lock.acquire_timeout(Duration::MAX).await?);
        let outer = scene.reentrant.acquire().await?;
        drop(scene.reentrant.try_acquire().await?);
        drop(outer);
        drop(scene.semaphore.acquire_many(1).await?);
        drop(scene.bounded.acquire().await?);
        let set = scene.event.wait_since(0).await?;
        let guard = scene.condition.acquire().await?;
        let time = scene
            .condition
            .wait_while_timeout(guard, SHORT, || true)
            .await?;
        assert_eq!(time.1, Wake::TimedOut);
        drop(time);
        let act = async || Ok::<(), Infallible>(());
        scene.barrier.wait_with(act).await?;
        Ok(set)
    }
}

/// The same on a thread that may be blocked.
#[derive(Debug, Serialize, Deserialize)]
struct Blocks(Scene);

impl PlainTask for Blocks {
    const NAME: &'static str = "blocks";
    type Output = Result<u64, CallError>;

    fn run(self) -> Self::Output {
        let scene = self.0;
        drop(scene.lock.blocking_acquire_timeout(Duration::MAX)?);
        let outer = scene.reentrant.blocking_acquire()?;
        drop(scene.reentrant.blocking_try_acquire()?);
        drop(outer);
        drop(scene.semaphore.blocking_acquire()?);
        drop(scene.bounded.blocking_acquire()?);
        let set = scene.event.blocking_wait_since_timeout(0, Duration::MAX)?;
        let guard = scene.condition.blocking_acquire()?;
        let time = scene
            .condition
            .blocking_wait_while_timeout(guard, SHORT, || true)?;
        assert_eq!(time.1, Wake::TimedOut);
        drop(time);
        let act = || Ok::<(), Infallible>(());
        scene
            .barrier
            .blocking_wait_with_timeout(Duration::MAX, act)?;
        Ok(set)
    }
}

fn program() {
    lockkeeper::program()
        .task::<Awaits>()
        .task::<Plain<Blocks>>()
        .in_test("children");
}

fn run<F: Future>(test: F) -> F::Output {
    program();
    support::run(test)
}

#[test]
fn children() {
    program();
}

#[test]
fn async_and_plain_tasks_wait_for_every_kind() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let scene = Scene::set(&manager).await;
        let pool = Pool::new(2).await.unwrap();
        for _ in 0..5 {
            let awaits = pool.spawn(Awaits(scene.clone()));
            let blocks = pool.spawn(Plain(Blocks(scene.clone())));
            let set = scene.event.set().await.unwrap();
            for told in [awaits.await.unwrap(), blocks.await.unwrap()] {
                assert!((1..=set).contains(&told.unwrap()));
            }
        }
        assert_eq!(scene.barrier.status().await.unwrap().generation, 5);
    });
}

//! All waits of all kinds in tasks of a pool: async tasks and blocking tasks.

use std::{convert::Infallible, time::Duration};

use lockkeeper::{
    Barrier, Blocking, BlockingTask, BoundedSemaphore, CallError, Condition, Event, KeyedLock,
    KeyedSemaphore, Latch, Lock, Manager, Pool, Queue, ReentrantLock, RwLock, Semaphore, Task,
    Value, builders::Program, lock_all,
};
use serde::{Deserialize, Serialize};

use crate::run;

/// A timeout that always ends before an event.
const SHORT: Duration = Duration::from_millis(5);

/// An object of each kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Objects {
    lock: Lock,
    reentrant: ReentrantLock,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    event: Event,
    condition: Condition,
    barrier: Barrier,
    rw_lock: RwLock,
    /// Counts both tasks of a round.
    latch: Latch,
    keyed: KeyedLock,
    keyed_semaphore: KeyedSemaphore,
    several: [Lock; 2],
    queue: Queue<u64>,
    value: Value<u64>,
}

impl Objects {
    async fn set(manager: &Manager) -> Self {
        Self {
            lock: manager.lock().await.unwrap(),
            reentrant: manager.reentrant_lock().await.unwrap(),
            semaphore: manager.semaphore(1).await.unwrap(),
            bounded: manager.bounded_semaphore(1).await.unwrap(),
            event: manager.event().await.unwrap(),
            condition: manager.condition().await.unwrap(),
            barrier: manager.barrier(2).await.unwrap(),
            rw_lock: manager.rw_lock().await.unwrap(),
            latch: manager.latch(2).await.unwrap(),
            keyed: manager.keyed_lock().await.unwrap(),
            keyed_semaphore: manager.keyed_semaphore(2).await.unwrap(),
            several: [manager.lock().await.unwrap(), manager.lock().await.unwrap()],
            queue: manager.queue(1).await.unwrap(),
            value: manager.value(0).await.unwrap(),
        }
    }
}

/// Waits in every way, and passes the barrier with another task.
#[derive(Debug, Serialize, Deserialize)]
struct Awaits(Objects);

impl Task for Awaits {
    const NAME: &'static str = "pool::waits::awaits";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let objects = self.0;
        drop(objects.lock.acquire().timeout(Duration::MAX).await?);
        let outer = objects.reentrant.acquire().await?;
        drop(objects.reentrant.try_acquire().await?);
        drop(outer);
        drop(objects.semaphore.acquire_many(1).await?);
        drop(objects.bounded.acquire().await?);
        let set = objects.event.wait_since(0).await?;
        let guard = objects.condition.acquire().await?;
        let time = objects
            .condition
            .wait_while(guard, || true)
            .timeout(SHORT)
            .await?;
        assert!(time.timed_out());
        drop(time);
        let act = async || Ok::<(), Infallible>(());
        objects.barrier.wait_with(act).await?;
        Ok(set + objects.awaits_more().await?)
    }
}

impl Objects {
    /// Waits for the readers-writer lock, the keyed kinds, several locks, and data.
    async fn awaits_more(&self) -> Result<u64, CallError> {
        drop(self.rw_lock.read().await?);
        let reader = self.rw_lock.upgradable_read().await?;
        drop(reader.upgrade().await?);
        drop(self.rw_lock.write().timeout(Duration::MAX).await?);
        drop(self.keyed.acquire("key").await?);
        drop(lock_all(["lock", "key"].map(|key| (&self.keyed, key))).await?);
        drop(self.keyed_semaphore.acquire_many("key", 2).await?);
        drop(lock_all(&self.several).await?);
        self.latch.arrive_and_wait(1).await?;
        self.queue.put(1).await?;
        let item = self.queue.get().await?.done().await?;
        self.queue.join().await?;
        let seen = self.value.wait_for(|number| *number > 0).await?;
        Ok(item + seen.value)
    }

    /// The same waits on a thread that may be blocked.
    fn blocks_more(&self) -> Result<u64, CallError> {
        drop(self.rw_lock.read().timeout(Duration::MAX).blocking()?);
        let reader = self.rw_lock.upgradable_read().blocking()?;
        drop(reader.upgrade().blocking()?);
        drop(self.rw_lock.write().blocking()?);
        drop(
            self.keyed
                .acquire("key")
                .timeout(Duration::MAX)
                .blocking()?,
        );
        drop(lock_all(["key", "lock"].map(|key| (&self.keyed, key))).blocking()?);
        drop(self.keyed_semaphore.acquire("key").blocking()?);
        let [first, second] = &self.several;
        drop(lock_all([second, first]).blocking()?);
        self.latch.arrive_and_wait(1).blocking()?;
        self.queue.put(1).blocking()?;
        let item = self
            .queue
            .get()
            .timeout(Duration::MAX)
            .blocking()?
            .into_inner();
        self.queue.join().blocking()?;
        let seen = self.value.wait_since(0).blocking()?;
        Ok(item + seen.value)
    }
}

/// The same waits on a thread that may be blocked.
#[derive(Debug, Serialize, Deserialize)]
struct Blocks(Objects);

impl BlockingTask for Blocks {
    const NAME: &'static str = "pool::waits::blocks";
    type Output = Result<u64, CallError>;

    fn run(self) -> Self::Output {
        let objects = self.0;
        drop(objects.lock.acquire().timeout(Duration::MAX).blocking()?);
        let outer = objects.reentrant.acquire().blocking()?;
        drop(objects.reentrant.try_acquire().blocking()?);
        drop(outer);
        drop(objects.semaphore.acquire().blocking()?);
        drop(objects.bounded.acquire().blocking()?);
        let set = objects
            .event
            .wait_since(0)
            .timeout(Duration::MAX)
            .blocking()?;
        let guard = objects.condition.acquire().blocking()?;
        let time = objects
            .condition
            .wait_while(guard, || true)
            .timeout(SHORT)
            .blocking()?;
        assert!(time.timed_out());
        drop(time);
        let act = async || Ok::<(), Infallible>(());
        objects
            .barrier
            .wait_with(act)
            .timeout(Duration::MAX)
            .blocking()?;
        Ok(set + objects.blocks_more()?)
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Awaits>().task::<Blocking<Blocks>>()
}

#[test]
fn async_and_plain_tasks_wait_for_every_kind() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let mut objects = Objects::set(&manager).await;
        let pool = Pool::new(2).await.unwrap();
        for round in 1..=5 {
            objects.latch = manager.latch(2).await.unwrap();
            objects.value = manager.value(0).await.unwrap();
            let awaits = pool.spawn(Awaits(objects.clone()));
            let blocks = pool.spawn(Blocking(Blocks(objects.clone())));
            let set = objects.event.set().await.unwrap();
            objects.value.set(round).await.unwrap();
            for shown in [awaits.await.unwrap(), blocks.await.unwrap()] {
                // The event was set at least once, and each task has taken an item with the number
                // one.
                let event = shown.unwrap() - 1 - round;
                assert!((1..=set).contains(&event), "{event} of {set}");
            }
            assert!(objects.latch.status().await.unwrap().is_open());
            assert_eq!(objects.queue.len().await.unwrap(), 0);
        }
        assert_eq!(objects.barrier.status().await.unwrap().generation, 5);
    });
}

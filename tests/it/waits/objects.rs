//! An object of each kind except the plain lock, in a state in which every call has to wait.

use std::{future::Future, mem, thread, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use lockkeeper::{
    Barrier, CallError, Condition, Event, KeyedLock, KeyedSemaphore, Latch, Lock, Manager, Owner,
    Queue, ReentrantLock, RwLock, RwLockReadGuard, Value, errors::ActionError, lock_all, lock_some,
};
use lockkeeper_test_support::until;
use serde::{Deserialize, Serialize};

/// A timeout that never ends in a test.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The held key.
pub(crate) const KEY: &str = "key";

/// The outcome of a wait.
pub(crate) type Outcome = Result<(), CallError>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Objects {
    pub(crate) reentrant: ReentrantLock,
    pub(crate) event: Event,
    pub(crate) condition: Condition,
    pub(crate) barrier: Barrier,
    pub(crate) written: RwLock,
    /// It has a reader, so no upgrade is granted.
    pub(crate) read: RwLock,
    pub(crate) latch: Latch,
    pub(crate) keyed: KeyedLock,
    pub(crate) keyed_semaphore: KeyedSemaphore,
    /// One of these is held and one is free.
    pub(crate) several: [Lock; 2],
    pub(crate) empty: Queue<u32>,
    pub(crate) full: Queue<u32>,
    pub(crate) value: Value<u32>,
}

impl Objects {
    /// Makes all objects, and returns them with the guard of the reader.
    pub(crate) async fn set(manager: &Manager) -> (Self, RwLockReadGuard) {
        let reentrant = manager.reentrant_lock().await.unwrap();
        let guard = reentrant.owned_by(Owner::new()).acquire().await.unwrap();
        // A hold whose ticket is dropped lasts until its session ends.
        drop(guard.into_ticket());
        let held = manager.lock().await.unwrap();
        drop(held.acquire().await.unwrap().into_ticket());
        let written = manager.rw_lock().await.unwrap();
        mem::forget(written.write().await.unwrap());
        let read = manager.rw_lock().await.unwrap();
        let reader = read.read().await.unwrap();
        let keyed = manager.keyed_lock().await.unwrap();
        drop(keyed.acquire(KEY).await.unwrap().into_ticket());
        let keyed_semaphore = manager.keyed_semaphore(2).await.unwrap();
        let permits = keyed_semaphore.acquire_many(KEY, 2).await.unwrap();
        drop(permits.into_ticket());
        let full = manager.queue(1).await.unwrap();
        full.put(0).await.unwrap();
        let objects = Self {
            reentrant,
            event: manager.event().await.unwrap(),
            condition: manager.condition().await.unwrap(),
            barrier: manager.barrier(u32::MAX).await.unwrap(),
            written,
            read,
            latch: manager.latch(1).await.unwrap(),
            keyed,
            keyed_semaphore,
            several: [held, manager.lock().await.unwrap()],
            empty: manager.queue(1).await.unwrap(),
            full,
            value: manager.value(0).await.unwrap(),
        };
        (objects, reader)
    }

    /// Waits until the given number of calls wait in each way.
    pub(crate) async fn until_waiting(&self, waiting: u64) {
        until("all wait", || async {
            let full = self.full.status().await.unwrap();
            // A caller that waits for the second lock may hold the first one.
            let [first, second] = &self.several;
            let (first, second) = (first.status().await, second.status().await);
            let counts = [
                self.reentrant.status().await.unwrap().waiting,
                self.event.status().await.unwrap().waiting,
                self.condition.sleepers().await.unwrap(),
                self.barrier.status().await.unwrap().arrived,
                // At this lock one call waits to read and another one waits to write.
                self.written.status().await.unwrap().waiting / 2,
                self.written.status().await.unwrap().waiting.div_ceil(2),
                self.read.status().await.unwrap().waiting,
                self.latch.status().await.unwrap().waiting,
                self.keyed.status().await.unwrap().waiting,
                self.keyed_semaphore.status().await.unwrap().waiting,
                first.unwrap().waiting + second.unwrap().waiting,
                self.empty.status().await.unwrap().getting,
                full.putting,
                full.joining,
                self.value.status().await.unwrap().waiting,
            ];
            counts.iter().all(|count| *count == waiting)
        })
        .await;
    }

    /// Ends all waits and breaks the barrier. No other call may begin meanwhile.
    pub(crate) async fn grant_all(&self, reader: RwLockReadGuard) {
        let waiting = self.full.status().await.unwrap().putting;
        self.event.set().await.unwrap();
        let guard = self.condition.acquire().await.unwrap();
        assert_eq!(self.condition.notify_all(&guard).await, Ok(waiting));
        drop(guard);
        self.barrier.abort().await.unwrap();
        self.reentrant.force_unlock().await.unwrap();
        self.written.force_unlock().await.unwrap();
        reader.release().await.unwrap();
        self.latch.count_down(1).await.unwrap();
        self.keyed.force_unlock(KEY).await.unwrap();
        self.keyed_semaphore.force_unlock(KEY).await.unwrap();
        self.several[0].force_unlock().await.unwrap();
        // Each taker drops the item, which returns for the next one.
        self.empty.put(0).await.unwrap();
        for _ in 0..=waiting {
            self.full.get().await.unwrap().done().await.unwrap();
        }
        self.value.set(1).await.unwrap();
    }

    /// Returns a wait in each way, with or without a timeout.
    pub(crate) fn waits(&self, timeout: Option<Duration>) -> Vec<(&'static str, Wait)> {
        let asked = Form {
            objects: self,
            timeout,
        };
        vec![
            asked.to(
                "enter",
                |it| async move { it.reentrant.acquire().await.map(drop) },
                |it, time| async move { it.reentrant.acquire().timeout(time).await.map(drop) },
            ),
            asked.to(
                "see the event",
                |it| async move { it.event.wait().await.map(drop) },
                |it, time| async move { it.event.wait().timeout(time).await.map(drop) },
            ),
            asked.to(
                "be notified",
                |it| async move {
                    let guard = it.condition.acquire().await?;
                    it.condition.wait(guard).await.map(drop)
                },
                |it, time| async move {
                    let guard = it.condition.acquire().await?;
                    it.condition.wait(guard).timeout(time).await.map(drop)
                },
            ),
            asked.to(
                "pass the barrier",
                |it| async move { it.barrier.wait().await.map(drop) },
                |it, time| async move { it.barrier.wait().timeout(time).await.map(drop) },
            ),
            asked.to(
                "read",
                |it| async move { it.written.read().await.map(drop) },
                |it, time| async move { it.written.read().timeout(time).await.map(drop) },
            ),
            asked.to(
                "write",
                |it| async move { it.written.write().await.map(drop) },
                |it, time| async move { it.written.write().timeout(time).await.map(drop) },
            ),
            asked.to(
                "become the writer",
                |it| async move {
                    let guard = it.read.upgradable_read().await?;
                    guard.upgrade().await.map(drop)
                },
                |it, time| async move {
                    let guard = it.read.upgradable_read().timeout(time).await?;
                    match guard.try_upgrade().timeout(time).await? {
                        Ok(_writes) => Ok(()),
                        Err(_reads) => Err(CallError::timed_out()),
                    }
                },
            ),
            asked.to(
                "see the latch open",
                |it| async move { it.latch.wait().await },
                |it, time| async move { it.latch.arrive_and_wait(0).timeout(time).await },
            ),
            asked.to(
                "have the key",
                |it| async move { it.keyed.acquire(KEY).await.map(drop) },
                |it, time| async move { it.keyed.acquire(KEY).timeout(time).await.map(drop) },
            ),
            asked.to(
                "have permits of the key",
                |it| async move {
                    let permits = it.keyed_semaphore.acquire_many(KEY, 2);
                    permits.await.map(drop)
                },
                |it, time| async move {
                    let permits = it.keyed_semaphore.acquire_many(KEY, 1).timeout(time);
                    permits.await.map(drop)
                },
            ),
            asked.to(
                "hold several locks",
                |it| async move { lock_all(&it.several).await.map(drop) },
                |it, time| async move { lock_some(2, &it.several).timeout(time).await.map(drop) },
            ),
            asked.to(
                "take an item",
                |it| async move { Ok(it.empty.get().await.map(drop)?) },
                |it, time| async move { Ok(it.empty.get().timeout(time).await.map(drop)?) },
            ),
            asked.to(
                "see all done",
                |it| async move { it.full.join().await },
                |it, time| async move { it.full.join().timeout(time).await },
            ),
            asked.to(
                "put an item",
                |it| async move { Ok(it.full.put(1).await?) },
                |it, time| async move { Ok(it.full.put(1).timeout(time).await?) },
            ),
            asked.to(
                "see a change",
                |it| async move { it.value.wait_since(0).await.map(drop) },
                |it, time| async move {
                    let seen = it.value.wait_for(|number| *number > 0).timeout(time);
                    seen.await.map(drop)
                },
            ),
        ]
    }

    /// Starts the waits of plain threads, two in each way.
    pub(crate) fn blocked(&self) -> Vec<thread::JoinHandle<Outcome>> {
        fn failed(error: ActionError<()>) -> CallError {
            match error {
                ActionError::Call(error) => error,
                error => panic!("no action fails: {error:?}"),
            }
        }
        let waits: [fn(Self) -> Outcome; 30] = [
            |it| it.reentrant.acquire().blocking().map(drop),
            |it| it.reentrant.acquire().timeout(HOUR).blocking().map(drop),
            |it| it.event.wait_since(0).blocking().map(drop),
            |it| it.event.wait_since(0).timeout(HOUR).blocking().map(drop),
            |it| {
                let guard = it.condition.acquire().blocking()?;
                let waited = it.condition.wait_while(guard, || true).blocking();
                waited.map(drop)
            },
            |it| {
                let guard = it.condition.acquire().blocking()?;
                let condition = &it.condition;
                let waited = condition
                    .wait_while(guard, || true)
                    .timeout(HOUR)
                    .blocking();
                waited.map(drop)
            },
            |it| {
                let waited = it.barrier.wait_with(async || Ok(())).blocking();
                waited.map(drop).map_err(failed)
            },
            |it| {
                let waited = it
                    .barrier
                    .wait_with(async || Ok(()))
                    .timeout(HOUR)
                    .blocking();
                waited.map(drop).map_err(failed)
            },
            |it| it.written.read().blocking().map(drop),
            |it| it.written.read().timeout(HOUR).blocking().map(drop),
            |it| it.written.write().blocking().map(drop),
            |it| it.written.write().timeout(HOUR).blocking().map(drop),
            |it| {
                let guard = it.read.upgradable_read().blocking()?;
                guard.upgrade().blocking().map(drop)
            },
            |it| {
                let guard = it.read.upgradable_read().timeout(HOUR).blocking()?;
                guard.try_upgrade().timeout(HOUR).blocking().map(drop)
            },
            |it| it.latch.wait().blocking(),
            |it| it.latch.arrive_and_wait(0).timeout(HOUR).blocking(),
            |it| it.keyed.acquire(KEY).blocking().map(drop),
            |it| it.keyed.acquire(KEY).timeout(HOUR).blocking().map(drop),
            |it| it.keyed_semaphore.acquire(KEY).blocking().map(drop),
            |it| {
                let permit = it.keyed_semaphore.acquire(KEY).timeout(HOUR).blocking();
                permit.map(drop)
            },
            |it| lock_all(&it.several).blocking().map(drop),
            |it| lock_all(&it.several).timeout(HOUR).blocking().map(drop),
            |it| Ok(it.empty.get().blocking().map(drop)?),
            |it| Ok(it.empty.get().timeout(HOUR).blocking().map(drop)?),
            |it| Ok(it.full.put(1).blocking()?),
            |it| Ok(it.full.put(1).timeout(HOUR).blocking()?),
            |it| it.full.join().blocking(),
            |it| it.full.join().timeout(HOUR).blocking(),
            |it| it.value.wait_since(0).blocking().map(drop),
            |it| {
                let seen = it
                    .value
                    .wait_for(|number| *number > 0)
                    .timeout(HOUR)
                    .blocking();
                seen.map(drop)
            },
        ];
        let waits = waits.into_iter().map(|wait| {
            let objects = self.clone();
            thread::spawn(move || wait(objects))
        });
        waits.collect()
    }
}

pub(crate) type Wait = BoxFuture<'static, Outcome>;

/// The form of the waits.
#[derive(Debug)]
struct Form<'a> {
    objects: &'a Objects,
    timeout: Option<Duration>,
}

impl Form<'_> {
    /// Returns a named wait, without a timeout or with one.
    fn to<W, L>(
        &self,
        what: &'static str,
        wait: fn(Objects) -> W,
        limit: fn(Objects, Duration) -> L,
    ) -> (&'static str, Wait)
    where
        W: Future<Output = Outcome> + Send + 'static,
        L: Future<Output = Outcome> + Send + 'static,
    {
        let objects = self.objects.clone();
        let wait = match self.timeout {
            None => wait(objects).boxed(),
            Some(timeout) => limit(objects, timeout).boxed(),
        };
        (what, wait)
    }
}

//! The objects that all processes of a chaos test share: some thirty, of all kinds.

use std::path::{Path, PathBuf};

use lockkeeper::{
    Barrier, BoundedSemaphore, Condition, Event, KeyedLock, KeyedSemaphore, Lock, Manager, Queue,
    ReentrantLock, RwLock, Semaphore, Value,
    builders::{BarrierSpec, OnDeath},
};
use serde::{Deserialize, Serialize};

use super::{ledger::Ledger, notes::Notes, rw_locks};

/// An object, and what outsiders know it by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known<T> {
    pub(crate) object: T,
    pub(crate) name: String,
    /// How many may be inside, or are the parties.
    pub(crate) most: u32,
}

impl<T> Known<T> {
    pub(crate) fn ledger(&self, notes: &Notes) -> Ledger {
        Ledger::new(&self.name, self.most.into(), notes)
    }
}

/// All objects, and the folder of the notes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) locks: Vec<Known<Lock>>,
    /// Locks that may be forced open, so no ledger can tell who is inside.
    pub(crate) forced_locks: Vec<Known<Lock>>,
    pub(crate) reentrant_locks: Vec<Known<ReentrantLock>>,
    pub(crate) conditions: Vec<Known<Condition>>,
    pub(crate) semaphores: Vec<Known<Semaphore>>,
    pub(crate) bounded_semaphores: Vec<Known<BoundedSemaphore>>,
    pub(crate) events: Vec<Known<Event>>,
    pub(crate) barriers: Vec<Known<Barrier>>,
    pub(crate) rw_locks: Vec<Known<RwLock>>,
    pub(crate) keyed_locks: Vec<Known<KeyedLock>>,
    pub(crate) keyed_semaphores: Vec<Known<KeyedSemaphore>>,
    /// Locks of which several are held at once.
    pub(crate) several_locks: Vec<Known<Lock>>,
    pub(crate) queues: Vec<Known<Queue<u64>>>,
    /// Numbers that are only ever counted up by one, from zero.
    pub(crate) values: Vec<Known<Value<u64>>>,
    /// For each place, what the process there holds for as long as it lives.
    pub(crate) lives: Vec<Lock>,
    pub(crate) folder: PathBuf,
}

/// The wait sets of each condition.
pub(crate) const NOT_FULL: &str = "not full";
pub(crate) const NOT_EMPTY: &str = "not empty";

impl Scene {
    pub(crate) async fn set(manager: &Manager, places: usize, folder: &Path) -> Self {
        let mut scene = Self {
            locks: Vec::new(),
            forced_locks: Vec::new(),
            reentrant_locks: Vec::new(),
            conditions: Vec::new(),
            semaphores: Vec::new(),
            bounded_semaphores: Vec::new(),
            events: Vec::new(),
            barriers: Vec::new(),
            rw_locks: Vec::new(),
            keyed_locks: Vec::new(),
            keyed_semaphores: Vec::new(),
            several_locks: Vec::new(),
            queues: Vec::new(),
            values: Vec::new(),
            lives: Vec::new(),
            folder: folder.to_owned(),
        };
        for _ in 0..places {
            scene.lives.push(manager.lock().await.unwrap());
        }
        for _ in 0..4 {
            let lock = manager.lock().await.unwrap();
            know(&mut scene.locks, lock, "lock", 1);
        }
        let forced = manager.lock().await.unwrap();
        know(&mut scene.forced_locks, forced, "forced lock", u32::MAX);
        for _ in 0..3 {
            let lock = manager.reentrant_lock().await.unwrap();
            know(&mut scene.reentrant_locks, lock, "reentrant lock", 1);
            let condition = manager.condition().await.unwrap();
            know(&mut scene.conditions, condition, "condition", 1);
        }
        for permits in [1, 3, 5] {
            let semaphore = manager.semaphore(permits).await.unwrap();
            know(&mut scene.semaphores, semaphore, "semaphore", permits);
        }
        for permits in [2, 4] {
            let semaphore = manager.bounded_semaphore(permits).await.unwrap();
            let bounded = &mut scene.bounded_semaphores;
            know(bounded, semaphore, "bounded semaphore", permits);
        }
        for _ in 0..2 {
            let event = manager.event().await.unwrap();
            // Without a limit: several learn of it at the same time.
            know(&mut scene.events, event, "event", u32::MAX);
        }
        for (parties, on_death) in [
            (2, OnDeath::Break),
            (3, OnDeath::Break),
            (3, OnDeath::Retract),
        ] {
            let spec = BarrierSpec::from(parties).on_death(on_death);
            let barrier = manager.barrier(spec).await.unwrap();
            know(&mut scene.barriers, barrier, "barrier", parties);
        }
        scene.add_to(manager).await;
        scene
    }

    /// Adds what is read and written, has keys, or keeps data.
    async fn add_to(&mut self, manager: &Manager) {
        for _ in 0..2 {
            let lock = manager.rw_lock().await.unwrap();
            know(&mut self.rw_locks, lock, "rw lock", rw_locks::ALL);
            let value = manager.value(0).await.unwrap();
            // Without a limit, since it has no holder.
            know(&mut self.values, value, "value", u32::MAX);
        }
        let locks = manager.keyed_lock().await.unwrap();
        know(&mut self.keyed_locks, locks, "keyed lock", 1);
        let semaphores = manager.keyed_semaphore(3).await.unwrap();
        know(&mut self.keyed_semaphores, semaphores, "keyed semaphore", 3);
        for _ in 0..4 {
            let lock = manager.lock().await.unwrap();
            know(&mut self.several_locks, lock, "several locks", 1);
        }
        // Each item is held by one at a time, whatever the room.
        let queue = manager.queue(3).await.unwrap();
        know(&mut self.queues, queue, "queue", 1);
        let queue = manager.unbounded_queue().await.unwrap();
        know(&mut self.queues, queue, "queue", 1);
    }
}

fn know<T>(objects: &mut Vec<Known<T>>, object: T, kind: &str, most: u32) {
    let name = format!("{kind} {}", objects.len());
    objects.push(Known { object, name, most });
}

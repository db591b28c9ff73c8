//! The objects that all processes of a chaos test share: about thirty, of all kinds.

use std::path::{Path, PathBuf};

use lockkeeper::{
    Barrier, BoundedSemaphore, Condition, Event, KeyedLock, KeyedSemaphore, Lock, Manager, Queue,
    ReentrantLock, RwLock, Semaphore, Value,
    builders::{BarrierSpec, OnDeath},
};
use serde::{Deserialize, Serialize};

use super::{hold_record::HoldRecord, notes::Notes, rw_locks};

/// An object with its name and its maximum.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named<T> {
    pub(crate) object: T,
    pub(crate) name: String,
    /// The maximum amount that may be held, or the number of parties.
    pub(crate) most: u32,
}

impl<T> Named<T> {
    pub(crate) fn hold_record(&self, notes: &Notes) -> HoldRecord {
        HoldRecord::new(&self.name, self.most.into(), notes)
    }
}

/// All objects, and the folder of the notes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) locks: Vec<Named<Lock>>,
    /// Locks that may be forced open, so a hold record cannot track their holders.
    pub(crate) forced_locks: Vec<Named<Lock>>,
    pub(crate) reentrant_locks: Vec<Named<ReentrantLock>>,
    pub(crate) conditions: Vec<Named<Condition>>,
    pub(crate) semaphores: Vec<Named<Semaphore>>,
    pub(crate) bounded_semaphores: Vec<Named<BoundedSemaphore>>,
    pub(crate) events: Vec<Named<Event>>,
    pub(crate) barriers: Vec<Named<Barrier>>,
    pub(crate) rw_locks: Vec<Named<RwLock>>,
    pub(crate) keyed_locks: Vec<Named<KeyedLock>>,
    pub(crate) keyed_semaphores: Vec<Named<KeyedSemaphore>>,
    /// Locks of which a task holds several at once.
    pub(crate) several_locks: Vec<Named<Lock>>,
    pub(crate) queues: Vec<Named<Queue<u64>>>,
    /// Numbers that start at zero, and are only incremented.
    pub(crate) values: Vec<Named<Value<u64>>>,
    /// For each process, a lock that it holds during its lifetime.
    pub(crate) process_locks: Vec<Lock>,
    pub(crate) folder: PathBuf,
}

/// The wait sets of each condition.
pub(crate) const NOT_FULL: &str = "not full";
pub(crate) const NOT_EMPTY: &str = "not empty";

impl Setup {
    pub(crate) async fn set(manager: &Manager, places: usize, folder: &Path) -> Self {
        let mut setup = Self {
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
            process_locks: Vec::new(),
            folder: folder.to_owned(),
        };
        for _ in 0..places {
            setup.process_locks.push(manager.lock().await.unwrap());
        }
        for _ in 0..4 {
            let lock = manager.lock().await.unwrap();
            know(&mut setup.locks, lock, "lock", 1);
        }
        let forced = manager.lock().await.unwrap();
        know(&mut setup.forced_locks, forced, "forced lock", u32::MAX);
        for _ in 0..3 {
            let lock = manager.reentrant_lock().await.unwrap();
            know(&mut setup.reentrant_locks, lock, "reentrant lock", 1);
            let condition = manager.condition().await.unwrap();
            know(&mut setup.conditions, condition, "condition", 1);
        }
        for permits in [1, 3, 5] {
            let semaphore = manager.semaphore(permits).await.unwrap();
            know(&mut setup.semaphores, semaphore, "semaphore", permits);
        }
        for permits in [2, 4] {
            let semaphore = manager.bounded_semaphore(permits).await.unwrap();
            let bounded = &mut setup.bounded_semaphores;
            know(bounded, semaphore, "bounded semaphore", permits);
        }
        for _ in 0..2 {
            let event = manager.event().await.unwrap();
            // Without a maximum, because several processes may wake at the same time.
            know(&mut setup.events, event, "event", u32::MAX);
        }
        for (parties, on_death) in [
            (2, OnDeath::Break),
            (3, OnDeath::Break),
            (3, OnDeath::Retract),
        ] {
            let spec = BarrierSpec::from(parties).on_death(on_death);
            let barrier = manager.barrier(spec).await.unwrap();
            know(&mut setup.barriers, barrier, "barrier", parties);
        }
        setup.add_to(manager).await;
        setup
    }

    /// Adds the readers-writer locks, the keyed kinds, and the kinds that store data.
    async fn add_to(&mut self, manager: &Manager) {
        for _ in 0..2 {
            let lock = manager.rw_lock().await.unwrap();
            know(&mut self.rw_locks, lock, "rw lock", rw_locks::ALL);
            let value = manager.value(0).await.unwrap();
            // Without a maximum, because a value has no holder.
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
        // Each item has one holder at a time, for any capacity.
        let queue = manager.queue(3).await.unwrap();
        know(&mut self.queues, queue, "queue", 1);
        let queue = manager.unbounded_queue().await.unwrap();
        know(&mut self.queues, queue, "queue", 1);
    }
}

fn know<T>(objects: &mut Vec<Named<T>>, object: T, kind: &str, most: u32) {
    let name = format!("{kind} {}", objects.len());
    objects.push(Named { object, name, most });
}

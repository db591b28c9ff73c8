//! `Room`: how many bytes of arguments a pool takes before others of its tasks are done. Beyond, tasks wait
//! where they are submitted, in order.
//!
//! Single tasks and streams have half of it each: a stream that is not polled keeps its half, and must not
//! hold up a single task that its reader waits for.
//!
//! Invariant: a stream with no task on its way may always submit one, so none waits for another.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lockkeeper_protocol::Fault;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

/// The room of one pool.
#[derive(Debug)]
pub(super) struct Room {
    /// How many bytes each half has.
    most: usize,
    /// Those who submit single tasks, in order.
    line: Mutex<()>,
    calls: Arc<Semaphore>,
    streams: AtomicUsize,
}

/// As many bytes as a pool keeps unless it is told otherwise.
pub(super) const USUAL_BYTES: usize = 1 << 30;

/// The unit that is counted for single tasks.
const UNIT: usize = 1 << 10;

/// Smaller tasks are not counted one by one.
const SMALL_BYTES: usize = 1 << 16;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let most = (bytes / 2).clamp(SMALL_BYTES, Semaphore::MAX_PERMITS);
        Self {
            most,
            line: Mutex::new(()),
            calls: Arc::new(Semaphore::new(units(most))),
            streams: AtomicUsize::new(0),
        }
    }

    /// Refuses a task for which there would never be room.
    pub(super) fn check(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.most {
            return Err(Fault::limit("bytes of a task of this pool", self.most));
        }
        Ok(())
    }

    /// Waits until all are submitted that came before.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.line.lock().await
    }

    /// Waits for the room of a single task, unless it is small, or so large that it is refused.
    pub(super) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes < SMALL_BYTES || bytes > self.most {
            return None;
        }
        let permits = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        Arc::clone(&self.calls)
            .acquire_many_owned(permits)
            .await
            .ok()
    }
}

const fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

/// What one stream has on its way.
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Share {
    pub(super) const fn new(room: Arc<Room>) -> Self {
        Self { room, bytes: 0 }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the streams of the pool have room.
    pub(super) fn has_room(&self) -> bool {
        self.room.streams.load(Ordering::Relaxed) < self.room.most
    }

    pub(super) fn check(&self, bytes: usize) -> Result<(), Fault> {
        self.room.check(bytes)
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.room.streams.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.room.streams.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.remove(self.bytes);
    }
}

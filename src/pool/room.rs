//! `Room`: how many bytes of arguments a pool takes before earlier tasks are done. Beyond that, tasks wait in
//! the submitter, in order.
//!
//! Single tasks and streams have half of it each: a stream that is not polled keeps its bytes, and must not
//! block a single task that its reader waits for.
//!
//! Invariant: a stream without a task in flight may always submit one, so streams do not wait for each other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lockkeeper_protocol::Fault;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct Room {
    /// The bytes of each half.
    most: usize,
    /// The lock that keeps the submitters of single tasks in order.
    line: Mutex<()>,
    calls: Arc<Semaphore>,
    streams: AtomicUsize,
}

/// The default limit.
pub(super) const USUAL_BYTES: usize = 1 << 30;

/// The unit that is counted for single tasks.
const UNIT: usize = 1 << 10;

/// A task with fewer bytes is not counted.
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

    /// Refuses a task that is larger than its half.
    pub(super) fn check(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.most {
            return Err(Fault::limit("bytes of a task of this pool", self.most));
        }
        Ok(())
    }

    /// Waits until all earlier tasks are submitted.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.line.lock().await
    }

    /// Waits for the room of a single task. Returns `None` for a small task, and for one that is so large
    /// that it is refused.
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

/// The bytes that one stream has in flight.
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

    /// Returns whether the streams of the pool have room.
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

//! `Room`: how many bytes of arguments a pool takes before earlier tasks are done, and how many bytes of
//! outcomes it keeps for streams. Beyond that, tasks wait in the submitter or in the queue, in order.
//!
//! Single tasks and streams have half of it each: a stream that is not polled keeps its bytes, and must not
//! block a single task that its reader waits for. Half of the streams' part is for outcomes. A stream reserves
//! half of what other streams have left of that, so a stream that is not polled leaves room for the others. Each
//! stream has `LEAST_OUTCOMES` in addition, so that the tasks of the last of many streams also run in parallel.
//!
//! Invariant: a stream without a task in flight may always submit one, so streams do not wait for each other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lockkeeper_protocol::{Fault, operations::ReleaseOutcomes};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct Room {
    /// The bytes of each half.
    most: usize,
    /// The lock that keeps the submitters of single tasks in order.
    line: Mutex<()>,
    calls: Arc<Semaphore>,
    /// The bytes of arguments that streams have in flight.
    streams: AtomicUsize,
    /// The bytes of outcomes that no stream has reserved.
    outcomes: AtomicUsize,
}

/// The default limit.
pub(super) const USUAL_BYTES: usize = 1 << 30;

/// The unit that is counted for single tasks.
const UNIT: usize = 1 << 10;

/// A task with fewer bytes is not counted.
const SMALL_BYTES: usize = 1 << 16;

/// The bytes of outcomes that each stream may keep without a reservation.
const LEAST_OUTCOMES: usize = 1 << 16;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let most = (bytes / 2).clamp(SMALL_BYTES, Semaphore::MAX_PERMITS);
        Self {
            most,
            line: Mutex::new(()),
            calls: Arc::new(Semaphore::new(units(most))),
            streams: AtomicUsize::new(0),
            outcomes: AtomicUsize::new(most / 2),
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

/// The bytes of one stream: of arguments in flight, and of outcomes that were not given out.
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
    outcomes: Outcomes,
}

/// The outcomes of a stream, in bytes.
#[derive(Default)]
struct Outcomes {
    /// How many the stream has reserved.
    reserved: usize,
    /// Those that have arrived and were not released at the queue.
    arrived: Arc<AtomicUsize>,
    /// Those of them that were given out.
    given: usize,
    /// The number of outcomes that were given out and not released.
    count: u64,
}

impl Outcomes {
    /// The bytes that the stream keeps at most.
    const fn most(&self) -> usize {
        self.reserved + LEAST_OUTCOMES
    }
}

/// Counts outcomes that arrive in futures.
#[derive(Clone)]
pub(super) struct Arrivals(Arc<AtomicUsize>);

impl Arrivals {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Share {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            bytes: 0,
            outcomes: Outcomes::default(),
        }
    }

    /// Reserves half of what is free for the outcomes of this stream, and returns the most bytes that it keeps.
    pub(super) fn reserve(&mut self) -> u64 {
        let free = &self.room.outcomes;
        let half = |bytes: usize| Some(bytes - bytes / 2);
        let before = free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half);
        self.outcomes.reserved += before.unwrap_or_default() / 2;
        u64::try_from(self.outcomes.most()).unwrap_or(u64::MAX)
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        Arrivals(Arc::clone(&self.outcomes.arrived))
    }

    /// Counts an outcome that is given out. An outcome of no bytes is none of the queue's.
    pub(super) fn give_out(&mut self, bytes: usize) {
        self.outcomes.given += bytes;
        self.outcomes.count += u64::from(bytes > 0);
    }

    /// Returns what to release at the queue, if it is much and the queue may have reached the limit.
    pub(super) fn take_much(&mut self, series: u64) -> Option<ReleaseOutcomes> {
        let is_much = self.outcomes.given >= self.outcomes.most() / 16;
        is_much.then(|| self.take_given(series)).flatten()
    }

    /// Returns what to release at the queue, if the queue may have reached the limit. At the limit the queue
    /// may wait for it, so a stream asks for it whenever it begins to wait.
    pub(super) fn take_given(&mut self, series: u64) -> Option<ReleaseOutcomes> {
        let outcomes = &mut self.outcomes;
        let arrived = outcomes.arrived.load(Ordering::Relaxed);
        if outcomes.count == 0 || arrived < outcomes.most() / 2 {
            return None;
        }
        let bytes = std::mem::take(&mut outcomes.given);
        outcomes.arrived.fetch_sub(bytes, Ordering::Relaxed);
        Some(ReleaseOutcomes {
            series,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            count: std::mem::take(&mut outcomes.count),
        })
    }

    /// The bytes of outcomes that have arrived and were not given out.
    fn kept(&self) -> usize {
        let arrived = self.outcomes.arrived.load(Ordering::Relaxed);
        arrived.saturating_sub(self.outcomes.given)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the streams of the pool have room for arguments, and this one for outcomes.
    pub(super) fn has_room(&self) -> bool {
        let is_full = self.kept() >= self.outcomes.most();
        self.room.streams.load(Ordering::Relaxed) < self.room.most / 2 && !is_full
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
        let reserved = self.outcomes.reserved;
        self.room.outcomes.fetch_add(reserved, Ordering::Relaxed);
    }
}

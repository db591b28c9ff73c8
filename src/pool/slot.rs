//! `WorkerSlot`: what the supervisor of a pool knows of one of its places.

use actix::{Addr, SpawnHandle};

use crate::{
    pool::place::{After, Order, Worker},
    server::session::context::LeftClient,
};

/// The failures in a row to get a process ready after which waiting tasks fail, if no other place has a
/// process. Also the reports of processes that cannot work after which a place stays empty.
pub(super) const MOST_FAILURES: u32 = 3;

/// One place of the pool.
#[derive(Debug)]
pub(super) struct WorkerSlot {
    pub(super) worker: Addr<Worker>,
    /// The current process of the place.
    pub(super) pid: Option<u32>,
    /// Whether the process has reported that it is ready.
    pub(super) is_ready: bool,
    /// The session of the process, once that has left it. The queue keeps its tasks until the process has ended.
    pub(super) left: Option<LeftClient>,
    /// The processes in a row that did not get ready.
    pub(super) failures: u32,
    /// How many of `failures` reported that they cannot work.
    pub(super) refusals: u32,
    /// The processes in a row that a signal ended before they were ready.
    pub(super) signalled: u32,
    /// Whether the place stays empty.
    pub(super) is_left: bool,
    /// The timer of the next attempt, while the place pauses.
    pub(super) retry: Option<SpawnHandle>,
}

impl WorkerSlot {
    /// A place that has had no process yet.
    pub(super) const fn new(worker: Addr<Worker>) -> Self {
        Self {
            worker,
            pid: None,
            is_ready: false,
            left: None,
            failures: 0,
            refusals: 0,
            signalled: 0,
            is_left: false,
            retry: None,
        }
    }

    /// Kills a process that has left its session. One that is not ready has no tasks, and reports why it ends.
    pub(super) fn kill_if_left(&self) {
        if self.is_ready && self.left.is_some() {
            self.worker.do_send(Order::Kill(After::Refill));
        }
    }

    /// Returns whether the place has no process, and pauses or stays empty.
    pub(super) const fn is_empty(&self) -> bool {
        self.is_left || self.retry.is_some()
    }

    /// Returns whether the place has no process, and its last attempts have failed.
    pub(super) const fn has_failed(&self) -> bool {
        self.is_left || (self.retry.is_some() && self.failures >= MOST_FAILURES)
    }
}

//! The tasks that are woken when a connection is readable.
//!
//! Each runtime that calls has a [`Reader`]: the stream as attached to that runtime, and two wakers. The
//! caller that began to wait last reads for all callers, and the runtime's driver task reads when no caller
//! does. While there is a single waiter, only one of the two has to be woken.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use lockkeeper_sys::OnlyHere;
use tokio::runtime;

use crate::{
    background::{self, background},
    transport::stream::AttachedStream,
};

/// The stream of a connection as one runtime reads it.
pub(super) struct Reader {
    pub(super) runtime: runtime::Id,
    stream: OnlyHere<Box<dyn AttachedStream>>,
    pub(super) wakers: Arc<Wakers>,
    /// The two wakers, combined into the one that the stream wakes.
    pub(super) waker: Waker,
}

impl Reader {
    pub(super) fn new(
        runtime: runtime::Id,
        stream: Box<dyn AttachedStream>,
        waiters: &Arc<AtomicUsize>,
    ) -> Self {
        let wakers = Arc::new(Wakers {
            caller: AtomicWaker::new(),
            driver: AtomicWaker::new(),
            is_registered: AtomicBool::new(false),
            waiters: Arc::clone(waiters),
        });
        Self {
            runtime,
            stream: OnlyHere::new(stream),
            waker: Waker::from(Arc::clone(&wakers)),
            wakers,
        }
    }

    /// Reads the stream, or registers [`Self::waker`] for when it is readable. The lock of the connection is
    /// held, so there is one poll at a time.
    pub(super) fn poll_read(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let is_registered = &self.wakers.is_registered;
        if is_registered.load(Ordering::Acquire) {
            // The stream has not become readable since the last poll.
            return Poll::Pending;
        }
        let Some(stream) = self.stream.get() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        // It is set before the poll, because the waker may be woken during the poll.
        is_registered.store(true, Ordering::Release);
        let polled = stream.poll_read(&mut Context::from_waker(&self.waker), buffer);
        if polled.is_ready() {
            is_registered.store(false, Ordering::Release);
        }
        polled
    }

    /// Returns whether it belongs to the current runtime.
    pub(super) fn is_here(&self) -> bool {
        match background::current() {
            Some(handle) => handle.id() == self.runtime,
            None => background().id() == self.runtime,
        }
    }
}

/// The tasks of one runtime that may read.
pub(super) struct Wakers {
    /// The caller that began to wait last.
    pub(super) caller: AtomicWaker,
    /// The driver task.
    pub(super) driver: AtomicWaker,
    /// Whether the last poll returned `Pending` and no wake came since.
    is_registered: AtomicBool,
    /// The number of callers of the connection, on all runtimes.
    waiters: Arc<AtomicUsize>,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.is_registered.store(false, Ordering::Release);
        let caller = self.caller.take();
        // A caller that is woken may not poll its call, as in a `select!` that has moved on. With no other
        // waiters that is harmless; otherwise the driver is woken too. `caller` is empty when the newest
        // waiter has left while older ones still wait.
        if caller.is_none() || self.waiters.load(Ordering::Acquire) > 1 {
            self.driver.wake();
        }
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// One waiter, which is counted until this value is dropped.
pub(super) struct WaiterCount {
    waiters: Arc<AtomicUsize>,
    count: usize,
}

impl WaiterCount {
    /// Counts a caller that reads for itself.
    pub(super) fn caller(waiters: &Arc<AtomicUsize>) -> Self {
        Self::begin(waiters, 1)
    }

    /// Counts a waiter that does not read. It counts as two, so that the driver is woken.
    pub(super) fn watcher(waiters: &Arc<AtomicUsize>) -> Self {
        Self::begin(waiters, 2)
    }

    fn begin(waiters: &Arc<AtomicUsize>, count: usize) -> Self {
        waiters.fetch_add(count, Ordering::AcqRel);
        Self {
            waiters: Arc::clone(waiters),
            count,
        }
    }

    /// Returns whether there are other waiters.
    pub(super) fn has_others(&self) -> bool {
        self.waiters.load(Ordering::Acquire) > self.count
    }
}

impl Drop for WaiterCount {
    fn drop(&mut self) {
        self.waiters.fetch_sub(self.count, Ordering::AcqRel);
    }
}

//! Who waits for the answers of a connection: wakers and counts, without a socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;
use tokio::runtime::{self, Handle};

use crate::{background::background, transport::stream::AttachedStream};

/// The socket as one runtime reads it.
pub(super) struct Reader {
    pub(super) runtime: runtime::Id,
    pub(super) link: Box<dyn AttachedStream>,
    pub(super) wakers: Arc<Wakers>,
    /// The wakers as the one waker that the link knows.
    pub(super) waker: Waker,
}

impl Reader {
    /// Whether it reads on the runtime that runs this.
    pub(super) fn is_here(&self) -> bool {
        match Handle::try_current() {
            Ok(handle) => handle.id() == self.runtime,
            Err(_) => background().handle().id() == self.runtime,
        }
    }
}

/// Who is woken when there is something to read. Whoever comes first hands it out to all.
pub(super) struct Wakers {
    /// The caller that has begun to wait last.
    pub(super) caller: AtomicWaker,
    /// The driver, which reads when no caller does.
    pub(super) driver: AtomicWaker,
    pub(super) waiters: Arc<AtomicUsize>,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        let caller = self.caller.take();
        // A caller may be woken and yet not poll its call, as in a `select!` that is elsewhere by
        // now. It must not keep others waiting; alone it harms nobody. Nobody is here when the
        // caller that began to wait last has left the others behind.
        if caller.is_none() || self.waiters.load(Ordering::Acquire) > 1 {
            self.driver.wake();
        }
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// Somebody to read for.
pub(super) struct WaiterCount {
    waiters: Arc<AtomicUsize>,
    count: usize,
}

impl WaiterCount {
    /// Counts a caller, who reads for itself.
    pub(super) fn caller(waiters: &Arc<AtomicUsize>) -> Self {
        Self::begin(waiters, 1)
    }

    /// Counts somebody whom the driver is to read for: as two, so that it is woken.
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

    /// Whether there are others to read for.
    pub(super) fn has_company(&self) -> bool {
        self.waiters.load(Ordering::Acquire) > self.count
    }
}

impl Drop for WaiterCount {
    fn drop(&mut self) {
        self.waiters.fetch_sub(self.count, Ordering::AcqRel);
    }
}

//! The driver of a runtime: the task that reads a connection while no caller does.
//!
//! A connection belongs to the process, but reads belong to a runtime: each runtime that calls attaches to
//! the stream, so the connection outlives each of them. A plain thread reads for itself (`thread`) while it
//! is a connection's only caller.
//!
//! Invariant: while callers wait and the stream is readable, a task is woken that reads it, even if other
//! waiters leave.

use std::{
    future,
    sync::{Arc, MutexGuard, Weak, atomic::Ordering},
    task::Poll,
};

use tokio::runtime::{self, Handle};

use crate::{
    background::{self, background},
    client::{
        connection::{Connection, Shared},
        thread,
        wakers::{Reader, WaiterCount},
    },
    error::CallError,
};

/// A new caller, which is counted, has a reader, and holds the lock.
pub(super) struct Caller<'a> {
    pub(super) waiter: WaiterCount,
    /// The reader of the caller's runtime; `None` for a plain thread that is the only caller.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) shared: MutexGuard<'a, Shared>,
}

impl Connection {
    /// Counts a new caller, and finds its reader.
    pub(super) fn begin_wait(self: &Arc<Self>) -> Result<Caller<'_>, CallError> {
        let waiter = WaiterCount::caller(&self.waiters);
        let shared = self.lock().ok_or_else(|| self.forked())?;
        if let Some(why) = &shared.session.ended {
            return Err(self.disconnected(why));
        }
        // Each answer would also wake an attached runtime, so a thread that reads beside it gains nothing.
        if thread::is_blocking() && !waiter.has_others() && shared.readers.is_empty() {
            return Ok(Caller {
                waiter,
                reader: None,
                shared,
            });
        }
        let here = match background::current() {
            Some(handle) => handle.id(),
            None => background().id(),
        };
        let reader = shared.readers.iter().find(|reader| reader.runtime == here);
        if let Some(reader) = reader.map(Arc::clone) {
            return Ok(Caller {
                waiter,
                reader: Some(reader),
                shared,
            });
        }
        drop(shared);
        let reader = self.attach()?;
        Ok(Caller {
            waiter,
            reader: Some(reader),
            shared: self.lock().ok_or_else(|| self.forked())?,
        })
    }

    /// Returns the reader of the caller's runtime, which is attached first if needed.
    pub(super) fn attach(self: &Arc<Self>) -> Result<Arc<Reader>, CallError> {
        match background::current() {
            // A runtime that is shutting down, or has no I/O, cannot attach.
            Some(handle) => self
                .attach_to(&handle)
                .or_else(|_| self.attach_to(background())),
            None => self.attach_to(background()),
        }
    }

    fn attach_to(self: &Arc<Self>, handle: &Handle) -> Result<Arc<Reader>, CallError> {
        let runtime = handle.id();
        let mut shared = self.lock().ok_or_else(|| self.forked())?;
        if let Some(reader) = shared.readers.iter().find(|it| it.runtime == runtime) {
            return Ok(Arc::clone(reader));
        }
        let attached = {
            let _runtime = handle.enter();
            self.stream().and_then(|stream| Arc::clone(stream).attach())
        };
        let attached = attached.map_err(|error| self.disconnected(&error.to_string()))?;
        let reader = Arc::new(Reader::new(runtime, attached, &self.waiters));
        shared.readers.push(Arc::clone(&reader));
        drop(shared);
        let attachment = Attachment {
            connection: Arc::downgrade(self),
            runtime,
        };
        // A runtime that is shutting down drops the task at once, and with it the attachment.
        drop(handle.spawn(drive(attachment, Arc::clone(&reader))));
        Ok(reader)
    }
}

/// The attachment of a runtime to a connection. Its drop removes the reader.
struct Attachment {
    connection: Weak<Connection>,
    runtime: runtime::Id,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else {
            return;
        };
        let Some(mut shared) = connection.lock() else {
            return;
        };
        let all = &mut shared.readers;
        let place = all.iter().position(|it| it.runtime == self.runtime);
        let removed = place.map(|place| all.swap_remove(place));
        drop(shared);
        // The wakers may be the last handles of tasks whose drop calls.
        drop(removed);
        // Waiters may have moved to other runtimes, which may be blocked, so the background runtime reads for
        // them.
        if connection.waiters.load(Ordering::Acquire) > 0
            && let Ok(reader) = connection.attach_to(background())
        {
            reader.wakers.driver.wake();
        }
    }
}

/// Reads a connection on one runtime while no caller does, and writes gathered frames, until the connection
/// or the runtime ends.
async fn drive(attachment: Attachment, reader: Arc<Reader>) {
    let mut has_stepped_back = false;
    future::poll_fn(|task| {
        reader.wakers.driver.register(task.waker());
        // The task keeps no handle between turns, so that the connection ends with its last user.
        let Some(connection) = attachment.connection.upgrade() else {
            return Poll::Ready(());
        };
        let Some(shared) = connection.lock() else {
            return Poll::Ready(());
        };
        if shared.is_gathering {
            if !has_stepped_back {
                // Ready tasks may have more to write, so they run first.
                has_stepped_back = true;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            // The callers get the error as their answers.
            let _ = connection.flush(shared);
        } else {
            drop(shared);
        }
        has_stepped_back = false;
        let Some(mut shared) = connection.lock() else {
            return Poll::Ready(());
        };
        let why = Connection::read_all(&mut shared, |scratch| reader.poll_read(scratch));
        let has_ended = why.is_some();
        connection.unlock(shared, why);
        if has_ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

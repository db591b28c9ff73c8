//! The driver of a runtime: the task that reads a connection when no caller does.
//!
//! A connection is the process's and reading is a runtime's: each runtime that calls attaches to the
//! stream, so the connection outlives any of them. Plain threads read for themselves (`thread`) while
//! they are a connection's only caller.
//!
//! Invariant: while there are waiters, a task is woken that reads when there is something to read,
//! whatever becomes of the other waiters.

use std::{
    future,
    sync::{Arc, MutexGuard, Weak, atomic::Ordering},
    task::{self, Poll},
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

/// The place of a new caller: it is counted, it knows who reads for it, and it has the lock.
pub(super) struct Caller<'a> {
    pub(super) waiter: WaiterCount,
    /// The reader of the caller's runtime. A plain thread that is the only caller has none.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) shared: MutexGuard<'a, Shared>,
}

impl Connection {
    /// Counts a new caller, and finds who reads for it.
    pub(super) fn begin_wait(self: &Arc<Self>) -> Result<Caller<'_>, CallError> {
        let waiter = WaiterCount::caller(&self.waiters);
        let shared = self.lock().ok_or_else(|| self.forked())?;
        if let Some(why) = &shared.session.ended {
            return Err(self.disconnected(why));
        }
        // A runtime that is attached is woken by each answer too, so a thread beside it gains nothing.
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

    /// Returns the reader of the caller's runtime, and attaches that runtime first if need be.
    pub(super) fn attach(self: &Arc<Self>) -> Result<Arc<Reader>, CallError> {
        let attached = match background::current() {
            Some(handle) => self.attach_to(&handle),
            None => return self.attach_to(background()),
        };
        // A runtime that is about to end attaches to nothing any more.
        attached.or_else(|_| self.attach_to(background()))
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
        // A runtime that is about to end drops the task at once, and with it the attachment.
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
        // Its wakers may be the last handles of tasks, whose drop may call.
        drop(removed);
        // Waiters may have moved to other runtimes than they began on, and those runtimes may stand
        // still. So the background reads for them.
        if connection.waiters.load(Ordering::Acquire) > 0
            && let Ok(reader) = connection.attach_to(background())
        {
            reader.wakers.driver.wake();
        }
    }
}

/// Reads a connection on one runtime when no caller does, and writes gathered frames, until the
/// connection or the runtime ends.
async fn drive(attachment: Attachment, reader: Arc<Reader>) {
    let mut has_stepped_back = false;
    future::poll_fn(|task| {
        reader.wakers.driver.register(task.waker());
        // Not kept from one turn to the next: the connection ends with its last user.
        let Some(connection) = attachment.connection.upgrade() else {
            return Poll::Ready(());
        };
        let Some(shared) = connection.lock() else {
            return Poll::Ready(());
        };
        if shared.is_gathering {
            if !has_stepped_back {
                // Tasks that are ready now have more to write.
                has_stepped_back = true;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            // The calls get the error as their answers.
            let _ = connection.flush(shared);
        } else {
            drop(shared);
        }
        has_stepped_back = false;
        let Some(mut shared) = connection.lock() else {
            return Poll::Ready(());
        };
        let mut task = task::Context::from_waker(&reader.waker);
        let why = Connection::read_all(&mut shared, |scratch| reader.poll_read(&mut task, scratch));
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

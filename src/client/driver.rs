//! Who reads a connection: on each runtime the callers that wait there, and a driver task for when
//! none does.
//!
//! Invariant: while there is anybody to read for, somebody is woken when there is something to
//! read who does read it, whatever becomes of the others.

use std::{
    future,
    sync::{Arc, Weak, atomic::Ordering},
    task::{self, Poll, Waker, ready},
};

use futures::task::AtomicWaker;
use tokio::runtime::{self, Handle};

use crate::{
    background::background,
    client::{
        connection::Connection,
        state::lock,
        thread,
        wakers::{Reader, WaiterCount, Wakers},
    },
    error::CallError,
    transport::stream::AttachedStream,
};

impl Connection {
    /// Counts a caller, and gives the reader of its runtime. One that has a thread and the connection to
    /// itself needs none; of several that begin at once none has.
    pub(super) fn seat(self: &Arc<Self>) -> Result<(WaiterCount, Option<Arc<Reader>>), CallError> {
        let waiter_count = WaiterCount::caller(&self.waiters);
        // Where a runtime has the socket registered, each answer wakes its thread too.
        if thread::is_here() && !waiter_count.has_company() && lock(&self.readers).is_empty() {
            return Ok((waiter_count, None));
        }
        Ok((waiter_count, Some(self.attach()?)))
    }

    /// Gives the reader of the caller's runtime, and makes it if it is the first call there.
    pub(super) fn attach(self: &Arc<Self>) -> Result<Arc<Reader>, CallError> {
        let attached = match Handle::try_current() {
            Ok(handle) => self.attach_to(&handle),
            Err(_) => return self.attach_to(background().handle()),
        };
        // A runtime that is about to end registers nothing any more.
        attached.or_else(|_| self.attach_to(background().handle()))
    }

    /// The reader of the caller's runtime, or else of another one. It makes none: what sends without
    /// waiting, as a guard's drop does, may be on a runtime that cannot read.
    pub(super) fn reader_at_hand(&self) -> Option<Arc<Reader>> {
        let here = Handle::try_current().ok().map(|handle| handle.id());
        let readers = lock(&self.readers);
        let reader = readers.iter().find(|(there, _)| Some(*there) == here);
        reader
            .or_else(|| readers.first())
            .map(|(_, reader)| Arc::clone(reader))
    }

    fn attach_to(self: &Arc<Self>, handle: &Handle) -> Result<Arc<Reader>, CallError> {
        let id = handle.id();
        let mut readers = lock(&self.readers);
        if let Some((_, reader)) = readers.iter().find(|(there, _)| *there == id) {
            return Ok(Arc::clone(reader));
        }
        let link = {
            let _runtime = handle.enter();
            Arc::clone(&self.stream).attach()
        };
        let link = link.map_err(|error| self.disconnected(&error.to_string()))?;
        let wakers = Arc::new(Wakers {
            caller: AtomicWaker::new(),
            driver: AtomicWaker::new(),
            waiters: Arc::clone(&self.waiters),
        });
        let waker = Waker::from(Arc::clone(&wakers));
        let reader = Arc::new(Reader {
            runtime: id,
            link,
            wakers,
            waker,
        });
        readers.push((id, Arc::clone(&reader)));
        drop(readers);
        let attachment = Attachment {
            connection: Arc::downgrade(self),
            id,
        };
        // A runtime that is about to end drops the attachment, which detaches.
        drop(handle.spawn(drive(attachment, Arc::clone(&reader))));
        Ok(reader)
    }

    /// Reads all there is and hands it out, then waits for more. It is over with the connection.
    pub(super) fn poll_drain(&self, reader: &Reader) -> Poll<()> {
        let mut task = task::Context::from_waker(&reader.waker);
        loop {
            if let Err(why) =
                ready!(self.drain(|scratch| reader.link.poll_read(&mut task, scratch)))
            {
                self.end(&why);
                return Poll::Ready(());
            }
        }
    }
}

/// A runtime's duty to read for a connection.
struct Attachment {
    connection: Weak<Connection>,
    id: runtime::Id,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else {
            return;
        };
        lock(&connection.readers).retain(|(id, _)| *id != self.id);
        // Whoever waits may have moved to another runtime than it began on, and the others may
        // stand still. Without a thread in the background nobody else could read either.
        if connection.waiters.load(Ordering::Acquire) > 0
            && let Ok(reader) = connection.attach_to(background().handle())
        {
            reader.wakers.driver.wake();
        }
    }
}

/// Reads for a connection on one runtime when no caller does, until the connection or the runtime
/// ends.
async fn drive(attachment: Attachment, reader: Arc<Reader>) {
    let mut has_stepped_back = false;
    future::poll_fn(|task| {
        reader.wakers.driver.register(task.waker());
        // Not kept from one turn to the next: the connection ends with its last user.
        let Some(connection) = attachment.connection.upgrade() else {
            return Poll::Ready(());
        };
        if !has_stepped_back && connection.is_gathering() {
            // Those who are ready have more to write.
            has_stepped_back = true;
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        has_stepped_back = false;
        connection.flush_gathered();
        connection.poll_drain(&reader)
    })
    .await;
}

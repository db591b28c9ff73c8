//! Who reads a connection: on each runtime the callers that wait there, and a driver task for when
//! none does.
//!
//! Invariant: while there is anybody to read for, somebody is woken when there is something to
//! read who does read it, whatever becomes of the others.

use std::{
    future,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll, Wake, Waker, ready},
};

use futures::task::AtomicWaker;
use tokio::runtime::{self, Handle};

use super::{Connection, background, lock, thread};
use crate::{CallError, wire::Link};

/// The socket as one runtime reads it.
pub(super) struct Reader {
    runtime: runtime::Id,
    link: Link,
    pub(super) wakers: Arc<Wakers>,
    /// The wakers as the one waker that the link knows.
    waker: Waker,
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
    audience: Arc<AtomicUsize>,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        let caller = self.caller.take();
        // A caller may be woken and yet not poll its call, as in a `select!` that is elsewhere by
        // now. It must not keep others waiting; alone it harms nobody. Nobody is here when the
        // caller that began to wait last has left the others behind.
        if caller.is_none() || self.audience.load(Ordering::Acquire) > 1 {
            self.driver.wake();
        }
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// Somebody to read for.
pub(super) struct Listening {
    audience: Arc<AtomicUsize>,
    count: usize,
}

impl Listening {
    /// Counts a caller, who reads for itself.
    pub(super) fn caller(audience: &Arc<AtomicUsize>) -> Self {
        Self::begin(audience, 1)
    }

    /// Counts somebody whom the driver is to read for: as two, so that it is woken.
    pub(super) fn watcher(audience: &Arc<AtomicUsize>) -> Self {
        Self::begin(audience, 2)
    }

    fn begin(audience: &Arc<AtomicUsize>, count: usize) -> Self {
        audience.fetch_add(count, Ordering::AcqRel);
        Self {
            audience: Arc::clone(audience),
            count,
        }
    }

    /// Whether there are others to read for.
    pub(super) fn has_company(&self) -> bool {
        self.audience.load(Ordering::Acquire) > self.count
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.audience.fetch_sub(self.count, Ordering::AcqRel);
    }
}

impl Connection {
    /// Gives the reader of the caller's runtime. A caller that has a thread and the connection to itself
    /// needs none.
    pub(super) fn seat(self: &Arc<Self>) -> Result<Option<Arc<Reader>>, CallError> {
        if thread::is_here() && self.audience.load(Ordering::Acquire) == 0 {
            return Ok(None);
        }
        self.attach().map(Some)
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
            Link::new(Arc::clone(&self.socket))
        };
        let link = link.map_err(|error| self.disconnected(&error.to_string()))?;
        let wakers = Arc::new(Wakers {
            caller: AtomicWaker::new(),
            driver: AtomicWaker::new(),
            audience: Arc::clone(&self.audience),
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
        if connection.audience.load(Ordering::Acquire) > 0
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

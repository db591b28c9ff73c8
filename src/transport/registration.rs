//! The registration of a socket with each runtime that is attached to it.
//!
//! It uses the socket's own descriptor, so an attachment never needs another one. Invariant: while a task waits to
//! read an attachment, bytes that arrive wake it.

use std::{
    io, mem,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{self, Handle},
};

use crate::transport::{
    register::register,
    stream::{AttachedStream, Stream},
};

/// A stream over one socket.
pub(super) trait Socket: Stream + AsRawFd + Sized {
    /// Whether a read that did not fill its buffer has emptied the socket.
    const SHORT_READ_EMPTIES: bool;

    /// The registrations of the socket.
    fn registrations(&self) -> &Registrations<Self>;

    /// Returns whether this is the process that opened the socket, and not a forked child.
    fn is_here(&self) -> bool;
}

/// The registration of each attached runtime.
#[derive(Debug)]
pub(super) struct Registrations<S: Socket>(Mutex<Vec<(runtime::Id, Weak<Registration<S>>)>>);

impl<S: Socket> Default for Registrations<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Attaches the current runtime to a socket.
///
/// # Errors
///
/// As [`Stream::attach`].
pub(super) fn attach<S: Socket>(stream: Arc<S>) -> io::Result<Box<dyn AttachedStream>> {
    let handle = Handle::try_current().map_err(io::Error::other)?;
    let mut all = lock(&stream.registrations().0);
    // A runtime can register a descriptor only once.
    let known = all.iter().find(|(runtime, _)| *runtime == handle.id());
    let registration = match known.and_then(|(_, known)| known.upgrade()) {
        Some(known) => known,
        None => {
            let new = Arc::new(Registration::new(Arc::clone(&stream), handle.clone())?);
            all.retain(|(_, other)| other.strong_count() > 0);
            // Most streams are only ever attached to one runtime.
            all.reserve_exact(1);
            all.push((handle.id(), Arc::downgrade(&new)));
            new
        }
    };
    drop(all);
    Ok(Box::new(Attached {
        registration: Some(registration),
        stream,
    }))
}

/// The registration of a socket with one runtime.
///
/// The socket is registered for writing only while it is full. Otherwise each read by the peer would
/// wake the reader here, which costs one system call for each message.
#[derive(Debug)]
struct Registration<S: Socket> {
    runtime: Handle,
    waiting: Mutex<Waiting<S>>,
    /// Whether the socket is registered for writing.
    is_full: AtomicBool,
}

#[derive(Debug)]
struct Waiting<S: Socket> {
    /// `None` only during a new registration, or after that has failed.
    socket: Option<AsyncFd<Descriptor<S>>>,
    /// The task that waits to read.
    reader: Option<Waker>,
}

/// A descriptor that is registered with a runtime.
#[derive(Debug)]
struct Descriptor<S>(Arc<S>);

impl<S: Socket> AsRawFd for Descriptor<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl<S: Socket> Registration<S> {
    fn new(stream: Arc<S>, runtime: Handle) -> io::Result<Self> {
        let socket = register(Descriptor(stream), Interest::READABLE)?;
        Ok(Self {
            runtime,
            waiting: Mutex::new(Waiting {
                socket: Some(socket),
                reader: None,
            }),
            is_full: AtomicBool::new(false),
        })
    }

    /// Registers the socket again, for `interest`.
    fn reregister(&self, waiting: &mut Waiting<S>, interest: Interest) -> io::Result<()> {
        let _runtime = self.runtime.enter();
        if let Some(socket) = waiting.socket.take() {
            let descriptor = socket.into_inner();
            let stream = Arc::clone(&descriptor.0);
            let registered = register(descriptor, interest);
            // If that fails, this restores a registration for reading, whose resources were just
            // freed.
            let registered =
                registered.or_else(|_| register(Descriptor(stream), Interest::READABLE));
            waiting.socket = Some(registered?);
        }
        // The reader waits for the old registration, so it must poll again.
        let reader = waiting.reader.take();
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_read(
        &self,
        task: &mut Context<'_>,
        mut read: impl FnMut() -> io::Result<usize>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let waiting = &mut *lock(&self.waiting);
        loop {
            let Some(socket) = &waiting.socket else {
                return Poll::Pending;
            };
            let mut ready = match socket.poll_read_ready(task) {
                Poll::Ready(Ok(ready)) => ready,
                // This runtime has ended, and another one reads.
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Pending => {
                    let reader = waiting.reader.as_ref();
                    if !reader.is_some_and(|reader| reader.will_wake(task.waker())) {
                        waiting.reader = Some(task.waker().clone());
                    }
                    return Poll::Pending;
                }
            };
            match read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(length) => {
                    if S::SHORT_READ_EMPTIES && 0 < length && length < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(length));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits for room in a socket that is full.
    fn poll_room(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *lock(&self.waiting);
        if !self.is_full.swap(true, Ordering::Relaxed) {
            self.reregister(waiting, Interest::READABLE | Interest::WRITABLE)?;
        }
        let Some(socket) = &waiting.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        ready!(socket.poll_write_ready(task))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Registers for reading only, after a write has succeeded.
    fn has_room(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            let waiting = &mut *lock(&self.waiting);
            if self.is_full.swap(false, Ordering::Relaxed) {
                self.reregister(waiting, Interest::READABLE)?;
            }
        }
        Ok(())
    }
}

/// A socket that is attached to one runtime. Attachments of one runtime share a registration, which wakes the last
/// of their tasks to poll for reading.
#[derive(Debug)]
struct Attached<S: Socket> {
    stream: Arc<S>,
    /// `None` only during the drop.
    registration: Option<Arc<Registration<S>>>,
}

impl<S: Socket> Attached<S> {
    fn registration(&self) -> io::Result<&Registration<S>> {
        let registration = self.registration.as_deref();
        registration.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: Socket> AttachedStream for Attached<S> {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.stream.has_buffered() {
            // The socket may stay unreadable.
            return Poll::Ready(self.stream.try_read(buffer));
        }
        let room = buffer.len();
        let read = || self.stream.try_read(buffer);
        self.registration()?.poll_read(task, read, room)
    }

    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.registration()?.poll_room(task))?;
                }
                Ok(written) => {
                    if written == bytes.len() {
                        self.registration()?.has_room()?;
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Socket> Drop for Attached<S> {
    fn drop(&mut self) {
        if !self.stream.is_here() {
            // This is a forked child: the mutexes and the runtime are copies of the parent's.
            mem::forget(self.registration.take());
            return;
        }
        // The next attachment of the runtime must find this registration, or none.
        let all = lock(&self.stream.registrations().0);
        let mut reader = None;
        if let Some(registration) = self.registration.take() {
            if Arc::strong_count(&registration) == 1 {
                reader = lock(&registration.waiting).reader.take();
            }
            drop(registration);
        }
        drop(all);
        // Dropping the waker may drop a task, and with it another attachment.
        drop(reader);
    }
}

/// Locks a mutex, and ignores poisoning: no code under these mutexes panics between two changes.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

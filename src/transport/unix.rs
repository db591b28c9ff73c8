//! The Unix transport. Only this file imports interprocess.

use std::{
    io::{self, Read, Write},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    thread,
    time::Duration,
};

use interprocess::{
    ConnectWaitMode,
    local_socket::{
        ConnectOptions, GenericFilePath, Listener as LocalListener, ListenerNonblockingMode,
        ListenerOptions, Name, Stream as LocalStream, ToFsName, traits::Listener as _,
    },
    os::unix::{
        local_socket::ListenerOptionsExt,
        uds_local_socket::{Listener as SocketListener, Stream as Socket},
    },
};
use lockkeeper_sys::Private;
use rustix::io::ioctl_fionread;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{self, Handle},
};

use crate::transport::{
    listener::{Acceptor, Listener},
    peer_process::{self, Credentials},
    register::register,
    stream::{AttachedStream, PeerUser, Stream},
    transport::Transport,
};

/// Unix sockets at paths.
#[derive(Debug)]
pub(crate) struct Unix;

impl Transport for Unix {
    fn connect(&self, place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        Ok(Arc::new(UnixStream::connect(Path::new(place), patience)?))
    }

    fn connect_at_once(&self, place: &str) -> Option<io::Result<Arc<dyn Stream>>> {
        match self.connect(place, Duration::ZERO) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            connected => Some(connected),
        }
    }

    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(UnixListener::bind(Path::new(place))?))
    }
}

/// A connected Unix socket. A forked child does not inherit it.
#[derive(Debug)]
pub(crate) struct UnixStream {
    socket: Private<Socket>,
    /// The registration of each attached runtime.
    registrations: Mutex<Vec<(runtime::Id, Weak<Registration>)>>,
}

impl From<Private<Socket>> for UnixStream {
    fn from(socket: Private<Socket>) -> Self {
        Self {
            socket,
            registrations: Mutex::default(),
        }
    }
}

/// The longest pause between two attempts to connect to a full queue.
const MAX_PAUSE: Duration = Duration::from_millis(50);

impl UnixStream {
    /// Connects to the socket at a path. While its queue is full, this thread waits, for at most
    /// `wait`.
    pub(crate) fn connect(path: &Path, wait: Duration) -> io::Result<Self> {
        let name = name(path)?;
        let mut left = wait;
        let mut pause = Duration::from_millis(1);
        loop {
            let socket = Private::open(|| {
                let LocalStream::UdSocket(socket) = ConnectOptions::new()
                    .name(name.borrow())
                    .wait_mode(ConnectWaitMode::Deferred)
                    .nonblocking_stream(true)
                    .connect_sync()?;
                Ok(socket)
            })?;
            // A nonblocking connect to a full queue returns no error and leaves the socket
            // connecting for ever; no event reports when the queue has room. Only a connected
            // socket has a peer address.
            match socket.get()?.inner().peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Ok(_) | Err(_) => return Ok(socket.into()),
            }
            if left.is_zero() {
                let why = format!("its queue of clients was full for {wait:?}: it may stand still");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            thread::sleep(pause.min(left));
            left = left.saturating_sub(pause);
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }

    /// Makes two connected sockets.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Private::open_pair(|| {
            let (one, other) = std::os::unix::net::UnixStream::pair()?;
            Ok((OwnedFd::from(one), OwnedFd::from(other)))
        })?;
        Ok((one.try_into()?, other.try_into()?))
    }

    fn credentials(&self) -> Option<Credentials> {
        peer_process::credentials(self.descriptor()?)
    }
}

impl TryFrom<Private<OwnedFd>> for UnixStream {
    type Error = io::Error;

    /// Wraps a connected socket, and makes it nonblocking.
    fn try_from(socket: Private<OwnedFd>) -> io::Result<Self> {
        let socket = socket.map(|socket| {
            let socket = std::os::unix::net::UnixStream::from(socket);
            socket.set_nonblocking(true)?;
            Ok(Socket::from(socket))
        });
        Ok(socket?.into())
    }
}

impl Stream for UnixStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.socket.get()?;
        retry(|| socket.read(buffer))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut socket = self.socket.get()?;
        retry(|| socket.write(bytes))
    }

    fn shutdown(&self) {
        if let Ok(socket) = self.socket.get() {
            // An error means that the stream is already shut down.
            let _ = socket.inner().shutdown(std::net::Shutdown::Both);
        }
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        let mut all = lock(&self.registrations);
        // A runtime can register a descriptor only once.
        let known = all.iter().find(|(runtime, _)| *runtime == handle.id());
        let registration = match known.and_then(|(_, known)| known.upgrade()) {
            Some(known) => known,
            None => {
                let new = Arc::new(Registration::new(Arc::clone(&self), handle.clone())?);
                all.retain(|(_, other)| other.strong_count() > 0);
                // Most streams are only ever attached to one runtime.
                all.reserve_exact(1);
                all.push((handle.id(), Arc::downgrade(&new)));
                new
            }
        };
        drop(all);
        Ok(Box::new(AttachedUnixStream {
            registration: Some(registration),
            stream: self,
        }))
    }

    /// Called only if the kernel does not report the other process.
    fn is_trusted(&self) -> bool {
        false
    }

    fn peer_user(&self) -> Option<PeerUser> {
        Some(self.credentials()?.user)
    }

    fn peer_pid(&self) -> Option<u32> {
        self.credentials()?.pid
    }

    fn peer_end(&self) -> Option<OwnedFd> {
        peer_process::of_peer(self.descriptor()?)
    }

    fn unread(&self) -> Option<usize> {
        ioctl_fionread(&self.socket).ok()?.try_into().ok()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// The registration of a Unix socket with one runtime. It uses the socket's own descriptor, so an
/// attachment never needs another one.
///
/// The socket is registered for writing only while it is full. Otherwise each read by the peer would
/// wake the reader here, which costs one system call for each message.
#[derive(Debug)]
struct Registration {
    runtime: Handle,
    waiting: Mutex<Waiting>,
    /// Whether the socket is registered for writing.
    is_full: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    /// `None` only during a new registration, or after that has failed.
    socket: Option<AsyncFd<Descriptor>>,
    /// The task that waits to read.
    reader: Option<Waker>,
}

/// A descriptor that is registered with a runtime.
#[derive(Debug)]
struct Descriptor(Arc<UnixStream>);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }
}

impl Registration {
    fn new(stream: Arc<UnixStream>, runtime: Handle) -> io::Result<Self> {
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
    fn register_anew(&self, waiting: &mut Waiting, interest: Interest) -> io::Result<()> {
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
                    if 0 < length && length < room {
                        // A read that did not fill the buffer emptied the socket.
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
            self.register_anew(waiting, Interest::READABLE | Interest::WRITABLE)?;
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
                self.register_anew(waiting, Interest::READABLE)?;
            }
        }
        Ok(())
    }
}

/// A Unix socket that is attached to one runtime. Attachments of one runtime share a registration,
/// which wakes the last of their tasks to poll for reading.
#[derive(Debug)]
struct AttachedUnixStream {
    stream: Arc<UnixStream>,
    /// `None` only during the drop.
    registration: Option<Arc<Registration>>,
}

impl AttachedUnixStream {
    fn registration(&self) -> io::Result<&Registration> {
        let registration = self.registration.as_deref();
        registration.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AttachedStream for AttachedUnixStream {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
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

impl Drop for AttachedUnixStream {
    fn drop(&mut self) {
        if self.stream.socket.get().is_err() {
            // This is a forked child: the mutexes and the runtime are copies of the parent's.
            mem::forget(self.registration.take());
            return;
        }
        // The next attachment of the runtime must find this registration, or none.
        let all = lock(&self.stream.registrations);
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bound Unix socket. A forked child does not inherit it.
#[derive(Debug)]
pub(crate) struct UnixListener(Private<SocketListener>);

impl UnixListener {
    /// Binds a socket at a free path, with access for this user only.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let name = name(path)?;
        let listener = Private::open(|| {
            let LocalListener::UdSocket(listener) = ListenerOptions::new()
                .name(name)
                .reclaim_name(false)
                .mode(0o600)
                .nonblocking(ListenerNonblockingMode::Both)
                .create_sync()?;
            Ok(listener)
        });
        listener.map(Self)
    }
}

impl Listener for UnixListener {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(UnixAcceptor(register(*self, Interest::READABLE)?)))
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A bound Unix socket that is attached to a runtime.
#[derive(Debug)]
struct UnixAcceptor(AsyncFd<UnixListener>);

impl Acceptor for UnixAcceptor {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(task))?;
            let listener = self.0.get_ref().0.get()?;
            match retry(|| Private::open(|| listener.accept())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(socket) => return Poll::Ready(Ok(Arc::new(UnixStream::from(socket)))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future, iter, os::unix::net};

    use super::*;

    #[test]
    fn connects_at_once_unless_the_queue_of_the_listener_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let place = path.to_str().unwrap();
        assert!(matches!(Unix.connect_at_once(place), Some(Err(_))));
        let listener = net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let connected: Vec<_> = iter::from_fn(|| Unix.connect_at_once(place))
            .take(9)
            .collect();
        assert!(connected.iter().all(Result::is_ok));
        assert!((1..9).contains(&connected.len()), "{}", connected.len());
        listener.accept().unwrap();
        assert!(matches!(Unix.connect_at_once(place), Some(Ok(_))));
    }

    #[tokio::test]
    async fn runtime_can_be_attached_several_times() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) = (Arc::new(here), Arc::new(there));
        let attached = [(); 3].map(|()| Arc::clone(&there).attach().unwrap());
        for attached in attached {
            here.try_write(b"x").unwrap();
            let mut buffer = [0; 4];
            let read = future::poll_fn(|task| attached.poll_read(task, &mut buffer));
            assert_eq!(read.await.unwrap(), 1);
        }
    }
}

//! Unix sockets: the only file that names interprocess.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use interprocess::{
    ConnectWaitMode,
    local_socket::{
        ConnectOptions, GenericFilePath, Listener as LocalListener, ListenerNonblockingMode,
        ListenerOptions, Name, Stream as LocalStream, ToFsName,
        traits::{Listener as _, StreamCommon as _},
    },
    os::unix::local_socket::ListenerOptionsExt,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::transport::{
    listener::{Acceptor, Listener},
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

    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(UnixListener::bind(Path::new(place))?))
    }
}

/// A connected Unix socket.
#[derive(Debug)]
pub(crate) struct UnixStream(LocalStream);

/// The longest pause between two looks at a full queue.
const MAX_PAUSE: Duration = Duration::from_millis(50);

impl UnixStream {
    /// Connects to the socket at a path. While its queue is full this thread waits, for that long at
    /// the most.
    pub(crate) fn connect(path: &Path, wait: Duration) -> io::Result<Self> {
        let name = name(path)?;
        let mut left = wait;
        let mut pause = Duration::from_millis(1);
        loop {
            let stream = ConnectOptions::new()
                .name(name.borrow())
                .wait_mode(ConnectWaitMode::Deferred)
                .nonblocking_stream(true)
                .connect_sync()?;
            // A full queue is no error here, and no event tells when it has room: the system leaves
            // the socket in the state of one that is being connected, which it never will be.
            let LocalStream::UdSocket(socket) = &stream;
            match socket.inner().peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Ok(_) | Err(_) => return Ok(Self(stream)),
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

    /// Makes two sockets that are connected to each other.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let end = |fd: std::os::unix::net::UnixStream| -> io::Result<Self> {
            fd.set_nonblocking(true)?;
            Ok(Self(
                interprocess::os::unix::uds_local_socket::Stream::from(fd).into(),
            ))
        };
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((end(one)?, end(other)?))
    }
}

impl Stream for UnixStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.0).read(buffer))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| (&self.0).write(bytes))
    }

    fn shut_down(&self) {
        let LocalStream::UdSocket(stream) = &self.0;
        // A stream that is down already needs nothing.
        let _ = stream.inner().shutdown(std::net::Shutdown::Both);
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        let socket = Descriptor::OfStream(Arc::clone(&self));
        let socket = match register(socket, Interest::READABLE) {
            // One runtime registers a descriptor once, and this one has.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                register(Descriptor::Copy(self.copy()?), Interest::READABLE)
            }
            registered => registered,
        };
        Ok(Box::new(AttachedUnixStream {
            socket: socket?,
            room: OnceLock::new(),
            stream: self,
        }))
    }

    /// Asked only where the kernel does not say who the other process is.
    fn is_trusted(&self) -> bool {
        false
    }

    fn peer_user(&self) -> Option<PeerUser> {
        let peer = self.0.peer_creds().ok()?;
        Some(PeerUser::new(peer.euid()?, peer.egid()?))
    }

    fn peer_pid(&self) -> Option<u32> {
        let pid = self.0.peer_creds().ok()?.pid()?;
        // A peer in another pid namespace has no id here, or 0.
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let LocalStream::UdSocket(stream) = &self.0;
        Some(stream.inner().as_fd())
    }
}

impl UnixStream {
    /// Another descriptor of the same socket.
    fn copy(&self) -> io::Result<OwnedFd> {
        let LocalStream::UdSocket(stream) = &self.0;
        Ok(stream.inner().try_clone()?.into())
    }
}

/// A descriptor that is registered with a runtime.
#[derive(Debug)]
enum Descriptor {
    OfStream(Arc<UnixStream>),
    Copy(OwnedFd),
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::OfStream(stream) => {
                let LocalStream::UdSocket(stream) = &stream.0;
                stream.inner().as_raw_fd()
            }
            Self::Copy(copy) => copy.as_raw_fd(),
        }
    }
}

/// A Unix socket to which one runtime is attached.
///
/// It is registered for reading alone. A socket that is registered for writing too wakes its
/// reader each time that the peer reads, which costs a system call a message; so it is registered
/// for writing only once it was full.
#[derive(Debug)]
struct AttachedUnixStream {
    stream: Arc<UnixStream>,
    socket: AsyncFd<Descriptor>,
    room: OnceLock<AsyncFd<OwnedFd>>,
}

impl AttachedStream for AttachedUnixStream {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // A runtime that has ended reads nothing; another one does.
            let Ok(mut ready) = ready!(self.socket.poll_read_ready(task)) else {
                return Poll::Pending;
            };
            match self.stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(length) => {
                    if 0 < length && length < buffer.len() {
                        // A read that did not fill the buffer has emptied the socket.
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(length));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.room()?.poll_write_ready(task))?.clear_ready();
                }
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AttachedUnixStream {
    fn room(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        // One runtime registers a descriptor once, and `socket` is registered.
        let room = register(self.stream.copy()?, Interest::WRITABLE)?;
        Ok(self.room.get_or_init(|| room))
    }
}

/// A bound Unix socket.
#[derive(Debug)]
pub(crate) struct UnixListener(LocalListener);

impl UnixListener {
    /// Binds a socket at a path where there is none, for this user alone.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        ListenerOptions::new()
            .name(name(path)?)
            .reclaim_name(false)
            .mode(0o600)
            .nonblocking(ListenerNonblockingMode::Both)
            .create_sync()
            .map(Self)
    }
}

impl Listener for UnixListener {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(UnixAcceptor(register(*self, Interest::READABLE)?)))
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        let LocalListener::UdSocket(listener) = &self.0;
        listener.as_fd().as_raw_fd()
    }
}

/// A bound Unix socket to which a runtime is attached.
#[derive(Debug)]
struct UnixAcceptor(AsyncFd<UnixListener>);

impl Acceptor for UnixAcceptor {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(task))?;
            match retry(|| self.0.get_ref().0.accept()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(stream) => return Poll::Ready(Ok(Arc::new(UnixStream(stream)))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Registers a descriptor with the current runtime.
#[expect(
    deprecated,
    reason = "the successor is unsafe, for types whose descriptor may change; those here own theirs"
)]
fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(io, interest)
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
    use std::future;

    use super::*;

    #[tokio::test]
    async fn runtime_is_attached_as_often_as_it_likes() {
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

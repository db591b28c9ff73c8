//! The local socket: the only file that names interprocess.

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
        ConnectOptions, GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, Name,
        Stream, ToFsName,
        traits::{Listener as _, StreamCommon as _},
    },
    os::unix::local_socket::ListenerOptionsExt,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A connected local socket that never blocks and belongs to no runtime.
#[derive(Debug)]
pub(crate) struct Socket(Stream);

/// How long a full queue is left alone at the most.
const MOST_PAUSE: Duration = Duration::from_millis(50);

impl Socket {
    /// Connects to the socket at a path, and waits at most that long, on this thread, while its
    /// queue is full.
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
            // A full queue is no error here, and nothing tells when it has room: the system takes
            // the socket for one that is being connected, which it never is.
            let Stream::UdSocket(socket) = &stream;
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
            pause = (2 * pause).min(MOST_PAUSE);
        }
    }

    /// Two sockets that are connected to each other, in memory alone.
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

    /// The user at the other end.
    pub(crate) fn peer_uid(&self) -> io::Result<Option<u32>> {
        Ok(self.0.peer_creds()?.euid())
    }

    /// Reads what is there, `WouldBlock` if that is nothing.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.0).read(buffer))
    }

    /// Writes what fits, `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| (&self.0).write(bytes))
    }

    /// Ends the stream in both directions, for whoever reads from it.
    pub(crate) fn shut_down(&self) {
        let Stream::UdSocket(stream) = &self.0;
        // A stream that is down already has nobody to tell.
        let _ = stream.inner().shutdown(std::net::Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let Stream::UdSocket(stream) = &self.0;
        stream.inner().as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        let Stream::UdSocket(stream) = &self.0;
        stream.inner().as_raw_fd()
    }
}

/// A connected local socket as one runtime knows it.
///
/// It is registered for reading alone. A socket that is registered for writing too wakes its
/// reader each time that the peer reads, which costs a system call a message; so it is registered
/// for that only once it was full.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<Arc<Socket>>,
    room: OnceLock<AsyncFd<OwnedFd>>,
}

impl Link {
    /// Registers a socket with the current runtime, beside others that it may be registered with.
    pub(crate) fn new(socket: Arc<Socket>) -> io::Result<Self> {
        Ok(Self {
            socket: register(socket, Interest::READABLE)?,
            room: OnceLock::new(),
        })
    }

    /// Reads what is there, or waits until there is something. Zero is the end.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            // A runtime that has ended reads nothing; another one does.
            let Ok(mut ready) = ready!(self.socket.poll_read_ready(context)) else {
                return Poll::Pending;
            };
            match self.socket.get_ref().try_read(buffer) {
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

    /// Reads what is there, whether or not the runtime has heard of it; `WouldBlock` if that is nothing.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.get_ref().try_read(buffer)
    }

    /// Writes what fits, or waits until something does.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.get_ref().try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.room()?.poll_write_ready(context))?.clear_ready();
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn room(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        // One runtime knows a descriptor once, so this is another one of the same socket.
        let Stream::UdSocket(stream) = &self.socket.get_ref().0;
        let room = register(stream.inner().try_clone()?.into(), Interest::WRITABLE)?;
        Ok(self.room.get_or_init(|| room))
    }
}

/// A bound local socket that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) struct Door(Listener);

/// A bound local socket that lets clients in.
#[derive(Debug)]
pub(crate) struct OpenDoor(AsyncFd<Door>);

impl Door {
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

    /// Registers the socket with the current runtime.
    pub(crate) fn open(self) -> io::Result<OpenDoor> {
        register(self, Interest::READABLE).map(OpenDoor)
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        let Listener::UdSocket(listener) = &self.0;
        listener.as_fd().as_raw_fd()
    }
}

impl OpenDoor {
    /// Lets the next client in.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        loop {
            let mut ready = self.0.readable().await?;
            match retry(|| ready.get_inner().0.accept()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                accepted => return accepted.map(Socket),
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

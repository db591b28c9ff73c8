//! The Unix transport. Only this file imports interprocess.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    sync::Arc,
    task::{Context, Poll, ready},
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
        uds_local_socket::{Listener as SocketListener, Stream as UdSocket},
    },
};
use lockkeeper_sys::Private;
use rustix::io::ioctl_fionread;
use tokio::io::{Interest, unix::AsyncFd};

use crate::transport::{
    listener::{Acceptor, Listener},
    peer_process::{self, Credentials},
    register::register,
    registration::{self, Registrations, Socket},
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
    socket: Private<UdSocket>,
    registrations: Registrations<Self>,
}

impl From<Private<UdSocket>> for UnixStream {
    fn from(socket: Private<UdSocket>) -> Self {
        Self {
            socket,
            registrations: Registrations::default(),
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
            Ok(UdSocket::from(socket))
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
        registration::attach(self)
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

impl AsRawFd for UnixStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Socket for UnixStream {
    const SHORT_READ_EMPTIES: bool = true;

    fn registrations(&self) -> &Registrations<Self> {
        &self.registrations
    }

    fn is_here(&self) -> bool {
        self.socket.get().is_ok()
    }
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

//! Streams that a parent passes to child processes as descriptors. They have no path.
//!
//! A parent creates a socket pair and a pipe. It passes one end of each to a worker over the lifeline, and the
//! other ends to its own manager, which accepts them as a stream. A spawned manager receives the stream of its
//! owner in the same way.
//!
//! Invariant: the kernel's credentials of a socket pair are those of its creator. They are right for a
//! spawned manager and its owner's stream. A stream to a worker stores the worker's process id instead.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use lockkeeper_sys::Private;

use crate::{
    address::Address,
    transport::{
        listener::{Acceptor, Listener},
        memory, peer_process,
        stream::{AttachedStream, Stream},
        unix::UnixStream,
    },
};

/// The manager's ends of the sockets and the pipe to a process that does not exist yet.
#[derive(Debug)]
pub(crate) struct ManagerEnds {
    socket: UnixStream,
    reports: Option<Private<OwnedFd>>,
}

/// The ends that the child receives.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    pub(crate) socket: Private<OwnedFd>,
    /// The write end of the report pipe.
    pub(crate) reports: Private<OwnedFd>,
}

/// Creates two connected sockets. A forked child inherits neither.
///
/// # Errors
///
/// Returns an error when the system has no descriptors left.
pub(crate) fn socket_pair() -> io::Result<(Private<OwnedFd>, Private<OwnedFd>)> {
    Private::open_pair(|| {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((one.into(), other.into()))
    })
}

/// Creates the socket pair and the pipe between a child and a manager.
///
/// # Errors
///
/// Returns an error when the system has no descriptors left.
pub(crate) fn connect_child() -> io::Result<(ManagerEnds, ChildEnds)> {
    let (ours, socket) = socket_pair()?;
    let (for_reading, for_writing) = report_pipe()?;
    let manager = ManagerEnds {
        socket: ours.try_into()?,
        reports: Some(for_reading),
    };
    let child = ChildEnds {
        socket,
        reports: for_writing,
    };
    Ok((manager, child))
}

/// Creates a pipe whose ends do not block.
fn report_pipe() -> io::Result<(Private<OwnedFd>, Private<OwnedFd>)> {
    use rustix::pipe::{PipeFlags, pipe_with};

    Private::open_pair(|| Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?))
}

impl ManagerEnds {
    /// Passes the ends to the manager of this process at an address, which accepts them as the stream
    /// to the child of the given id. The parent must not have waited for the child yet.
    ///
    /// # Errors
    ///
    /// Returns an error when no manager of this process has the address.
    pub(crate) fn hand_over(self, address: &Address, child: u32) -> io::Result<()> {
        // The system does not reuse the id before the parent has waited for the child.
        let end = peer_process::of_process(child);
        self.hand_over_of(address, child, end)
    }

    fn hand_over_of(self, address: &Address, pid: u32, end: Option<OwnedFd>) -> io::Result<()> {
        memory::hand_over(address.parts().1, self.into_stream(pid, end))
    }

    /// Makes the stream to a process from these ends.
    pub(crate) fn into_stream(self, pid: u32, end: Option<OwnedFd>) -> Arc<dyn Stream> {
        Arc::new(HandedStream {
            socket: Arc::new(self.socket),
            pid,
            end: Mutex::new(end),
            reports: self.reports,
        })
    }
}

/// Connects this process with its own manager over sockets, and returns the client's end.
///
/// # Errors
///
/// Returns an error when the system has no descriptors left, or no manager of this process has the address.
pub(crate) fn connect_own(address: &Address) -> io::Result<Private<OwnedFd>> {
    let (ours, theirs) = socket_pair()?;
    let ends = ManagerEnds {
        socket: theirs.try_into()?,
        reports: None,
    };
    ends.hand_over_of(address, process::id(), None)?;
    Ok(ours)
}

/// A stream to a child of this process, or to this process itself.
#[derive(Debug)]
struct HandedStream {
    socket: Arc<UnixStream>,
    pid: u32,
    /// The descriptor that shows the end of the process, until `peer_end` returns it.
    end: Mutex<Option<OwnedFd>>,
    reports: Option<Private<OwnedFd>>,
}

impl Stream for HandedStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.try_read(buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    fn shutdown(&self) {
        self.socket.shutdown();
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        Arc::clone(&self.socket).attach()
    }

    /// This process started the other one.
    fn is_trusted(&self) -> bool {
        true
    }

    fn peer_pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn peer_end(&self) -> Option<OwnedFd> {
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn unread(&self) -> Option<usize> {
        self.socket.unread()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.descriptor()
    }

    fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.reports.as_ref().map(AsFd::as_fd)
    }
}

/// Makes a listener accept a socket that this process received from its parent before all other
/// streams.
///
/// # Errors
///
/// Returns an error when the descriptor is not a socket.
pub(crate) fn accept_first(
    socket: Private<OwnedFd>,
    listener: Box<dyn Listener>,
) -> io::Result<Box<dyn Listener>> {
    let first = Arc::new(UnixStream::try_from(socket)?);
    Ok(Box::new(ListenerWithFirst { first, listener }))
}

/// A listener with a first stream that is already connected.
#[derive(Debug)]
struct ListenerWithFirst {
    first: Arc<UnixStream>,
    listener: Box<dyn Listener>,
}

impl Listener for ListenerWithFirst {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(AcceptorWithFirst {
            first: RefCell::new(Some(self.first)),
            acceptor: self.listener.attach()?,
        }))
    }
}

/// An acceptor with a first stream, until that is accepted.
#[derive(Debug)]
struct AcceptorWithFirst {
    first: RefCell<Option<Arc<UnixStream>>>,
    acceptor: Box<dyn Acceptor>,
}

impl Acceptor for AcceptorWithFirst {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Ok(first)),
            None => self.acceptor.poll_accept(task),
        }
    }
}

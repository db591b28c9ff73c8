//! Streams that child processes get as descriptors. They have no path.
//!
//! A parent makes a pair of sockets and a pipe, gives one end of each to a worker over the lifeline, and hands
//! the others to a manager of its own as a stream that the manager accepts. A spawned manager is handed the
//! stream of its owner.
//!
//! Invariant: the kernel's credentials of a pair name its creator. That is right for a manager that is handed
//! its owner's stream; a stream to a worker says itself which process it was made for.

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

/// The manager's ends of what connects it with a process that does not exist yet.
#[derive(Debug)]
pub(crate) struct ManagerEnds {
    socket: UnixStream,
    reports: Option<Private<OwnedFd>>,
}

/// The ends that the child is given.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    pub(crate) socket: Private<OwnedFd>,
    /// The end for writing of the report pipe.
    pub(crate) reports: Private<OwnedFd>,
}

/// Makes two sockets that are connected to each other. A forked child keeps neither.
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

/// Makes the pair of sockets and the pipe between a child and a manager.
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

/// Makes a pipe whose ends do not block.
fn report_pipe() -> io::Result<(Private<OwnedFd>, Private<OwnedFd>)> {
    use rustix::pipe::{PipeFlags, pipe_with};

    Private::open_pair(|| Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?))
}

impl ManagerEnds {
    /// Has the manager of this process at an address accept the ends, as the stream to the child of the
    /// given id, which was not waited for yet.
    ///
    /// # Errors
    ///
    /// Returns an error when no manager of this process has the address.
    pub(crate) fn hand_over(self, address: &Address, child: u32) -> io::Result<()> {
        // The id stays the child's for as long as its parent has not waited for it.
        let end = peer_process::of_process(child);
        self.hand_over_of(address, child, end)
    }

    fn hand_over_of(self, address: &Address, pid: u32, end: Option<OwnedFd>) -> io::Result<()> {
        memory::hand_over(address.parts().1, self.into_stream(pid, end))
    }

    /// Makes these ends the stream to a process.
    pub(crate) fn into_stream(self, pid: u32, end: Option<OwnedFd>) -> Arc<dyn Stream> {
        Arc::new(HandedStream {
            socket: Arc::new(self.socket),
            pid,
            end: Mutex::new(end),
            reports: self.reports,
        })
    }
}

/// Connects this process itself with a manager of its own, by sockets. Returns this process's end.
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
    /// The end of the process, until it is asked for.
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

    fn shut_down(&self) {
        self.socket.shut_down();
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        Arc::clone(&self.socket).attach()
    }

    /// This process has started the other one.
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

/// Has a listener accept a socket that this process was handed before all others.
///
/// # Errors
///
/// Returns an error when the descriptor is that of no socket.
pub(crate) fn accept_first(
    socket: Private<OwnedFd>,
    listener: Box<dyn Listener>,
) -> io::Result<Box<dyn Listener>> {
    let first = Arc::new(UnixStream::try_from(socket)?);
    Ok(Box::new(ListenerWithFirst { first, listener }))
}

/// A listener that has a stream already.
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

/// An acceptor that has a stream already, until it is accepted.
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

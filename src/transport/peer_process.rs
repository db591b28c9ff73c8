//! Descriptors that become readable when a process ends, and a set of them that one runtime waits
//! for.
//!
//! A stream may outlive the process that it was made for, because a forked child keeps it open. So a
//! manager also waits for the end of the process.
//!
//! Invariant: these descriptors have numbers in the lower half of the process's limit, so that a manager with
//! many clients still has descriptors for new connections.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use lockkeeper_sys::Private;
use nix::{
    errno::Errno,
    sys::socket::{
        getsockopt,
        sockopt::{PeerCredentials, PeerPidfd},
    },
};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::transport::{register::register, stream::PeerUser};

/// The process at the other end of a socket, as the kernel reports it.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) user: PeerUser,
    /// `None` if the process has no id in this process's pid namespace.
    pub(super) pid: Option<u32>,
}

pub(super) fn credentials(socket: BorrowedFd<'_>) -> Option<Credentials> {
    let peer = getsockopt(&socket, PeerCredentials).ok()?;
    Some(Credentials {
        user: PeerUser::new(peer.uid(), peer.gid()),
        pid: u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0),
    })
}

/// Returns a descriptor that becomes readable when the peer of a socket ends.
pub(super) fn of_peer(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    let process = match getsockopt(&socket, PeerPidfd) {
        Ok(process) => Some(process),
        // The peer has ended, and its parent has waited for it.
        Err(Errno::ESRCH) => has_ended(),
        // Linux has the option since 6.5; a kernel or sandbox may also return EINVAL. If another process has the id
        // by now, the session ends later than it could, but never too early.
        Err(Errno::EINVAL | Errno::ENOPROTOOPT) => return of_process(credentials(socket)?.pid?),
        // For example, this process has no descriptor left.
        Err(_) => None,
    };
    process.filter(leaves_room)
}

/// Returns a descriptor that becomes readable when a process ends.
pub(crate) fn of_process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(rustix::io::Errno::SRCH) => has_ended(),
        Err(_) => None,
    };
    process.filter(leaves_room)
}

/// Returns a descriptor that is already readable.
fn has_ended() -> Option<OwnedFd> {
    eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()
}

/// Returns whether a descriptor's number is in the lower half of this process's limit.
fn leaves_room(process: &OwnedFd) -> bool {
    let most = getrlimit(Resource::Nofile).current;
    let number = u64::try_from(process.as_raw_fd()).unwrap_or(u64::MAX);
    most.is_none_or(|most| number < most / 2)
}

/// A set of processes whose ends one runtime waits for. Each process costs one descriptor.
#[derive(Debug)]
pub(crate) struct PeerEnds(AsyncFd<Private<OwnedFd>>);

/// The most ends that one system call reports.
const MOST_ENDS: usize = 64;

impl PeerEnds {
    /// Makes an empty set on the current runtime.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no descriptor left, or the runtime cannot wait.
    pub(crate) fn new() -> io::Result<Self> {
        let open = || Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        register(Private::open(open)?, Interest::READABLE).map(Self)
    }

    /// Adds a process. Its end is reported with the given number.
    ///
    /// # Errors
    ///
    /// Returns an error when the system cannot wait for the descriptor.
    pub(crate) fn add(&self, process: &OwnedFd, number: u64) -> io::Result<()> {
        // Without ONESHOT the descriptor, which stays readable, would be reported for ever.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let number = epoll::EventData::new_u64(number);
        Ok(epoll::add(self.0.get_ref().get()?, process, number, flags)?)
    }

    /// Removes a process. Closing its descriptor is not enough, because a forked child may have a copy.
    pub(crate) fn remove(&self, process: &OwnedFd) {
        if let Ok(epoll) = self.0.get_ref().get() {
            // The descriptor was added, so this does not fail.
            let _ = epoll::delete(epoll, process);
        }
    }

    /// Calls `each` with the number of each process that ends. Returns only on an error.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime is about to end.
    pub(crate) async fn report(&self, mut each: impl FnMut(u64)) -> io::Result<()> {
        let mut events = Vec::with_capacity(MOST_ENDS);
        loop {
            let mut ready = self.0.readable().await?;
            let at_once = Some(&Timespec::default());
            let epoll = ready.get_inner().get()?;
            retry_on_intr(|| epoll::wait(epoll, spare_capacity(&mut events), at_once))?;
            if events.is_empty() {
                ready.clear_ready();
            }
            for event in events.drain(..) {
                each(event.data.u64());
            }
        }
    }
}

//! Descriptors that are readable once a process has ended, and how a runtime waits for one.
//!
//! A stream may outlive the process that it was made for: a forked child keeps it open. So a manager
//! waits for the end of the process too.
//!
//! Invariant: at most the lower half of the descriptors that this process may have are used for this, so that
//! clients still connect to a manager that has many.

#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{io, os::fd::OwnedFd};

#[cfg(target_os = "linux")]
use nix::{
    errno::Errno,
    sys::socket::{
        getsockopt,
        sockopt::{PeerCredentials, PeerPidfd},
    },
};
#[cfg(target_os = "linux")]
use rustix::{
    event::{EventfdFlags, eventfd},
    process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::transport::{register::register, stream::PeerUser};

/// The process at the other end of a socket, as the kernel reports it.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) user: PeerUser,
    /// `None` for a process that has no id here, such as one outside this process's pid namespace.
    pub(super) pid: Option<u32>,
}

#[cfg(target_os = "linux")]
pub(super) fn credentials(socket: BorrowedFd<'_>) -> Option<Credentials> {
    let peer = getsockopt(&socket, PeerCredentials).ok()?;
    Some(Credentials {
        user: PeerUser::new(peer.uid(), peer.gid()),
        pid: u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0),
    })
}

/// Returns a descriptor for the end of the process that made the other end of a socket and has the given
/// id.
#[cfg(target_os = "linux")]
pub(super) fn of_peer(socket: BorrowedFd<'_>, pid: Option<u32>) -> Option<OwnedFd> {
    let process = match getsockopt(&socket, PeerPidfd) {
        Ok(process) => Some(process),
        // The process has ended, and its parent has waited for it.
        Err(Errno::ESRCH) => has_ended(),
        // Linux knows the option since 6.5, and a kernel or sandbox may also say EINVAL. If another process has the id by now, the peer has ended, and the
        // session ends later than it could, but never too early.
        Err(Errno::EINVAL | Errno::ENOPROTOOPT) => return of_process(pid?),
        // This process has no descriptor left, for example.
        Err(_) => None,
    };
    process.filter(leaves_room)
}

/// Returns a descriptor for the end of a process.
#[cfg(target_os = "linux")]
pub(crate) fn of_process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(rustix::io::Errno::SRCH) => has_ended(),
        Err(_) => None,
    };
    process.filter(leaves_room)
}

/// Returns a descriptor that is readable already.
#[cfg(target_os = "linux")]
fn has_ended() -> Option<OwnedFd> {
    eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()
}

/// Whether a descriptor is one of the lower half of those that this process may have.
#[cfg(target_os = "linux")]
fn leaves_room(process: &OwnedFd) -> bool {
    let most = getrlimit(Resource::Nofile).current;
    let number = u64::try_from(process.as_raw_fd()).unwrap_or(u64::MAX);
    most.is_none_or(|most| number < most / 2)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of_peer(_: std::os::fd::BorrowedFd<'_>, _: Option<u32>) -> Option<OwnedFd> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_process(_: u32) -> Option<OwnedFd> {
    None
}

/// The end of a process, as this runtime waits for it.
#[derive(Debug)]
pub(crate) struct PeerEnd(AsyncFd<OwnedFd>);

impl PeerEnd {
    /// Has the current runtime wait for a descriptor.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime cannot wait for it.
    pub(crate) fn of(process: OwnedFd) -> io::Result<Self> {
        register(process, Interest::READABLE).map(Self)
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime is about to end.
    pub(crate) async fn reached(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}

//! The contract of a stream of bytes between a client and a manager.
//!
//! A [`Stream`] belongs to no runtime: any thread reads and writes it, and it never blocks. A runtime
//! that waits for it attaches to it first and has an [`AttachedStream`], whose readiness wakes that
//! runtime's tasks. Several runtimes may be attached at a time.
//!
//! The contract leaves room for streams that decrypt: a read may take bytes that were buffered earlier,
//! may have to write, and may return fewer bytes than there are.
//!
//! All methods are called with a lock of the connection held: they must not block, and must not call
//! lockkeeper.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
};

/// A connected stream of bytes that never blocks and belongs to no runtime.
pub trait Stream: fmt::Debug + Send + Sync + 'static {
    /// Reads what is there, buffered bytes first, and returns how many bytes that was. Zero is the end
    /// of the stream.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] when there is nothing to read yet. Any other error ends
    /// the connection.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits, and returns how many bytes that was. They need no further call to arrive.
    ///
    /// After `WouldBlock` the next write, here or over an attachment, begins with the same bytes. So a
    /// stream that encrypts may have sealed some of them, and returns how many once the system has
    /// taken all that came of them.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] when the stream is full. Any other error ends the
    /// connection.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends the stream in both directions, and wakes the tasks of all attachments. What was written
    /// before still arrives.
    fn shut_down(&self);

    /// Attaches the current runtime, beside others that may be attached, and beside other attachments
    /// of its own. Of a runtime, at most one attachment is read from at a time.
    ///
    /// A connected stream should need no other descriptor for it: a process may have none left.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime cannot wait for the stream, as one that is about to end.
    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>>;

    /// Returns whether the process at the other end may act as this process's own user. It is asked
    /// once, when the stream is new, so a stream that has to prove this does so before it is handed out.
    fn is_trusted(&self) -> bool;

    /// Returns the user of the process at the other end if the kernel of this machine vouches for it. Then
    /// the user decides what the process may do, and [`Self::is_trusted`] is not asked.
    fn peer_user(&self) -> Option<PeerUser> {
        None
    }

    /// Returns the id of the process at the other end if the kernel of this machine vouches for it.
    ///
    /// A manager uses this id, and not the one that the client says. The default, `None`, is right for
    /// streams from other machines.
    fn peer_pid(&self) -> Option<u32> {
        None
    }

    /// Returns a descriptor that is readable once the process at the other end has ended, if the kernel of
    /// this machine gives one, as `pidfd_open` of Linux does.
    ///
    /// The manager asks once, when the stream is new. It ends the session when the process has ended, even if a
    /// forked child of the process keeps the stream open. The default, `None`, means that only the end of the
    /// stream ends the session.
    fn peer_end(&self) -> Option<OwnedFd> {
        None
    }

    /// Returns the end for reading of the pipe into which the process at the other end writes reports, if it was
    /// handed one together with the stream. Internal: the streams to workers of a pool have it.
    #[doc(hidden)]
    fn reports(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Returns how many bytes of the other end wait to be read, if the stream can tell. A forked child of a process
    /// that has ended may write on for ever: then the session reads these and ends. Internal: Unix sockets tell.
    #[doc(hidden)]
    fn unread(&self) -> Option<usize> {
        None
    }

    /// Returns a descriptor that is readable whenever [`Self::try_read`] has something, so that a plain
    /// thread can sleep on it. The answer never changes.
    ///
    /// A stream that buffers what it has read, or whose reads may have to write, returns `None`, as the
    /// default does. A runtime in the background then reads for plain threads.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The user of the process at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUser {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

impl PeerUser {
    /// A user, and the group that the process acts as.
    #[must_use]
    pub const fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }
}

/// A stream to which one runtime is attached.
pub trait AttachedStream: fmt::Debug + Send + Sync + 'static {
    /// Reads as [`Stream::try_read`] does, or registers the task to be woken when there is something
    /// to read.
    ///
    /// Of this attachment the task that polled last is woken, and no other. If the runtime has ended, the
    /// result is `Pending`, since another runtime reads then: an error would end the connection for all.
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes as [`Stream::try_write`] does, or registers the task to be woken when there is room.
    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

/// Checks how many of some bytes a stream says that it has written. Zero would be tried again for ever.
///
/// # Errors
///
/// Returns an error when the stream breaks its contract.
pub(crate) fn written_of(bytes: &[u8], count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count if count <= bytes.len() => Ok(count),
        _ => Err(io::Error::other(
            "the stream has written more than there was",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_stream_may_return_are_errors() {
        let bytes = [0; 4];
        assert_eq!(written_of(&bytes, 4).expect("all"), 4);
        assert_eq!(
            written_of(&bytes, 0).expect_err("none").kind(),
            io::ErrorKind::WriteZero
        );
        assert!(written_of(&bytes, 5).is_err());
    }
}

//! `Stream` and `AttachedStream`: the contract of a byte stream between a client and a manager.
//!
//! A [`Stream`] belongs to no runtime: any thread may read and write it, and it never blocks. A
//! runtime that waits for it first attaches to it, and gets an [`AttachedStream`] that wakes tasks of
//! that runtime. Several runtimes may be attached at a time.
//!
//! The contract permits encrypted streams: a read may return bytes that were buffered earlier, may have
//! to write, and may return fewer bytes than are available.
//!
//! The caller of each method holds a lock of the connection, so methods must not block and must not
//! call lockkeeper.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
};

use crate::peer_rights::PeerRights;

/// A connected stream of bytes that never blocks and belongs to no runtime.
pub trait Stream: fmt::Debug + Send + Sync + 'static {
    /// Reads available bytes, buffered ones first, and returns their number. Zero is the end of the
    /// stream.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] when no bytes are available. Any other error ends the
    /// connection.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as many bytes as fit, and returns their number. They arrive without a further call.
    ///
    /// After `WouldBlock` the next write, here or over an attachment, begins with the same bytes. So a
    /// stream may have encrypted some of them already; it returns their number once the system has
    /// accepted the whole ciphertext.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] when the stream is full. Any other error ends the
    /// connection.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends the stream in both directions, and wakes the tasks of all attachments. Bytes that were
    /// written before still arrive.
    fn shutdown(&self);

    /// Attaches the current runtime. Other runtimes may be attached, and a runtime may be attached
    /// several times; it reads from at most one of its attachments at a time.
    ///
    /// An attachment should need no further descriptor, because the process may have none left.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime cannot wait for the stream, for example because it is
    /// about to end.
    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>>;

    /// Returns whether the process at the other end may act as this process's own user. The manager
    /// calls this once, when the stream is new. So a stream that authenticates its peer must do so
    /// before it is returned.
    fn is_trusted(&self) -> bool;

    /// Returns the user of the process at the other end, if the kernel of this machine reports it. The
    /// rights of the process then depend on the user, and [`Self::is_trusted`] is not called.
    fn peer_user(&self) -> Option<PeerUser> {
        None
    }

    /// Returns what the other end may do, and its own limits, if the stream has authenticated it. The manager calls
    /// this once, when the stream is new, and not if there is a [`Self::peer_user`].
    ///
    /// The default, `None`, lets each client that [is trusted](Self::is_trusted) do everything.
    fn peer_rights(&self) -> Option<PeerRights> {
        None
    }

    /// Returns the id of the process at the other end, if the kernel of this machine reports it.
    ///
    /// The manager uses this id, and not the one in the client's hello. The default, `None`, is right
    /// for streams from other machines.
    fn peer_pid(&self) -> Option<u32> {
        None
    }

    /// Returns the machine at the other end, if it may be another one. The id of a process means nothing without it.
    fn peer_host(&self) -> Option<String> {
        None
    }

    /// Returns a descriptor that becomes readable when the process at the other end ends, if the kernel of
    /// this machine has one, such as Linux's `pidfd_open`.
    ///
    /// The manager calls this once, when the stream is new. It ends the session when the process has ended,
    /// even if a forked child keeps the stream open. The default, `None`, means that only the end of the stream
    /// ends the session.
    fn peer_end(&self) -> Option<OwnedFd> {
        None
    }

    /// Returns the read end of the report pipe, if the process at the other end has one. Internal: only streams
    /// to workers of a pool have it.
    #[doc(hidden)]
    fn reports(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Returns the number of bytes that can be read now, if the stream can count them. When the peer process has
    /// ended, a forked child of it may write for ever, so the session reads only these bytes and ends. Internal:
    /// Unix sockets implement it.
    #[doc(hidden)]
    fn unread(&self) -> Option<usize> {
        None
    }

    /// Returns the number of bytes that were read since the beginning of the stream, for the other side to
    /// [acknowledge](Self::acknowledge). Internal: streams that outlive their connections implement it.
    #[doc(hidden)]
    fn received(&self) -> u64 {
        0
    }

    /// Records that the other side has read that many bytes, which need not be kept any longer. Internal, as
    /// [`Self::received`].
    #[doc(hidden)]
    fn acknowledge(&self, _received: u64) {}

    /// Replaces a connection from which nothing comes. Internal, as [`Self::received`].
    #[doc(hidden)]
    fn renew(&self) {}

    /// Returns whether [`Self::try_read`] can return bytes that it has taken from the system already, so that
    /// nothing need arrive before the next read.
    fn has_buffered(&self) -> bool {
        false
    }

    /// Returns a descriptor that is readable whenever [`Self::try_read`] can return bytes, unless
    /// [`Self::has_buffered`], so that a plain thread can poll it. All calls return the same value.
    ///
    /// A stream that has no such descriptor returns `None`, as the default does. The background runtime then
    /// reads for plain threads.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The user of the process at the other end of a stream.
#[doc(alias = "UCred")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUser {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

impl PeerUser {
    /// Makes a `PeerUser` from an effective user and an effective group.
    #[must_use]
    pub const fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }
}

/// A stream that is attached to one runtime.
pub trait AttachedStream: fmt::Debug + Send + Sync + 'static {
    /// Reads as [`Stream::try_read`] does, or registers the task to be woken when there is something
    /// to read.
    ///
    /// Only the last task to poll this attachment is woken. A client does not poll again before that, so each
    /// `Pending` has to wake the task once there is something to read. If the runtime has ended, the result is
    /// `Pending`, since another runtime reads then: an error would end the connection for all.
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes as [`Stream::try_write`] does, or registers the task to be woken when there is room.
    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

/// Checks the count that a stream returned for a write of `bytes`. Zero is an error, because the write
/// would be repeated for ever.
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
    fn counts_that_break_the_contract_are_errors() {
        let bytes = [0; 4];
        assert_eq!(written_of(&bytes, 4).expect("all"), 4);
        assert_eq!(
            written_of(&bytes, 0).expect_err("none").kind(),
            io::ErrorKind::WriteZero
        );
        assert!(written_of(&bytes, 5).is_err());
    }
}

//! Passes the listening socket from the main program to its processes.
//!
//! All processes accept from one queue, which belongs to the main program. So a connection that no process has
//! accepted waits for the next one, even if all of them are killed at once. With a socket for each process
//! (`SO_REUSEPORT`) the connections in the queue of a killed process would be lost.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tempfile::TempDir;

/// Gives a listening socket to each process that asks for it, for as long as this exists.
#[derive(Debug)]
pub(crate) struct Giver {
    /// A folder that only this user can enter, with the socket that processes ask at.
    folder: TempDir,
}

impl Giver {
    pub(crate) fn start(listener: TcpListener) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let giver = Self { folder };
        let asked = UnixListener::bind(giver.path())?;
        // The thread ends with the program.
        thread::spawn(move || {
            for process in asked.incoming().flatten() {
                // A process that has died needs no socket.
                let _ = give(&process, &listener);
            }
        });
        Ok(giver)
    }

    /// The path at which [`take`] gets the socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("listener")
    }
}

fn give(process: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let given = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&given)) {
        return Err(io::Error::other("one descriptor has room"));
    }
    // A message has at least one byte.
    sendmsg(
        process,
        &[IoSlice::new(b"l")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Gets the listening socket of the main program.
pub(crate) fn take(path: &Path) -> io::Result<TcpListener> {
    let giver = UnixStream::connect(path)?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(&giver, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut given) = message
            && let Some(listener) = given.next()
        {
            return Ok(listener.into());
        }
    }
    Err(io::Error::other("the main program gave no socket"))
}

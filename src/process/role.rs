//! The child's side of the lifeline: receives the role that the parent assigned.

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lockkeeper_protocol::codec::{self, Blob};
use lockkeeper_sys::Private;
use rustix::{
    fs::{FileType, fstat},
    pipe::{PipeFlags, pipe_with},
};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    background,
    error::lack,
    process::{
        child::MARKER,
        executable::Build,
        lifeline::{Assignment, Lifeline, Receiver, read_frames},
    },
};

/// A role that this process was started in.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    config: Blob,
    pub(crate) lifeline: Lifeline,
    /// The descriptors that the parent has handed to it, in order.
    pub(crate) handed: Vec<Private<OwnedFd>>,
}

impl Role {
    /// The role of this process, if it is a child.
    ///
    /// # Errors
    ///
    /// Returns an error when the process is a child and its parent is gone, or runs another build.
    pub(crate) fn of_this_process() -> io::Result<Option<Self>> {
        let Some(mut lifeline) = lifeline()? else {
            return Ok(None);
        };
        let (build, assignment, handed) = match receive(&lifeline) {
            Ok(received) => received,
            Err(error) => {
                lifeline.lacking(lack(&error));
                return Err(error);
            }
        };
        let parent: Build = codec::decode(&build).map_err(io::Error::other)?;
        if let Some(why) = Build::of_this_process().refusal(&parent) {
            lifeline.failed(why.clone());
            return Err(io::Error::other(why));
        }
        let Assignment { role, config } = codec::decode(&assignment).map_err(io::Error::other)?;
        Ok(Some(Self {
            name: role,
            config,
            lifeline,
            handed,
        }))
    }

    /// What the parent said about the role.
    pub(crate) fn config<C: DeserializeOwned>(&self) -> Result<C, codec::CodecError> {
        codec::decode(&self.config.0)
    }
}

/// Receives what the parent says first.
fn receive(lifeline: &Lifeline) -> io::Result<(Bytes, Bytes, Vec<Private<OwnedFd>>)> {
    leave_signals_to_parent()?;
    set_name();
    let mut receiver = Receiver::new(lifeline);
    let (build, assignment) = read_frames(&mut receiver)?;
    let handed = receiver.handed;
    // From here on the lifeline is this copy alone, which no child of this process inherits:
    // one that reads its input must find it empty, and not wait for the parent's word.
    rustix::stdio::dup2_stdin(nothing()?)?;
    Ok((build, assignment, handed))
}

/// Opens an input that is empty: `/dev/null`, or a pipe without a writer where a container or `chroot` has no `/dev`.
fn nothing() -> io::Result<OwnedFd> {
    match File::open("/dev/null") {
        Ok(null) => Ok(null.into()),
        Err(_) => {
            let (reader, _) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok(reader)
        }
    }
}

/// Gives this process the name of the program, as `ps` and `top` show it. The system has taken the name
/// from the path that it was started by, `/proc/thread-self/exe`.
fn set_name() {
    let program = env::args_os().next().map(PathBuf::from);
    if let Some(name) = program.as_deref().and_then(Path::file_name) {
        // Without /proc the name is that of the path.
        let _ = fs::write("/proc/self/comm", name.as_encoded_bytes());
    }
}

/// Keeps this process alive when the signals that ask a program to end reach it, as Ctrl-C and a service
/// manager send them to all processes of a program: the parent decides, and its end ends the lifeline.
///
/// These are handlers that do nothing. Programs that a task starts would inherit an ignored signal, and
/// inherit no handler.
fn leave_signals_to_parent() -> io::Result<()> {
    let _runtime = background::start()?.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        // The handler stays when the stream of the signals is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}

/// The socket to the parent, if this process is a child: its first argument is the marker and names the
/// socket that is its standard input. A process that only has such an argument is none.
fn lifeline() -> io::Result<Option<Lifeline>> {
    let marker = env::args_os().nth(1);
    let inode = marker
        .as_ref()
        .and_then(|marker| marker.to_str()?.strip_prefix(MARKER));
    let Some(inode) = inode.and_then(|inode| inode.parse::<u64>().ok()) else {
        return Ok(None);
    };
    let input = fstat(io::stdin())?;
    let is_named = FileType::from_raw_mode(input.st_mode).is_socket() && input.st_ino == inode;
    is_named.then(Lifeline::of_input).transpose()
}

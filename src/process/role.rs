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
use lockkeeper_sys::{Private, outlast_interrupts};
use rustix::{
    fs::{FileType, fstat},
    pipe::{PipeFlags, pipe_with},
};
use serde::de::DeserializeOwned;

use crate::{
    error::lack,
    process::{
        child::MARKER,
        executable::Build,
        lifeline::{Assignment, Lifeline, Receiver, read_frames},
    },
};

/// The role that this process was started in.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    config: Blob,
    pub(crate) lifeline: Lifeline,
    /// The descriptors that the parent has passed, in order.
    pub(crate) handed: Vec<Private<OwnedFd>>,
}

impl Role {
    /// Returns the role of this process, if it is a child.
    ///
    /// # Errors
    ///
    /// Returns an error when the process is a child, and its parent has ended or runs another
    /// build.
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
        let assignment: Assignment = codec::decode(&assignment).map_err(io::Error::other)?;
        #[cfg(feature = "net")]
        {
            crate::keys::take_over(assignment.keys);
            crate::certificate_files::take_over(assignment.certificates);
        }
        Ok(Some(Self {
            name: assignment.role,
            config: assignment.config,
            lifeline,
            handed,
        }))
    }

    /// Decodes the parent's configuration of the role.
    pub(crate) fn config<C: DeserializeOwned>(&self) -> Result<C, codec::CodecError> {
        codec::decode(&self.config.0)
    }
}

/// Receives the parent's first message.
fn receive(lifeline: &Lifeline) -> io::Result<(Bytes, Bytes, Vec<Private<OwnedFd>>)> {
    // Ctrl-C and service managers send these signals to all processes of a program. The parent decides when the
    // child ends, and closes the lifeline then.
    outlast_interrupts()?;
    set_name();
    let mut receiver = Receiver::new(lifeline);
    let (build, assignment) = read_frames(&mut receiver)?;
    let handed = receiver.handed;
    // From here on this copy is the only descriptor of the lifeline, and children of this process
    // do not inherit it. A child that reads its standard input must find it empty, and must not
    // read from the lifeline.
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

/// Sets the name of this process in `ps` and `top` to that of the program. The system took the name
/// from the path that it was started from, `/proc/thread-self/exe`.
fn set_name() {
    let program = env::args_os().next().map(PathBuf::from);
    if let Some(name) = program.as_deref().and_then(Path::file_name) {
        // Without /proc the process keeps the name from its path.
        let _ = fs::write("/proc/self/comm", name.as_encoded_bytes());
    }
}

/// Returns the socket to the parent, if this process is a child: its first argument is the marker and
/// contains the inode of the socket at its standard input. A process with only such an argument is not
/// a child.
fn lifeline() -> io::Result<Option<Lifeline>> {
    let marker = env::args_os().nth(1);
    let marked = marker
        .as_ref()
        .and_then(|marker| marker.to_str()?.strip_prefix(MARKER));
    let inode = marked.and_then(|marked| Some(marked.split_once(':')?.1));
    let Some(inode) = inode.and_then(|inode| inode.parse::<u64>().ok()) else {
        return Ok(None);
    };
    let input = fstat(io::stdin())?;
    let is_named = FileType::from_raw_mode(input.st_mode).is_socket() && input.st_ino == inode;
    is_named.then(Lifeline::of_input).transpose()
}

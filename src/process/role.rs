//! The child's side of the lifeline: receives the role that the parent assigned.

use std::{
    env,
    fs::File,
    io::{self},
    os::{fd::AsFd, unix::net::UnixStream},
};

use lockkeeper_protocol::codec::{self, Blob};
use serde::de::DeserializeOwned;

use crate::process::{
    child::MARKER,
    lifeline::{Assignment, Lifeline, read_frame},
};

/// A role that this process was started in.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    config: Blob,
    pub(crate) lifeline: Lifeline,
}

impl Role {
    /// The role of this process, if it is a child.
    ///
    /// # Errors
    ///
    /// Returns an error when the process claims to be a child and has no parent.
    pub(crate) fn of_this_process() -> io::Result<Option<Self>> {
        if !env::args_os().any(|argument| argument == MARKER) {
            return Ok(None);
        }
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let frame = read_frame(&mut stream)?;
        // From here on the lifeline is this copy alone, which no child of this process inherits:
        // one that reads its input must find it empty, and not wait for the parent's word.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let Assignment { role, config } = codec::decode(&frame).map_err(io::Error::other)?;
        Ok(Some(Self {
            name: role,
            config,
            lifeline: Lifeline(stream),
        }))
    }

    /// What the parent said about the role.
    pub(crate) fn config<C: DeserializeOwned>(&self) -> Result<C, codec::CodecError> {
        codec::decode(&self.config.0)
    }
}

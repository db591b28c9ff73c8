//! The report_pipe of a connection: a pipe for what is not urgent, which the manager looks into when it hears
//! of this process, and when this process has ended.
//!
//! To lay something in it is one system call that wakes nobody. Invariant: a record lies in it whole or
//! not at all, also when this process is killed meanwhile.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use lockkeeper_protocol::frame::{self, Request};
use serde::Serialize;

use crate::client::{
    connection::{Connection, OPEN_PATIENCE},
    state::Success,
};

/// A report_pipe that the manager knows.
#[derive(Debug)]
pub(crate) struct ReportPipe {
    pipe: File,
    record: Vec<u8>,
}

#[cfg(target_os = "linux")]
mod system {
    use std::{io, os::fd::OwnedFd};

    use rustix::pipe::{PipeFlags, pipe_with};

    /// What a pipe takes in one piece, or not at all.
    pub(super) const WHOLE_BYTES: usize = rustix::pipe::PIPE_BUF;

    pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
    }
}

/// Elsewhere a manager cannot reach into a pipe by the process and the descriptor.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::{io, os::fd::OwnedFd};

    pub(super) const WHOLE_BYTES: usize = 512;

    pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl ReportPipe {
    /// Whether a record may fit that has so many bytes in it: a large one need not be encoded.
    pub(crate) const fn may_take(bytes: usize) -> bool {
        bytes < system::WHOLE_BYTES
    }

    /// Lays a record in the report_pipe. Tells whether it did: a record may be too large, and the report_pipe full.
    pub(crate) fn put<T: Serialize>(&mut self, record: &T) -> bool {
        self.record.clear();
        let most = system::WHOLE_BYTES;
        if frame::append(&mut self.record, record, most).is_err() || self.record.len() > most {
            self.record = Vec::new();
            return false;
        }
        loop {
            match self.pipe.write(&self.record) {
                Ok(written) => return written == self.record.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

impl Connection {
    /// Makes a report_pipe for an operation of an object, which takes a list of records. There is none where
    /// the manager cannot look into it.
    pub(crate) async fn report_pipe(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
    ) -> Option<ReportPipe> {
        let (theirs, ours): (OwnedFd, OwnedFd) = system::pipe().ok()?;
        let descriptor = u32::try_from(theirs.as_raw_fd()).ok()?;
        let pending = self.request(None, |seq| Request::ReportPipe {
            seq,
            object,
            operation,
            descriptor,
        });
        let answer = pending.ok()?.settle(OPEN_PATIENCE).await;
        matches!(answer, Ok(Success::Reply(_))).then(|| ReportPipe {
            pipe: File::from(ours),
            record: Vec::new(),
        })
    }
}

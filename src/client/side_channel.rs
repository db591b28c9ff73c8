//! The report pipe of a connection, for records that are not urgent. The manager reads it before the next
//! frames of this process, and when this process has ended.
//!
//! A write is one system call that wakes no thread. Invariant: the pipe contains a record completely or not
//! at all, even if this process is killed.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::Arc,
};

use lockkeeper_protocol::frame::{self, Capability, Request};
use lockkeeper_sys::Private;
use serde::Serialize;

use crate::client::{calls::OPEN_PATIENCE, connection::Connection, state::Success};

/// A report pipe that the manager reads.
#[derive(Debug)]
pub(crate) struct ReportPipeWriter {
    pipe: Private<File>,
    record: Vec<u8>,
}

/// The most bytes that a pipe writes atomically.
const WHOLE_BYTES: usize = rustix::pipe::PIPE_BUF;

impl ReportPipeWriter {
    /// Returns whether a record of that many bytes may fit, so that a large one need not be encoded.
    pub(crate) const fn may_take(bytes: usize) -> bool {
        bytes < WHOLE_BYTES
    }

    /// Writes a record. Returns false if the record is too large or the pipe is full.
    pub(crate) fn put<T: Serialize>(&mut self, record: &T) -> bool {
        self.record.clear();
        let most = WHOLE_BYTES;
        if frame::append(&mut self.record, record, most).is_err() || self.record.len() > most {
            self.record = Vec::new();
            return false;
        }
        let Ok(mut pipe) = self.pipe.get() else {
            return false;
        };
        loop {
            match pipe.write(&self.record) {
                Ok(written) => return written == self.record.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

impl Connection {
    /// Registers the pipe that this process inherited together with its stream, for an operation of an object
    /// that takes a list of records.
    pub(crate) async fn report_pipe(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        pipe: Private<OwnedFd>,
    ) -> Option<ReportPipeWriter> {
        if !self.capabilities.has(Capability::Reports) {
            return None;
        }
        let pipe = pipe.map(|pipe| Ok(File::from(pipe))).ok()?;
        let pending = self.request(None, |seq| Request::ReportPipe {
            seq,
            object,
            operation,
        });
        let answer = pending.ok()?.settle(OPEN_PATIENCE).await;
        matches!(answer, Ok(Success::Reply(_))).then(|| ReportPipeWriter {
            pipe,
            record: Vec::new(),
        })
    }
}

//! The report pipe of a client: records that the session reads before each chunk of frames, and when the
//! client has ended.
//!
//! No task waits for the pipe, so writing a record wakes no thread, and records outlive the process that
//! wrote them. A client uses it for small reports that are not urgent.
//!
//! Invariant: records that were in the pipe when a chunk was sent are served before that chunk, and all
//! others before the session ends.

use std::{
    fs::File,
    io::{self, Read},
};
#[cfg(target_os = "linux")]
use std::{
    fs::OpenOptions,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
};

use lockkeeper_protocol::{
    codec::{self, CodecError, Payload},
    frame::Inbox,
};
use lockkeeper_sys::Private;
#[cfg(target_os = "linux")]
use rustix::fs::OFlags;

/// The most reads of one turn: more than fits in a pipe.
const MOST_READS: usize = 16;

/// The report pipe of a client.
pub(super) struct ReportPipe {
    pub(super) object: u32,
    pub(super) operation: u32,
    pipe: Private<File>,
    inbox: Inbox,
}

/// Opens the pipe that a process has by a descriptor.
///
/// The process may put another file in its place at any time, and opening a file may have effects. So the file
/// is first opened as a mere place, which is looked at, and what is read is opened by that place.
#[cfg(target_os = "linux")]
fn open(pid: u32, descriptor: u32) -> io::Result<File> {
    let place = open_as(&format!("/proc/{pid}/fd/{descriptor}"), OFlags::PATH)?;
    if !place.metadata()?.file_type().is_fifo() {
        let why = "the descriptor is not that of a pipe";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    open_as(&path, OFlags::NONBLOCK)
}

#[cfg(target_os = "linux")]
fn open_as(path: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(_: u32, _: u32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl ReportPipe {
    /// Opens the pipe that a process has by a descriptor, for an operation that takes a list of records.
    ///
    /// # Errors
    ///
    /// Returns an error when the descriptor is not that of a pipe, or cannot be reached.
    pub(super) fn open(
        pid: u32,
        descriptor: u32,
        object: u32,
        operation: u32,
        most_bytes: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            object,
            operation,
            pipe: Private::open(|| open(pid, descriptor))?,
            inbox: Inbox::new(most_bytes),
        })
    }

    /// Takes the records that are in the pipe, as the encoded list of them.
    ///
    /// # Errors
    ///
    /// Returns an error when the pipe has bytes that are no record: it is of no use then.
    pub(super) fn take(&mut self, scratch: &mut [u8]) -> Result<Option<Payload>, CodecError> {
        let (mut list, mut records) = (codec::begin_list(0).to_vec(), 0);
        for _ in 0..MOST_READS {
            let length = match self.pipe.get().and_then(|mut pipe| pipe.read(scratch)) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // There is nothing in it.
                Err(_) => break,
            };
            self.inbox.feed(scratch.get(..length).unwrap_or_default());
            while let Some(record) = self.inbox.next_message()? {
                list.extend_from_slice(&record);
                records += 1;
            }
            if length < scratch.len() {
                break;
            }
        }
        let begin = codec::begin_list(records);
        if let Some(place) = list.first_chunk_mut() {
            *place = begin;
        }
        Ok((records > 0).then(|| list.into()))
    }
}

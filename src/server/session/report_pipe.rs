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
    fs::{self, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
};

use lockkeeper_protocol::{
    codec::{self, CodecError, Payload},
    frame::Inbox,
};
#[cfg(target_os = "linux")]
use rustix::{
    fs::OFlags,
    pipe::{PipeFlags, SpliceFlags, pipe_with, tee},
};

/// The most reads of one turn: more than fits in a pipe.
const MOST_READS: usize = 16;

/// The report pipe of a client.
pub(super) struct ReportPipe {
    pub(super) object: u32,
    pub(super) operation: u32,
    pipe: File,
    inbox: Inbox,
}

/// Where a client says that it has a report pipe.
pub(super) struct Offer<'a> {
    /// The client's process, as the kernel says.
    pub(super) pid: u32,
    /// Its user, where the kernel says that too.
    pub(super) uid: Option<u32>,
    pub(super) descriptor: u32,
    /// What the client has written into the pipe before its request, so that no other pipe is read: the id of
    /// a process that has ended may be another one's by now.
    pub(super) secret: &'a [u8],
}

/// Opens the pipe that a process has by a descriptor.
///
/// The process may put another file in its place at any time, and opening a file may have effects. So the file
/// is first opened as a mere place, which is looked at, and what is read is opened by that place.
#[cfg(target_os = "linux")]
fn open(offer: &Offer<'_>) -> io::Result<File> {
    let Offer {
        pid, descriptor, ..
    } = offer;
    let is_owner = |uid: u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|it| it.uid() == uid);
    if !offer.uid.is_none_or(is_owner) {
        return Err(not_offered("the process of that id is another user's"));
    }
    let place = open_as(&format!("/proc/{pid}/fd/{descriptor}"), OFlags::PATH)?;
    if !place.metadata()?.file_type().is_fifo() {
        return Err(not_offered("the descriptor is not that of a pipe"));
    }
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut pipe = open_as(&path, OFlags::NONBLOCK)?;
    if first_bytes(&pipe, offer.secret.len())? != offer.secret {
        return Err(not_offered(
            "the pipe does not begin with the secret of the session",
        ));
    }
    pipe.read_exact(&mut vec![0; offer.secret.len()])?;
    Ok(pipe)
}

/// Copies the first bytes of a pipe, which stay in it.
#[cfg(target_os = "linux")]
fn first_bytes(pipe: &File, count: usize) -> io::Result<Vec<u8>> {
    let (copy, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    // An empty pipe has none, and says so by an error.
    if tee(pipe, &into, count, SpliceFlags::NONBLOCK).is_ok() {
        drop(into);
        File::from(copy).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(target_os = "linux")]
fn not_offered(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(target_os = "linux")]
fn open_as(path: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Offer<'_>) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl ReportPipe {
    /// Opens the pipe that a process has by a descriptor, for an operation that takes a list of records.
    ///
    /// # Errors
    ///
    /// Returns an error when the descriptor is not that of a pipe that the session offers, or cannot be
    /// reached. Nothing was read then.
    pub(super) fn open(
        offer: &Offer<'_>,
        object: u32,
        operation: u32,
        most_bytes: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            object,
            operation,
            pipe: open(offer)?,
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
            let length = match self.pipe.read(scratch) {
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

//! `ReportPipe`: records that a client writes into the pipe that came with its stream. The session reads them
//! before each chunk of frames, and once more when the client has ended.
//!
//! No task waits for the pipe, so a write wakes no thread, and records outlive the process that wrote them.
//! Clients use it for small reports that are not urgent.
//!
//! Invariant: records that were in the pipe when a chunk was sent are served before that chunk, and all
//! others before the session ends.

use std::os::fd::BorrowedFd;

use lockkeeper_protocol::{
    codec::{self, CodecError, Payload},
    frame::Inbox,
};
use rustix::io::Errno;

/// The most reads in one turn, which drain a full pipe.
const MOST_READS: usize = 16;

/// The operation that takes the records of a report pipe, and the part of a record that has arrived.
pub(super) struct ReportPipe {
    pub(super) object: u32,
    pub(super) operation: u32,
    inbox: Inbox,
}

impl ReportPipe {
    /// Prepares to read records for an operation that takes a list of them.
    pub(super) fn new(object: u32, operation: u32, most_bytes: usize) -> Self {
        Self {
            object,
            operation,
            inbox: Inbox::new(most_bytes),
        }
    }

    /// Reads the records that are in the pipe, and returns the encoded list of them.
    ///
    /// # Errors
    ///
    /// Returns an error when the pipe contains bytes that are not a record; the pipe cannot be used
    /// then.
    pub(super) fn take(
        &mut self,
        pipe: BorrowedFd<'_>,
        scratch: &mut [u8],
    ) -> Result<Option<Payload>, CodecError> {
        let (mut list, mut records) = (codec::begin_list(0).to_vec(), 0);
        for _ in 0..MOST_READS {
            let length = match rustix::io::read(pipe, &mut *scratch) {
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                // The pipe is empty.
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

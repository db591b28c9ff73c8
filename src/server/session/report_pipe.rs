//! The report pipe of a client, which was handed to the manager together with the stream: records that the
//! session reads before each chunk of frames, and when the client has ended.
//!
//! No task waits for the pipe, so writing a record wakes no thread, and records outlive the process that
//! wrote them. A client uses it for small reports that are not urgent.
//!
//! Invariant: records that were in the pipe when a chunk was sent are served before that chunk, and all
//! others before the session ends.

use std::os::fd::BorrowedFd;

use lockkeeper_protocol::{
    codec::{self, CodecError, Payload},
    frame::Inbox,
};
use rustix::io::Errno;

/// The most reads of one turn: more than fits in a pipe.
const MOST_READS: usize = 16;

/// What the records of a report pipe are for, and what has come in of one.
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

    /// Takes the records that are in the pipe, as the encoded list of them.
    ///
    /// # Errors
    ///
    /// Returns an error when the pipe has bytes that are no record: it is of no use then.
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

//! What a client lays in its report_pipe: records in a pipe, which its manager looks into when it hears of the
//! client, and when the client has ended.
//!
//! Nobody waits at the pipe, so a record wakes nobody; and it outlasts the process that wrote it. So a
//! client with many small things to tell, none of which is urgent, need not wake its manager for each.
//!
//! Invariant: what was in the report_pipe when a chunk was sent is served before that chunk, and all that is
//! in it before the session ends.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
};

use lockkeeper_actors::{Input, RawCall};
use lockkeeper_protocol::{
    CallId, Fault,
    codec::{self, BlobRef, CodecError, Payload},
    frame::{Inbox, Response},
};

use crate::server::session::{control::NIL, session::Session};

/// What a look into the report_pipe takes at the most, in reads: more than fits in a pipe.
const MOST_READS: usize = 16;

/// The report_pipe of a client.
pub(super) struct ReportPipe {
    object: u32,
    operation: u32,
    pipe: File,
    inbox: Inbox,
    /// The number of the next call that is made of what lies in it. They count down, far from those
    /// of the client.
    next: u64,
}

/// Opens the pipe that a process has by a descriptor.
fn open(pid: u32, descriptor: u32) -> io::Result<File> {
    let path = format!("/proc/{pid}/fd/{descriptor}");
    if !fs::metadata(&path)?.file_type().is_fifo() {
        let why = "the descriptor is not that of a pipe";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    nonblocking(&path)
}

#[cfg(target_os = "linux")]
fn nonblocking(path: &str) -> io::Result<File> {
    use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

    let flags = rustix::pipe::PipeFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn nonblocking(_: &str) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl ReportPipe {
    /// Takes the records that lie in it, as the arguments of an operation that takes a list.
    ///
    /// # Errors
    ///
    /// Returns an error when something lies in it that is no record: it is of no use then.
    fn take(&mut self, scratch: &mut [u8]) -> Result<Option<Payload>, CodecError> {
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

impl Session {
    /// Has the client use a report_pipe from now on, in place of the one that it had.
    pub(super) fn set_report_pipe(
        &mut self,
        seq: u64,
        object: u32,
        operation: u32,
        descriptor: u32,
    ) {
        match open(self.peer.pid, descriptor) {
            Ok(pipe) => {
                self.drain_report_pipe();
                self.report_pipe = Some(Box::new(ReportPipe {
                    object,
                    operation,
                    pipe,
                    inbox: Inbox::new(self.context.limits.frame_bytes),
                    next: CallId::ONE_WAY - 1,
                }));
                let body = BlobRef(NIL);
                self.outgoing.put(&Response::Reply { seq, body });
            }
            Err(error) => {
                let fault = Fault::BadArguments(error.to_string());
                self.outgoing.put_fault(seq, fault);
            }
        }
    }

    /// Makes a call, which nobody waits for, of what lies in the report_pipe.
    pub(super) fn drain_report_pipe(&mut self) {
        let Some(report_pipe) = &mut self.report_pipe else {
            return;
        };
        let arguments = match report_pipe.take(&mut self.context.scratch.borrow_mut()) {
            Ok(Some(arguments)) => arguments,
            Ok(None) => return,
            Err(_) => {
                self.report_pipe = None;
                return;
            }
        };
        let call = RawCall {
            id: CallId::one_way(self.id, report_pipe.next),
            operation: report_pipe.operation,
            timeout: None,
            arguments,
        };
        report_pipe.next -= 1;
        let object = report_pipe.object;
        // Nobody waits to be told that the object is not there.
        let _ = self.push(object, Input::Call(call));
    }
}

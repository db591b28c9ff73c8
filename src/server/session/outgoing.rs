//! The outgoing buffer of a session: collects answers as frames, and writes them in few system calls.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::Arc,
    task::{self, Poll, Waker, ready},
};

use lockkeeper_actors::{Outcome, ReplySink};
use lockkeeper_protocol::{
    Fault, Peer,
    codec::BlobRef,
    frame::{self, Response},
};

use crate::{
    limits::Limits,
    transport::stream::{AttachedStream, Stream, written_of},
};

/// As much room is kept for the next answers, and more where there were as many just now.
const KEPT_BYTES: usize = 1 << 14;

const MOST_KEPT_BYTES: usize = 1 << 17;

/// The frames that wait to be written to a client.
pub(super) struct Outgoing {
    buffer: RefCell<Buffer>,
    /// Calls that were passed on and are not answered yet.
    pub(super) in_flight: Cell<usize>,
    /// Who waits for something to write.
    pub(super) writer: RefCell<Option<Waker>>,
    /// The objects that are no more, until the session has taken note.
    pub(super) gone: RefCell<Vec<u32>>,
    /// How many bytes were written since somebody took note.
    pub(super) written: Cell<usize>,
    /// Who reads them, once it has said so.
    pub(super) peer: RefCell<Option<Arc<Peer>>>,
    limits: Limits,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    sent: usize,
    /// The stream is broken off in the middle of a frame, so nothing can follow.
    is_broken: bool,
}

impl Outgoing {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            buffer: RefCell::default(),
            in_flight: Cell::new(0),
            writer: RefCell::default(),
            gone: RefCell::default(),
            written: Cell::default(),
            peer: RefCell::default(),
            limits,
        }
    }

    /// Adds a frame. An answer above the limit becomes the fault that says so.
    pub(super) fn put(&self, response: &Response<'_>) {
        let buffer = &mut *self.buffer.borrow_mut();
        if buffer.is_broken {
            return;
        }
        let bytes = &mut buffer.bytes;
        if frame::append(bytes, response, self.limits.frame_bytes).is_err()
            && let Response::Reply { seq, .. }
            | Response::Fault { seq, .. }
            | Response::Opened { seq, .. } = *response
        {
            let fault = Fault::limit("bytes in a message", self.limits.frame_bytes);
            // A fault of a few words is below every limit.
            let _ = frame::append(bytes, &Response::Fault { seq, fault }, usize::MAX);
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn put_fault(&self, seq: u64, fault: Fault) {
        self.put(&Response::Fault { seq, fault });
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        let buffer = self.buffer.borrow();
        buffer.bytes.len() - buffer.sent
    }

    /// Writes all that waits, as far as the stream takes it. After an error nothing is written any
    /// more.
    pub(super) fn poll_flush(
        &self,
        task: &mut task::Context<'_>,
        stream: &dyn AttachedStream,
    ) -> Poll<io::Result<()>> {
        self.flush_by(|bytes| stream.poll_write(task, bytes))
    }

    fn flush_by(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let buffer = &mut *self.buffer.borrow_mut();
        while let Some(rest) = buffer
            .bytes
            .get(buffer.sent..)
            .filter(|rest| !rest.is_empty())
        {
            let written = ready!(write(rest)).and_then(|count| written_of(rest, count));
            match written {
                Ok(written) => {
                    buffer.sent += written;
                    self.written.set(self.written.get() + written);
                    if buffer.sent > buffer.bytes.len() / 4 * 3 {
                        // The buffer may never run empty; what is large is not moved often.
                        buffer.bytes.drain(..std::mem::take(&mut buffer.sent));
                    }
                }
                Err(error) => {
                    *buffer = Buffer {
                        is_broken: true,
                        ..Buffer::default()
                    };
                    return Poll::Ready(Err(error));
                }
            }
        }
        // As much room as it took now is kept, and not what it once took.
        let kept = (2 * buffer.bytes.len()).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        buffer.sent = 0;
        buffer.bytes.clear();
        buffer.bytes.shrink_to(kept);
        Poll::Ready(Ok(()))
    }

    /// Whether nothing can be written any more.
    pub(super) fn is_broken(&self) -> bool {
        self.buffer.borrow().is_broken
    }

    /// Writes once. The client may be gone already, or may not read; either way it is over.
    pub(super) fn flush_once(&self, stream: &dyn Stream) {
        let _ = self.flush_by(|bytes| match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        });
    }
}

impl ReplySink for Outgoing {
    fn answer(&self, seq: u64, outcome: &Outcome<'_>) {
        match outcome {
            Outcome::Reply(body) => self.put(&Response::Reply {
                seq,
                body: BlobRef(body),
            }),
            Outcome::Fault(fault) => self.put_fault(seq, fault.clone()),
            Outcome::Revoked => {
                self.put(&Response::Revoked { seq });
                return;
            }
        }
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    fn gone(&self, object: u32) {
        self.gone.borrow_mut().push(object);
        self.put(&Response::Gone { object });
    }

    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.borrow().clone()
    }
}

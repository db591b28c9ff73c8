//! The outgoing side of a session: answers as frames, in order, written in few system calls.
//!
//! A short answer is encoded at once. A large one is encoded while less than [`HIGH_WATER_BYTES`] are unread
//! and the manager's [`BufferBudget`](super::buffer_budget::BufferBudget) has room; later answers wait behind it.
//!
//! Invariant: of large answers, a session keeps at most [`HIGH_WATER_BYTES`] and one more encoded. A session
//! is full only if [`HIGH_WATER_BYTES`] are unread, or if an answer waits for the budget.

use std::{
    cell::{Cell, RefCell},
    io, mem,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use lockkeeper_actors::{LargeReply, Sharing, encode_reply, keep_reply};
use lockkeeper_protocol::{
    Fault, Peer,
    codec::Fit,
    frame::{self, Response},
};

use crate::{
    limits::Limits,
    server::session::{
        admitted::Admitted,
        buffer::{Buffer, LastFrame},
        buffer_budget::{BufferAccount, Waiting},
        held_back::HeldBack,
        in_mailboxes::InMailboxes,
        session_task::SessionTask,
        sizes::{CHUNK_BYTES, HIGH_WATER_BYTES},
    },
    transport::stream::{AttachedStream, Stream, written_of},
};

/// The capacity that the buffer keeps for the next answers, or more if the last write needed more. Unread
/// bytes up to this number belong to the session, and do not count in the manager's budget.
const KEPT_BYTES: usize = 1 << 14;

const MOST_KEPT_BYTES: usize = 1 << 17;

/// The frames that wait to be written to a client.
pub(super) struct Outgoing {
    buffer: RefCell<Buffer>,
    /// The number of calls that were passed on and are not answered yet.
    pub(super) in_flight: Cell<usize>,
    /// The most such calls, as the manager and the client's key allow.
    pub(super) most_calls: usize,
    pub(super) task: SessionTask,
    /// The objects that have ended, until the session forgets them.
    pub(super) gone: RefCell<Vec<u32>>,
    pub(super) last: LastFrame,
    /// The number of bytes written since the session last read this counter.
    pub(super) written: Cell<usize>,
    /// The peer that reads the frames, once its hello has arrived.
    pub(super) peer: RefCell<Option<Arc<Peer>>>,
    /// Who that peer is, and what it may do.
    pub(super) client: Box<Admitted>,
    /// The bytes that were read last, and whose messages were not sent to objects yet.
    pub(super) read: Cell<usize>,
    /// The bytes of messages of the client that were sent to objects in this turn.
    pub(super) in_mailboxes: InMailboxes,
    /// What the sessions of that client share.
    pub(super) sharing: Rc<Sharing>,
    /// The inputs whose hosts found this sink full.
    pub(super) held_back: HeldBack,
    /// The size of the largest message, in bytes.
    frame_bytes: usize,
    budget: BufferAccount,
    /// The number of sessions of the shard that are full.
    full_sinks: Rc<Cell<usize>>,
}

impl Outgoing {
    pub(super) fn new(
        client: Box<Admitted>,
        limits: Limits,
        budget: BufferAccount,
        (in_mailboxes, full_sinks): (InMailboxes, Rc<Cell<usize>>),
        sharing: Rc<Sharing>,
    ) -> Self {
        Self {
            buffer: RefCell::default(),
            in_flight: Cell::new(0),
            most_calls: client.principal.most_calls(limits.calls_in_flight),
            task: SessionTask::default(),
            gone: RefCell::default(),
            last: LastFrame::default(),
            written: Cell::default(),
            peer: RefCell::default(),
            client,
            read: Cell::new(0),
            in_mailboxes,
            sharing,
            held_back: HeldBack::new(Rc::clone(&full_sinks)),
            frame_bytes: limits.frame_bytes,
            budget,
            full_sinks,
        }
    }

    /// Adds a frame. An answer that exceeds the limit is replaced by a fault that says so.
    pub(super) fn put(&self, response: &Response<'_>) {
        let buffer = &mut *self.buffer.borrow_mut();
        self.last.is(response);
        if buffer.is_broken {
            return self.last.lose();
        }
        let bytes = buffer.end();
        let before = bytes.len();
        if frame::append(bytes, response, self.frame_bytes).is_err()
            && let Response::Reply { seq, .. }
            | Response::Fault { seq, .. }
            | Response::Opened { seq, .. } = *response
        {
            append_fault(bytes, seq, self.too_long());
        }
        let added = bytes.len() - before;
        self.added(buffer, added);
    }

    pub(super) fn put_fault(&self, seq: u64, fault: Fault) {
        self.put(&Response::Fault { seq, fault });
    }

    /// Adds the answer to a control request, which does not count as a call in flight.
    pub(super) fn put_answer(&self, seq: u64, reply: LargeReply) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.put_large(seq, reply);
    }

    /// Adds a large answer: encodes it now if there is room, and later otherwise.
    pub(super) fn put_large(&self, seq: u64, mut reply: LargeReply) {
        let buffer = &mut *self.buffer.borrow_mut();
        self.last.is_answer(seq);
        if buffer.is_broken {
            self.last.lose();
            return self.answered();
        }
        if buffer.is_encoded() && buffer.unread < HIGH_WATER_BYTES {
            match self.encode(buffer, seq, &reply, self.room(buffer)) {
                Encoded::Reply | Encoded::Fault => return,
                Encoded::Nothing => {}
            }
        }
        keep_reply(&mut reply);
        buffer.push_answer(seq, reply);
        self.added(buffer, 0);
    }

    /// The most bytes that the frame of an answer may have now, if the session does not wait for the budget.
    fn room(&self, buffer: &Buffer) -> usize {
        if self.budget.has_room() {
            return self.frame_bytes;
        }
        let own = KEPT_BYTES.saturating_sub(buffer.unread);
        own.min(self.frame_bytes)
    }

    /// Encodes a large answer behind the encoded parts, if its frame has at most `most` bytes.
    fn encode(&self, buffer: &mut Buffer, seq: u64, reply: &LargeReply, most: usize) -> Encoded {
        let bytes = buffer.encoded_end();
        let before = bytes.len();
        let encode = |bytes: &mut Vec<u8>, most| encode_reply(reply, bytes, most);
        let mut lent = None;
        let encoded = match frame::append_reply(bytes, seq, most, encode) {
            Ok(Fit::Fits(part)) => {
                lent = part;
                Encoded::Reply
            }
            Ok(Fit::TooLong) if most < self.frame_bytes => return Encoded::Nothing,
            Ok(Fit::TooLong) => append_fault(bytes, seq, self.too_long()),
            Err(fault) => append_fault(bytes, seq, fault),
        };
        let mut added = bytes.len() - before;
        if let Some((place, lent)) = lent {
            added += lent.len();
            buffer.lend(place, lent);
        }
        self.answered();
        self.added(buffer, added);
        encoded
    }

    fn too_long(&self) -> Fault {
        Fault::limit("bytes in a message", self.frame_bytes)
    }

    pub(super) fn answered(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// Counts bytes that wait to be written.
    fn added(&self, buffer: &mut Buffer, bytes: usize) {
        buffer.unread += bytes;
        self.recount(buffer);
        self.task.wake();
    }

    /// Updates the budget and the number of full sinks.
    #[inline]
    fn recount(&self, buffer: &mut Buffer) {
        // The answers of a client that reads do not count in the budget.
        let is_counted = buffer.is_full || self.budget.counted() > 0;
        if buffer.unread > KEPT_BYTES || buffer.answers > 0 || is_counted {
            self.recount_many(buffer);
        }
    }

    fn recount_many(&self, buffer: &mut Buffer) {
        self.budget.set(buffer.unread.saturating_sub(KEPT_BYTES));
        let is_full = buffer.unread >= HIGH_WATER_BYTES || buffer.answers > 0;
        if is_full != mem::replace(&mut buffer.is_full, is_full) {
            let full = self.full_sinks.get();
            self.full_sinks.set(if is_full {
                full + 1
            } else {
                full.saturating_sub(1)
            });
        }
    }

    /// The number of bytes that wait to be written, without answers that are not encoded.
    pub(super) fn unread(&self) -> usize {
        self.buffer.borrow().unread
    }

    /// Returns whether the client has to read before more answers are made.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.borrow().is_full
    }

    /// Returns whether this session uses the manager's budget while other sessions wait for it.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.budget.keeps_others_waiting()
    }

    /// Returns whether this session uses more than its own share.
    pub(super) fn is_counted(&self) -> bool {
        self.budget.counted() > 0 || self.buffer.borrow().is_full
    }

    /// Writes the waiting frames as far as the stream takes them and there is room to encode them. After an
    /// error it writes nothing any more.
    pub(super) fn poll_flush(
        &self,
        task: &Context<'_>,
        stream: &dyn AttachedStream,
    ) -> Poll<io::Result<()>> {
        self.task.end_wait();
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let waker = task.waker();
        let write = |bytes: &[u8]| stream.poll_write(&mut Context::from_waker(waker), bytes);
        self.flush_by(waker, write)
    }

    /// Returns whether nothing waits to be written, so that the session uses nothing of the budget, and its
    /// buffer has room for only a few answers.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        let buffer = self.buffer.borrow();
        let is_empty = buffer.unread == 0 && buffer.is_encoded();
        is_empty && buffer.bytes.capacity() <= KEPT_BYTES
    }

    fn flush_by(
        &self,
        waker: &Waker,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let buffer = &mut *self.buffer.borrow_mut();
        let mut is_costly = false;
        loop {
            let flushed = self.write_encoded(buffer, &mut write);
            self.recount(buffer);
            if is_costly && !buffer.is_encoded() && !matches!(flushed, Poll::Ready(Err(_))) {
                waker.wake_by_ref();
                return Poll::Pending;
            }
            if flushed.is_pending() {
                self.encode_ahead(buffer, waker);
            }
            if let Err(error) = ready!(flushed) {
                self.break_off_at(buffer);
                return Poll::Ready(Err(error));
            }
            match self.encode_later(buffer, waker) {
                Encoded::Reply => {}
                Encoded::Fault => is_costly = true,
                Encoded::Nothing => break,
            }
        }
        // The buffer keeps the capacity of this write, and not that of its largest one.
        let kept = (2 * buffer.bytes.len()).clamp(KEPT_BYTES, MOST_KEPT_BYTES);
        buffer.sent = 0;
        buffer.bytes.clear();
        buffer.bytes.shrink_to(kept);
        Poll::Ready(Ok(()))
    }

    /// Writes the encoded bytes, up to the next answer that is not encoded.
    fn write_encoded(
        &self,
        buffer: &mut Buffer,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        loop {
            let rest = buffer.next_bytes();
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = ready!(write(rest)).and_then(|count| written_of(rest, count))?;
            buffer.advance(written);
            self.written.set(self.written.get() + written);
        }
    }

    /// Encodes answers while the stream takes no bytes. The client does not read, so the session does not wait
    /// in the queue of the budget, where it would block other sessions. It is woken when there is room, because
    /// a session whose answers are all encoded reads more frames from its client.
    fn encode_ahead(&self, buffer: &mut Buffer, waker: &Waker) {
        self.budget.leave();
        while buffer.unread < HIGH_WATER_BYTES {
            match self.encode_next(buffer, Waiting::Unqueued, waker) {
                Encoded::Reply => {}
                Encoded::Fault => return waker.wake_by_ref(),
                Encoded::Nothing => return,
            }
        }
    }

    /// Encodes what comes later, once everything before it is written. It stops after a fault.
    fn encode_later(&self, buffer: &mut Buffer, waker: &Waker) -> Encoded {
        if buffer.is_encoded() {
            return Encoded::Nothing;
        }
        buffer.bytes.clear();
        buffer.sent = 0;
        while !buffer.has_parts() && buffer.bytes.len() < CHUNK_BYTES {
            match self.encode_next(buffer, Waiting::Queued, waker) {
                Encoded::Reply => {}
                Encoded::Fault => return Encoded::Fault,
                Encoded::Nothing if buffer.bytes.is_empty() => return Encoded::Nothing,
                Encoded::Nothing => break,
            }
        }
        Encoded::Reply
    }

    /// Encodes the first answer that waits, if there is room. If not, the session waits for the budget.
    fn encode_next(&self, buffer: &mut Buffer, waiting: Waiting, waker: &Waker) -> Encoded {
        let Some(answer) = buffer.pop_answer() else {
            return Encoded::Nothing;
        };
        let (seq, reply) = (answer.seq, &answer.reply);
        let mut encoded = self.encode(buffer, seq, reply, self.room(buffer));
        if matches!(encoded, Encoded::Nothing) && self.budget.wait(waiting, waker) {
            encoded = self.encode(buffer, seq, reply, self.frame_bytes);
        }
        match encoded {
            Encoded::Reply | Encoded::Fault => {
                buffer.follow(answer);
                // The answer for which the session waited may have fitted its own share since. If the session
                // stayed in the queue, it would block all others, and without a waiting answer it would never
                // leave.
                self.budget.leave();
            }
            Encoded::Nothing => buffer.unpop_answer(answer),
        }
        encoded
    }

    /// Drops all waiting and future frames, because the client no longer reads.
    pub(super) fn break_off(&self) {
        self.break_off_at(&mut self.buffer.borrow_mut());
    }

    fn break_off_at(&self, buffer: &mut Buffer) {
        if buffer.unread > 0 || !buffer.is_encoded() {
            self.last.lose();
        }
        // The session still serves calls that the client sent before, and must not refuse them because of
        // these answers.
        let dropped = buffer.answers;
        self.in_flight
            .set(self.in_flight.get().saturating_sub(dropped));
        *buffer = Buffer::broken(buffer);
        self.recount(buffer);
        self.budget.leave();
    }

    /// Returns whether the stream takes no more bytes.
    pub(super) fn is_broken(&self) -> bool {
        self.buffer.borrow().is_broken
    }

    /// Drops the answers that are not encoded.
    pub(super) fn drop_later(&self) {
        let buffer = &mut *self.buffer.borrow_mut();
        buffer.drop_later();
        self.recount(buffer);
        self.budget.leave();
    }

    /// Writes once, after [`Self::drop_later`]. An error is ignored: the session is over anyway.
    pub(super) fn flush_once(&self, stream: &dyn Stream) {
        let _ = self.flush_by(Waker::noop(), |bytes| match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        });
    }
}

/// What was encoded of an answer.
enum Encoded {
    Reply,
    /// A fault instead of a reply. Its work is not bounded by its bytes: a reply that exceeds the limit was
    /// encoded up to the limit.
    Fault,
    /// Nothing, because no answer waits or there is no room for it.
    Nothing,
}

fn append_fault(bytes: &mut Vec<u8>, seq: u64, fault: Fault) -> Encoded {
    // A fault of a few words is smaller than every limit.
    let _ = frame::append(bytes, &Response::Fault { seq, fault }, usize::MAX);
    Encoded::Fault
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let buffer = &mut *self.buffer.borrow_mut();
        buffer.unread = 0;
        buffer.answers = 0;
        self.recount(buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use serde::{Serialize, Serializer};

    use super::*;
    use crate::server::session::{
        buffer_budget::{BufferBudget, Party},
        in_mailboxes::AllInMailboxes,
        tests::House,
    };

    /// A reply that exceeds the limit, and counts how often it is encoded.
    struct Huge(Rc<Cell<usize>>);

    impl Serialize for Huge {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.set(self.0.get() + 1);
            serializer.serialize_bytes(&[7; 1 << 17])
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[actix_rt::test]
    async fn one_poll_encodes_at_most_one_answer_that_exceeds_the_limit() {
        let limits = Limits {
            frame_bytes: 1 << 16,
            ..Limits::default()
        };
        let house = House::new(limits);
        let encoded = Rc::new(Cell::new(0));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let stalled = |_: &[u8]| Poll::Pending;
        let reading = |bytes: &[u8]| Poll::Ready(Ok(bytes.len()));
        let budget = Arc::new(BufferBudget::new(1));
        let [other, own] = [(); 2].map(|()| budget.account(Party::Unknown));
        other.set(1);
        let outgoing = Outgoing::new(
            Admitted::refused(),
            limits,
            own,
            (AllInMailboxes::default().part(), Rc::default()),
            Rc::default(),
        );
        for seq in 1..=5 {
            outgoing.put_answer(seq, house.large_reply(Huge(Rc::clone(&encoded))));
        }
        drop(other);
        let expect = |flushed: Poll<io::Result<()>>, count| {
            assert!(flushed.is_pending());
            assert_eq!(encoded.replace(0), count);
            assert_eq!(woken.0.swap(0, Ordering::SeqCst), count);
        };
        encoded.set(0);
        expect(outgoing.flush_by(&waker, stalled), 1);
        expect(outgoing.flush_by(&waker, stalled), 1);
        expect(outgoing.flush_by(&waker, reading), 1);
        expect(outgoing.flush_by(&waker, reading), 1);
        assert!(outgoing.flush_by(&waker, reading).is_ready());
        assert_eq!((encoded.get(), outgoing.unread()), (1, 0));
    }
}

//! `Resumable`: a stream that outlives the connections below it.
//!
//! Both sides count the bytes that they have read, and keep the last ones that they have written. When a
//! connection is lost, the client makes another one, both sides send their counts (`handshake::resume`), and
//! each writes again what the other has not read. A user of the stream notices only a pause.
//!
//! Invariant: a byte that was returned by a read is counted, and no byte is read from a connection that was replaced.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use lockkeeper_sys::OnlyHere;
use tokio::runtime::Handle;

use crate::{
    peer_rights::PeerRights,
    transport::{
        registration::lock,
        stream::{AttachedStream, Stream},
        tls::sent::{KeptBudget, Sent},
    },
};

/// What a stream does when its connection is lost.
pub(crate) enum AtLoss {
    /// Waits for another connection: the manager's side.
    Wait,
    /// Ends: the manager's side in a network where the end of a connection proves that the client is gone.
    End,
    /// Makes another connection: the client's side. An error ends the stream.
    Connect(Box<dyn Fn(Weak<Resumable>) -> io::Result<()> + Send + Sync>),
}

/// A stream that outlives the connections below it.
pub(crate) struct Resumable {
    state: OnlyHere<Mutex<ResumableState>>,
    at_loss: AtLoss,
    host: Option<String>,
    is_trusted: bool,
    /// What the client may do for as long as the stream lasts.
    rights: Option<PeerRights>,
    /// This stream.
    me: Weak<Self>,
}

/// The state of a stream: its current connection, and what was read and written.
struct ResumableState {
    /// The connection, unless it was lost.
    below: Option<Arc<dyn Stream>>,
    /// The number of connections so far, those that were given up included.
    generation: u64,
    /// The number of bytes that were read since the beginning of the stream.
    received: u64,
    sent: Sent,
    /// Why the stream has ended for good; without a reason it was shut down.
    end: Option<Option<String>>,
    attachments: Vec<Weak<Wakers>>,
}

/// The tasks that wait at an attachment.
#[derive(Default)]
struct Wakers {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// A stream that was prepared for another connection.
pub(crate) struct Suspended {
    /// The number of bytes that this side has read.
    pub(crate) received: u64,
    generation: u64,
}

impl Resumable {
    pub(crate) fn new(below: Arc<dyn Stream>, at_loss: AtLoss, budget: KeptBudget) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            at_loss,
            host: below.peer_host(),
            is_trusted: below.is_trusted(),
            rights: below.peer_rights(),
            me: Weak::clone(me),
            state: OnlyHere::new(Mutex::new(ResumableState {
                below: Some(below),
                generation: 0,
                received: 0,
                sent: Sent::new(budget),
                end: None,
                attachments: Vec::new(),
            })),
        })
    }

    /// Locks the state. A forked child gets an error before it could wait for a lock of its parent.
    fn lock(&self) -> io::Result<MutexGuard<'_, ResumableState>> {
        let state = self.state.get().map(lock);
        state.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Gives the connection up, so that nothing is read from it any more. Returns `None` if the stream has ended.
    pub(crate) fn suspend(&self) -> Option<Suspended> {
        let mut state = self.lock().ok()?;
        if state.end.is_some() {
            return None;
        }
        state.give_up();
        state.generation += 1;
        Some(Suspended {
            received: state.received,
            generation: state.generation,
        })
    }

    /// Returns why the stream cannot go on if the other side has read that many bytes. The stream ends then.
    pub(crate) fn refusal(&self, received: u64) -> Option<String> {
        let mut state = self.lock().ok()?;
        let gap = state.sent.gap(received)?;
        state.end(Some(gap.clone()));
        Some(gap)
    }

    /// Goes on over a connection whose other side has read that many bytes, unless it was suspended again since.
    pub(crate) fn resume(&self, suspended: &Suspended, below: Arc<dyn Stream>, received: u64) {
        let Ok(mut state) = self.lock() else { return };
        if state.end.is_some() || state.generation != suspended.generation {
            drop(state);
            return below.shutdown();
        }
        state.sent.resume(received);
        state.below = Some(below);
        state.wake();
    }

    /// Ends the stream for good.
    pub(super) fn end(&self, why: String) {
        if let Ok(mut state) = self.lock() {
            state.end(Some(why));
        }
    }

    /// Handles the loss of the connection.
    fn lose(&self, state: &mut ResumableState) {
        state.give_up();
        match &self.at_loss {
            AtLoss::Wait => {}
            AtLoss::End => state.end(None),
            AtLoss::Connect(connect) => {
                if let Err(error) = connect(Weak::clone(&self.me)) {
                    state.end(Some(error.to_string()));
                }
            }
        }
        state.wake();
    }

    /// Handles the outcome of a read.
    fn read(&self, state: &mut ResumableState, read: io::Result<usize>) -> io::Result<usize> {
        match read {
            Ok(length) if length > 0 => {
                state.received = state.received.saturating_add(length as u64);
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => {
                self.lose(state);
                state.read_end()
            }
        }
    }

    /// Writes the bytes that have to be written again.
    fn write_again(
        &self,
        state: &mut ResumableState,
        write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !state.sent.rest().is_empty() {
            match write(state.sent.rest()) {
                Ok(count) => state.sent.wrote_again(count),
                Err(error) => return Err(self.not_written(state, error)),
            }
        }
        Ok(())
    }

    /// Writes bytes after those that have to be written again.
    fn write(
        &self,
        state: &mut ResumableState,
        bytes: &[u8],
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.write_again(state, &mut write)?;
        if let Some(known) = state.sent.skip(bytes) {
            return Ok(known);
        }
        match write(bytes) {
            Ok(count) => {
                state.sent.push(bytes.get(..count).unwrap_or(bytes));
                Ok(count)
            }
            Err(error) => Err(self.not_written(state, error)),
        }
    }

    fn not_written(&self, state: &mut ResumableState, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            return error;
        }
        self.lose(state);
        state.write_end()
    }
}

impl ResumableState {
    fn give_up(&mut self) {
        if let Some(below) = self.below.take() {
            below.shutdown();
        }
    }

    fn end(&mut self, why: Option<String>) {
        self.give_up();
        self.end.get_or_insert(why);
        self.wake();
    }

    /// Wakes all tasks that wait, because the connection has changed.
    fn wake(&mut self) {
        self.attachments.retain(|wakers| {
            let Some(wakers) = wakers.upgrade() else {
                return false;
            };
            wakers.reader.wake();
            wakers.writer.wake();
            true
        });
    }

    /// The outcome of a read without a connection.
    fn read_end(&self) -> io::Result<usize> {
        match &self.end {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(None) => Ok(0),
            Some(Some(why)) => Err(io::Error::other(why.clone())),
        }
    }

    /// The outcome of a write without a connection.
    fn write_end(&self) -> io::Error {
        match &self.end {
            None => io::ErrorKind::WouldBlock.into(),
            Some(None) => io::ErrorKind::BrokenPipe.into(),
            Some(Some(why)) => io::Error::other(why.clone()),
        }
    }
}

impl Stream for Resumable {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.lock()?;
        let Some(below) = state.below.clone() else {
            return state.read_end();
        };
        match self.write_again(state, &mut |bytes| below.try_write(bytes)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => self.read(state, below.try_read(buffer)),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.lock()?;
        let Some(below) = state.below.clone() else {
            return Err(state.write_end());
        };
        self.write(state, bytes, |bytes| below.try_write(bytes))
    }

    fn shutdown(&self) {
        if let Ok(mut state) = self.lock() {
            state.end(None);
        }
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        let wakers = Arc::default();
        {
            let attachments = &mut self.lock()?.attachments;
            attachments.retain(|other| other.strong_count() > 0);
            attachments.push(Arc::downgrade(&wakers));
        }
        let attached = Attached {
            runtime: Handle::try_current().map_err(io::Error::other)?,
            below: Mutex::default(),
            wakers,
            stream: self,
        };
        let state = attached.stream.lock()?;
        let below = attached.below(&state)?;
        drop((below, state));
        Ok(Box::new(attached))
    }

    fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    fn peer_rights(&self) -> Option<PeerRights> {
        self.rights.clone()
    }

    fn peer_host(&self) -> Option<String> {
        self.host.clone()
    }

    fn has_buffered(&self) -> bool {
        let state = self.lock();
        state.is_ok_and(|state| match &state.below {
            Some(below) => below.has_buffered(),
            None => state.end.is_some(),
        })
    }

    fn received(&self) -> u64 {
        self.lock().map_or(0, |state| state.received)
    }

    fn acknowledge(&self, received: u64) {
        if let Ok(mut state) = self.lock() {
            state.sent.acknowledge(received);
        }
    }

    fn renew(&self) {
        if let Ok(mut state) = self.lock()
            && state.below.is_some()
        {
            self.lose(&mut state);
        }
    }
}

impl fmt::Debug for Resumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Resumable");
        shown.field("host", &self.host).finish_non_exhaustive()
    }
}

/// A resumable stream that is attached to one runtime.
struct Attached {
    stream: Arc<Resumable>,
    runtime: Handle,
    /// The connection below, attached to the runtime, and its generation.
    below: Mutex<Option<(u64, Arc<dyn AttachedStream>)>>,
    wakers: Arc<Wakers>,
}

impl Attached {
    /// Returns the current connection, attached to the runtime, if there is one.
    fn below(&self, state: &ResumableState) -> io::Result<Option<Arc<dyn AttachedStream>>> {
        let Some(below) = &state.below else {
            return Ok(None);
        };
        let mut attached = lock(&self.below);
        if let Some((generation, known)) = &*attached
            && *generation == state.generation
        {
            return Ok(Some(Arc::clone(known)));
        }
        let _runtime = self.runtime.enter();
        let new: Arc<dyn AttachedStream> = Arc::clone(below).attach()?.into();
        *attached = Some((state.generation, Arc::clone(&new)));
        Ok(Some(new))
    }
}

impl AttachedStream for Attached {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.wakers.reader.register(task.waker());
        let state = &mut *self.stream.lock()?;
        let below = match self.below(state) {
            Ok(Some(below)) => below,
            Ok(None) => return poll(state.read_end()),
            // The runtime is about to end, and another one reads.
            Err(_) => return Poll::Pending,
        };
        // On a new connection, the bytes that the other side lacks come first. The reader writes them, because
        // there may be no call that writes. If the socket is full, it is woken as a writer is.
        let mut write = |bytes: &[u8]| now(below.poll_write(task, bytes));
        match self.stream.write_again(state, &mut write) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            Ok(()) | Err(_) => match below.poll_read(task, buffer) {
                Poll::Ready(read) => poll(self.stream.read(state, read)),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wakers.writer.register(task.waker());
        let state = &mut *self.stream.lock()?;
        let Some(below) = self.below(state)? else {
            return poll(Err(state.write_end()));
        };
        poll(
            self.stream
                .write(state, bytes, |bytes| now(below.poll_write(task, bytes))),
        )
    }
}

/// Returns `WouldBlock` for `Pending`. The task is woken in both cases.
fn now(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Returns `Pending` for `WouldBlock`.
fn poll(outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Attached");
        shown.field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_test_support::seeded;
    use rand::{Rng, rngs::StdRng};

    use super::*;
    use crate::transport::{handed::socket_pair, unix::UnixStream};

    /// A connection that may take bytes and report them only at the next write.
    #[derive(Debug)]
    struct Connection {
        stream: UnixStream,
        /// What the next write returns.
        taken: Mutex<usize>,
    }

    impl Stream for Connection {
        fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
            self.stream.try_read(buffer)
        }

        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.taken.lock().unwrap();
            if *taken > 0 {
                return Ok(std::mem::take(&mut *taken));
            }
            let written = self.stream.try_write(bytes)?;
            if written % 3 == 0 {
                *taken = written;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(written)
        }

        fn shutdown(&self) {
            self.stream.shutdown();
        }

        fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn is_trusted(&self) -> bool {
            true
        }
    }

    fn connection() -> [Arc<dyn Stream>; 2] {
        let (one, other) = socket_pair().unwrap();
        [one, other].map(|end| -> Arc<dyn Stream> {
            Arc::new(Connection {
                stream: UnixStream::try_from(end).unwrap(),
                taken: Mutex::default(),
            })
        })
    }

    /// One side of a stream, which writes and reads the same sequence of bytes as the other.
    struct Side {
        stream: Arc<Resumable>,
        /// The bytes that a write has not taken, which the next write begins with.
        pending: Vec<u8>,
        made: u64,
        read: u64,
    }

    impl Side {
        fn new(below: Arc<dyn Stream>) -> Self {
            Self {
                stream: Resumable::new(below, AtLoss::Wait, KeptBudget::new(usize::MAX)),
                pending: Vec::new(),
                made: 0,
                read: 0,
            }
        }

        /// The byte at an index of the sequence.
        fn byte(place: u64) -> u8 {
            (place.wrapping_mul(2_654_435_761) >> 7) as u8
        }

        fn write(&mut self, random: &mut StdRng) {
            for _ in 0..random.random_range(0..200) {
                self.pending.push(Self::byte(self.made));
                self.made += 1;
            }
            if self.pending.is_empty() {
                return;
            }
            match self.stream.try_write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }

        fn read(&mut self, random: &mut StdRng) {
            let mut buffer = vec![0; random.random_range(1..300)];
            match self.stream.try_read(&mut buffer) {
                Ok(count) => {
                    assert!(count > 0);
                    for byte in &buffer[..count] {
                        assert_eq!(*byte, Self::byte(self.read), "byte {}", self.read);
                        self.read += 1;
                    }
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    fn connect_again([one, other]: &[Side; 2]) {
        let [first, second] = [one, other].map(|side| side.stream.suspend().unwrap());
        assert_eq!(one.stream.refusal(second.received), None);
        assert_eq!(other.stream.refusal(first.received), None);
        let [below, at_other] = connection();
        one.stream.resume(&first, below, second.received);
        other.stream.resume(&second, at_other, first.received);
    }

    #[test]
    fn each_byte_arrives_once_however_often_the_connection_is_lost() {
        let mut random = seeded();
        let mut sides = connection().map(Side::new);
        for _ in 0..20_000 {
            let (side, act) = (random.random_range(0..2), random.random_range(0..40));
            match act {
                0 => connect_again(&sides),
                // The connection ends, and one side may notice it earlier.
                1 => sides[side].stream.renew(),
                2..20 => sides[side].write(&mut random),
                _ => sides[side].read(&mut random),
            }
        }
        connect_again(&sides);
        while sides.iter().any(|side| !side.pending.is_empty())
            || sides[0].read < sides[1].made
            || sides[1].read < sides[0].made
        {
            for side in &mut sides {
                let made = side.made;
                if !side.pending.is_empty() {
                    match side.stream.try_write(&side.pending) {
                        Ok(count) => drop(side.pending.drain(..count)),
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                side.read(&mut random);
                assert_eq!(side.made, made);
            }
        }
        assert!(sides.iter().all(|side| side.made > 100_000));
    }

    #[test]
    fn earlier_attempt_does_not_replace_a_later_one() {
        let [below, other] = connection();
        let stream = Resumable::new(below, AtLoss::Wait, KeptBudget::new(usize::MAX));
        let earlier = stream.suspend().unwrap();
        let later = stream.suspend().unwrap();
        let [new, at_other] = connection();
        stream.resume(&later, new, 0);
        let [stale, at_stale] = connection();
        stream.resume(&earlier, stale, 0);
        stream.try_write(b"word").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(at_other.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(at_stale.try_read(&mut buffer).unwrap(), 0);
        drop(other);
    }

    #[test]
    fn stream_that_has_ended_does_not_go_on_and_says_why() {
        let [below, _other] = connection();
        let stream = Resumable::new(below, AtLoss::Wait, KeptBudget::new(usize::MAX));
        stream.end("its session has ended".to_owned());
        assert!(stream.suspend().is_none());
        let error = stream.try_read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "its session has ended");
        assert!(stream.try_write(b"word").is_err() && stream.has_buffered());
        let [below, other] = connection();
        let stream = Resumable::new(below, AtLoss::End, KeptBudget::new(usize::MAX));
        other.shutdown();
        assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 0);
        assert!(stream.suspend().is_none());
    }
}

//! One connection per process and address: calls go out, answers find their callers.
//!
//! The calling task writes its frame itself, and reads for itself and all others while it waits;
//! so an answer wakes its caller and nobody else. Each runtime that calls has one driver task, for
//! when no caller reads; so a connection outlives any of its runtimes. A plain thread that is the only
//! caller reads for itself. What fits neither, as connecting does, runs on [`background`].
//!
//! Invariant: a call is entered in the in-flight table and guarded against being dropped before its
//! frame is written. When the connection ends, every call gets `Disconnected`; none ever hangs.

use std::{
    fmt, future, io, mem,
    sync::{Arc, Mutex, MutexGuard, Weak, atomic::AtomicUsize},
    task::{Poll, Waker, ready},
    time::Duration,
};

use lockkeeper_protocol::{
    CallId, Fault, SessionId, ShardOf,
    codec::{BlobRef, Payload},
    frame::{self, Inbox, Request},
};
use tokio::{runtime, sync::Notify};

use crate::{
    address::Address,
    background::background,
    client::{
        connect::CONNECT_PATIENCE,
        deadline::Deadline,
        pending::Pending,
        spin::Spin,
        state::{InFlight, News, Object, State, Success, lock, wrong_answer},
        wakers::Reader,
    },
    error::CallError,
    telemetry::{call, client},
    transport::stream::{AttachedStream, Stream},
};

/// A session with a manager.
pub(crate) struct Connection {
    pub(super) address: Address,
    pub(super) session: SessionId,
    pub(super) frame_bytes: usize,
    /// Which shard of which manager is at the other end.
    pub(super) shard_of: ShardOf,
    /// Whether the manager wants to know which task or thread calls.
    pub(crate) asks_who_calls: bool,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) state: Mutex<State>,
    pub(super) inbox: Mutex<Receiver>,
    /// How each runtime that calls reads, by its id.
    pub(super) readers: Mutex<Vec<(runtime::Id, Arc<Reader>)>>,
    /// How many there are to read for.
    pub(super) waiters: Arc<AtomicUsize>,
    /// How often it was worth looking for an answer before sleeping.
    pub(super) spin: Spin,
    /// Told when grants are revoked, objects are gone, or the connection ends.
    pub(super) changed: Notify,
}

pub(super) struct Receiver {
    pub(super) inbox: Inbox,
    pub(super) scratch: Box<[u8]>,
}

/// How long a manager may take to open or remove an object.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// How much later than the deadline of a call its manager may say that it has passed.
const GRACE: Duration = Duration::from_secs(2);

/// With so many calls in flight, frames are gathered: one write of many costs both sides far less
/// than many of one.
pub(super) const CROWD: usize = 16;

/// More bytes than this are not gathered.
const BATCH_BYTES: usize = 1 << 15;

/// How long gathered frames may wait for a runtime that stands still.
const GATHERING: Duration = Duration::from_millis(1);

/// How much a driver reads at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 16;

impl Connection {
    /// Where the manager is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// How many bytes a message may have.
    pub(crate) const fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// How the connection ended.
    pub(crate) fn ended(&self) -> Option<String> {
        lock(&self.state).ended.clone()
    }

    /// Whether the socket has taken all that was written so far.
    pub(crate) fn has_sent_all(&self) -> bool {
        lock(&self.state).unsent() == 0
    }

    /// Opens an object: a new one without a name, or the one of that name, which is made if there
    /// is a spec.
    pub(crate) async fn open(
        self: &Arc<Self>,
        kind: &str,
        name: Option<&str>,
        spec: Option<&[u8]>,
    ) -> Result<Arc<Object>, CallError> {
        if let (Some(name), None) = (name, spec) {
            let key = (kind.to_owned(), name.to_owned());
            if let Some(object) = lock(&self.state).objects.get(&key) {
                return Ok(Arc::clone(object));
            }
        }
        let spec = spec.map(BlobRef);
        let pending = self.request(None, |seq| Request::Open {
            seq,
            kind,
            name,
            spec,
        })?;
        let Success::Opened(object) = pending.settle(OPEN_PATIENCE).await? else {
            return Err(wrong_answer());
        };
        let key = (kind.to_owned(), object.name.clone());
        let mut state = lock(&self.state);
        if !state.gone.contains(&object.number) {
            state.names.insert(object.number, key.clone());
            state.objects.insert(key, Arc::clone(&object));
        }
        Ok(object)
    }

    /// Ends the object of that name.
    pub(crate) async fn remove(self: &Arc<Self>, name: &str) -> Result<(), CallError> {
        let pending = self.request(None, |seq| Request::Remove { seq, name })?;
        pending.settle(OPEN_PATIENCE).await.map(drop)
    }

    /// Calls an object and waits for the answer, which `read` makes sense of.
    ///
    /// A call that is dropped, or whose answer makes no sense, is withdrawn.
    pub(crate) async fn call<T>(
        self: &Arc<Self>,
        object: u32,
        operation: u32,
        deadline: Deadline,
        arguments: &[u8],
        caller: Option<u64>,
        read: impl FnOnce(&Payload) -> Result<T, CallError>,
    ) -> Result<(CallId, T), CallError> {
        let (micros, arguments) = (deadline.micros(), BlobRef(arguments));
        let mut pending = self.request(Some(object), |seq| match caller {
            None => Request::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            },
            Some(caller) => Request::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            },
        })?;
        let answer = match deadline {
            // The manager keeps the time; this is for one that keeps nothing any more.
            Deadline::Ends(timeout) => pending.answer_within(timeout.saturating_add(GRACE)).await,
            Deadline::Wakes(_) | Deadline::Never => pending.answer().await,
        };
        let Success::Reply(body) = answer? else {
            return Err(wrong_answer());
        };
        let reply = read(&body)?;
        let seq = pending.disarm();
        Ok((CallId::new(self.session, seq), reply))
    }

    /// Calls an object without an answer. Never waits; a connection that has ended needs nothing.
    pub(crate) fn cast(self: &Arc<Self>, object: u32, operation: u32, arguments: &[u8]) {
        let mut state = lock(&self.state);
        state.last_seq += 1;
        let seq = state.last_seq;
        let arguments = BlobRef(arguments);
        let request = Request::Cast {
            seq,
            object,
            operation,
            arguments,
        };
        // What a guard sends is small; a user's own cast above the limit is lost, as documented.
        let _ = self.write(state, &request);
    }

    /// Numbers a request, enters it as being in flight and writes it.
    pub(super) fn request<'a>(
        self: &Arc<Self>,
        object: Option<u32>,
        request: impl FnOnce(u64) -> Request<'a>,
    ) -> Result<Pending, CallError> {
        let (waiter_count, reader) = self.seat()?;
        let mut state = lock(&self.state);
        if let Some(why) = &state.ended {
            return Err(self.disconnected(why));
        }
        state.last_seq += 1;
        let seq = state.last_seq;
        state.in_flight.insert(seq, InFlight::default());
        let mut pending = Pending {
            connection: Arc::clone(self),
            object,
            seq,
            reader,
            waiter_count,
            is_armed: true,
        };
        if let Err(error) = self.write(state, &request(seq)) {
            pending.disarm();
            lock(&self.state).in_flight.remove(&seq);
            return Err(error);
        }
        call::numbered(self.session, seq);
        Ok(pending)
    }

    /// Appends a frame and writes what the socket takes.
    pub(super) fn write(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        request: &Request<'_>,
    ) -> Result<(), CallError> {
        if state.ended.is_some() {
            return Ok(());
        }
        frame::append(&mut state.outgoing, request, self.frame_bytes)
            .map_err(|error| CallError::Fault(Fault::BadArguments(error.to_string())))?;
        if state.in_flight.len() < CROWD || state.unsent() > BATCH_BYTES {
            self.flush(state);
        } else if !mem::replace(&mut state.is_gathering, true) {
            self.gather(state);
        }
        Ok(())
    }

    /// Writes what the socket takes of all that waits.
    fn flush(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.is_gathering = false;
        let flushed = state.flush(|bytes| match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        });
        drop(state);
        match flushed {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.end_after_last_words(&error.to_string()),
            Poll::Pending => self.flush_later(),
        }
    }

    /// Leaves frames to be written together: by the driver, once all tasks that are ready have had
    /// their turn, or by the background, should the caller's runtime stand still.
    fn gather(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.gathered += 1;
        let is_watched = mem::replace(&mut state.is_watched, true);
        drop(state);
        if let Some(reader) = self.reader_at_hand() {
            reader.wakers.driver.wake();
        }
        if !is_watched {
            drop(background().spawn(flush_leftovers(Arc::downgrade(self))));
        }
    }

    pub(super) fn is_gathering(&self) -> bool {
        lock(&self.state).is_gathering
    }

    /// Writes what was gathered, if anything was.
    pub(super) fn flush_gathered(self: &Arc<Self>) {
        let state = lock(&self.state);
        if state.is_gathering {
            self.flush(state);
        }
    }

    /// Has the background write what the socket did not take: the caller's runtime may stand still.
    fn flush_later(self: &Arc<Self>) {
        if !mem::replace(&mut lock(&self.state).is_flushing, true) {
            drop(background().spawn(flush(Arc::downgrade(self))));
        }
    }

    /// Reads one chunk, if there is one, and hands its frames out. An error ends the connection.
    pub(super) fn drain(
        &self,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), String>> {
        let mut receiver = lock(&self.inbox);
        let Receiver { inbox, scratch } = &mut *receiver;
        Poll::Ready(match ready!(read(scratch)) {
            Ok(0) => Err("the manager has closed the connection".to_owned()),
            Ok(length) => {
                inbox.feed(scratch.get(..length).unwrap_or_default());
                self.hand_out(inbox)
            }
            Err(error) => Err(error.to_string()),
        })
    }

    /// Reads what is there without a runtime.
    pub(super) fn look(&self) -> Poll<Result<(), String>> {
        self.drain(|scratch| match self.stream.try_read(scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        })
    }

    /// Hands out what there is in one read.
    pub(super) fn look_once(&self) {
        if let Poll::Ready(Err(why)) = self.look() {
            self.end(&why);
        }
    }

    /// Whether the connection stands, after reading all that is there.
    pub(super) fn is_alive(&self) -> bool {
        loop {
            match self.look() {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => self.end(&why),
                Poll::Pending => break,
            }
            if self.ended().is_some() {
                break;
            }
        }
        self.ended().is_none()
    }

    /// Ends a connection that takes no more, once all is read that the manager sent before it
    /// left: answers that came in time, and why it hung up.
    fn end_after_last_words(&self, why: &str) {
        loop {
            match self.look() {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(last)) => return self.end(&last),
                Poll::Pending => return self.end(why),
            }
        }
    }

    /// Gives all whole answers to their callers, also those before what ends the connection.
    fn hand_out(&self, inbox: &mut Inbox) -> Result<(), String> {
        let mut news = News::default();
        let read = lock(&self.state).take_in(inbox, &mut news);
        news.answered.into_iter().for_each(Waker::wake);
        if news.has_changed {
            self.changed.notify_waiters();
        }
        read
    }

    /// Tells every caller that there will be no answer.
    pub(super) fn end(&self, why: &str) {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why.to_owned());
        state.outgoing = Vec::new();
        state.sent = 0;
        let waiting = state.answer_all(&self.disconnected(why));
        drop(state);
        client::disconnected(&self.address, self.session, why);
        self.stream.shut_down();
        waiting.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
    }

    pub(super) fn disconnected(&self, why: &str) -> CallError {
        CallError::Disconnected {
            address: self.address.clone(),
            why: why.to_owned(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let State {
            outgoing,
            sent,
            ended,
            ..
        } = &mut *lock(&self.state);
        if ended.is_none() {
            client::parted(&self.address, self.session);
        }
        let rest = outgoing.split_off((*sent).min(outgoing.len()));
        if rest.is_empty() || ended.is_some() {
            self.stream.shut_down();
        } else {
            // Among what the socket did not take yet may be releases.
            drop(background().spawn(shard(Arc::clone(&self.stream), rest)));
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Writes what the socket did not take, while the connection is used.
pub(super) async fn flush(connection: Weak<Connection>) {
    let Some(link) = connection
        .upgrade()
        .map(|used| Arc::clone(&used.stream).attach())
    else {
        return;
    };
    future::poll_fn(|task| {
        let Some(connection) = connection.upgrade() else {
            return Poll::Ready(());
        };
        let mut state = lock(&connection.state);
        let flushed = match &link {
            Ok(link) => ready!(state.flush(|bytes| link.poll_write(task, bytes))),
            Err(error) => Err(error.kind().into()),
        };
        state.is_flushing = false;
        drop(state);
        if let Err(error) = flushed {
            connection.end_after_last_words(&error.to_string());
        }
        Poll::Ready(())
    })
    .await;
}

/// Writes gathered frames whose driver does not, for as long as there are new ones.
pub(super) async fn flush_leftovers(connection: Weak<Connection>) {
    loop {
        let Some(gathered) = connection.upgrade().map(|used| lock(&used.state).gathered) else {
            return;
        };
        tokio::time::sleep(GATHERING).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let mut state = lock(&connection.state);
        if state.gathered == gathered {
            state.is_watched = false;
            if state.is_gathering {
                connection.flush(state);
            }
            return;
        }
    }
}

/// Writes what is left to be written over a connection that nobody uses any more, and ends it.
pub(super) async fn shard(stream: Arc<dyn Stream>, rest: Vec<u8>) {
    if let Ok(link) = Arc::clone(&stream).attach() {
        let mut sent = 0;
        let write = future::poll_fn(|task| {
            while let Some(rest) = rest.get(sent..).filter(|rest| !rest.is_empty()) {
                sent += ready!(link.poll_write(task, rest))?;
            }
            Poll::Ready(io::Result::Ok(()))
        });
        // A manager that takes nothing any more gives back what this session holds anyway.
        let _ = tokio::time::timeout(CONNECT_PATIENCE, write).await;
    }
    stream.shut_down();
}

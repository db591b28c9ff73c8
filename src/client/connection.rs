//! A connection: a session, its stream, and one lock around the state that threads share.
//!
//! Callers write their frames themselves, and each waiting caller reads for all, so an answer wakes its
//! caller and no other thread. What a caller cannot do at once, a task does: the driver of a runtime
//! (`driver`), or a background task if the caller's runtime may be blocked.
//!
//! Invariant: a call is recorded as in flight before its frame is written. When the connection ends, every
//! call in flight gets `Disconnected`; none hangs. In a forked child the copy of the lock may be locked for
//! ever, so the child gets neither the lock nor the stream.

use std::{
    fmt, future, io, mem,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Poll, Waker, ready},
    time::Duration,
};

use lockkeeper_protocol::{
    Fault, SessionId, SessionSecret, ShardOf,
    frame::{Capabilities, Request},
};
use lockkeeper_sys::OnlyHere;
use tokio::sync::Notify;

use crate::{
    address::Address,
    background::{self, background},
    client::{
        lease::Lease,
        settings::{OnLoss, Settings},
        spin::Spin,
        state::{News, Session, lock},
        wakers::Reader,
    },
    error::{BY_THIS_PROGRAM, CallError},
    telemetry::client,
    transport::stream::Stream,
};

/// A session with a manager.
pub(crate) struct Connection {
    pub(super) address: Address,
    pub(super) session: SessionId,
    pub(super) secret: SessionSecret,
    pub(super) frame_bytes: usize,
    /// The shard and incarnation at the other end.
    pub(super) shard_of: ShardOf,
    /// The addresses at which clients on other machines reach the manager.
    pub(super) endpoints: Vec<Address>,
    /// The capabilities of the manager beyond the base of the protocol, including whether it needs the task
    /// or thread of each call.
    pub(crate) capabilities: Capabilities,
    pub(super) stream: OnlyHere<Arc<dyn Stream>>,
    pub(super) shared: OnlyHere<Mutex<Shared>>,
    /// The number of waiting callers.
    pub(super) waiters: Arc<AtomicUsize>,
    pub(super) spin: Spin,
    /// The lease of a connection over a network.
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) settings: Arc<Settings>,
    /// Whether it has ended, readable without the lock.
    pub(super) has_ended: AtomicBool,
    /// Whether this process ends the manager.
    pub(super) ends_here: AtomicBool,
    /// Notified when grants are revoked, objects are removed, or the connection ends.
    pub(super) changed: Notify,
}

/// The state of a connection that the threads of a process share.
pub(super) struct Shared {
    pub(super) session: Session,
    /// One reader for each runtime that calls.
    pub(super) readers: Vec<Arc<Reader>>,
    /// Whether a background task is writing bytes that the stream did not take.
    is_flushing: bool,
    /// Whether frames wait for a driver to write them together.
    pub(super) is_gathering: bool,
    /// Whether a background task checks for frames that no driver writes.
    is_watched: bool,
}

/// The time that a manager has to accept a client.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The number of calls in flight from which on frames are gathered: one write of many frames costs both sides
/// far less than one write per frame.
pub(super) const GATHER_FROM_CALLS: usize = 16;

/// Gathered frames are written once they have more bytes than this.
const BATCH_BYTES: usize = 1 << 15;

/// The time that gathered frames may wait for a blocked runtime.
const GATHERING: Duration = Duration::from_millis(1);

impl Shared {
    pub(super) const fn new(session: Session) -> Self {
        Self {
            session,
            readers: Vec::new(),
            is_flushing: false,
            is_gathering: false,
            is_watched: false,
        }
    }

    /// Returns the reader of the caller's runtime, or of another one. Code that sends without waiting, such
    /// as a guard's drop, may run where a reader cannot be created.
    fn any_reader(&self) -> Option<&Arc<Reader>> {
        let here = background::current().map(|handle| handle.id());
        let own = self
            .readers
            .iter()
            .find(|reader| Some(reader.runtime) == here);
        own.or_else(|| self.readers.first())
    }
}

impl Connection {
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn session(&self) -> SessionId {
        self.session
    }

    /// Returns the shard and incarnation at the other end.
    pub(crate) const fn shard_of(&self) -> ShardOf {
        self.shard_of
    }

    /// Returns the addresses at which clients on other machines reach the manager.
    pub(crate) fn endpoints(&self) -> &[Address] {
        &self.endpoints
    }

    /// Locks the shared state. Returns `None` in a forked child.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, Shared>> {
        self.shared.get().map(lock)
    }

    /// Returns whether this process made the connection, rather than the parent of a forked child.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.is_here()
    }

    /// The error of a call on a connection of the parent.
    #[cold]
    pub(crate) fn forked(&self) -> CallError {
        CallError::Forked {
            what: format!("the connection to {}", self.address),
        }
    }

    /// Returns the reason if the connection has ended.
    pub(crate) fn ended(&self) -> Option<String> {
        match self.lock() {
            Some(shared) => shared.session.ended.clone(),
            None => Some(self.forked().to_string()),
        }
    }

    /// Returns whether its proxies reconnect once it has ended.
    pub(crate) fn reconnects(&self) -> bool {
        self.settings.on_loss == OnLoss::Reconnect
    }

    /// Returns whether it has ended and its proxies reconnect. It takes no lock.
    pub(crate) fn is_to_be_replaced(&self) -> bool {
        self.reconnects() && self.has_ended.load(Ordering::Acquire)
    }

    /// Returns whether the stream has taken all that was written so far, and has not ended.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.lock().is_some_and(|shared| {
            let session = &shared.session;
            session.ended.is_none() && session.unsent() == 0
        })
    }

    /// Appends a request, and writes what the stream takes or leaves it to be written with other requests.
    ///
    /// # Errors
    ///
    /// Returns [`Fault::Limit`] when the request exceeds the limit of the manager, which would otherwise end
    /// the session. Returns [`CallError::Disconnected`] when the connection ends before the stream has taken
    /// all of the request; the manager does not serve it then.
    pub(super) fn send(
        self: &Arc<Self>,
        mut shared: MutexGuard<'_, Shared>,
        request: &Request<'_>,
    ) -> Result<(), CallError> {
        let session = &mut shared.session;
        if let Some(why) = &session.ended {
            return Err(self.disconnected(why));
        }
        // A request always encodes, so the only possible error is its size.
        session
            .push(request)
            .map_err(|_| CallError::from(Fault::limit("bytes in a call", self.frame_bytes)))?;
        if session.in_flight.len() < GATHER_FROM_CALLS || session.unsent() > BATCH_BYTES {
            return self.flush(shared);
        }
        if !mem::replace(&mut shared.is_gathering, true) {
            self.have_written(shared);
        }
        Ok(())
    }

    /// Writes what the stream takes. A background task writes the rest.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] when the stream takes no more, which ends the connection. The last
    /// request is not served then.
    pub(super) fn flush(
        self: &Arc<Self>,
        mut shared: MutexGuard<'_, Shared>,
    ) -> Result<(), CallError> {
        shared.is_gathering = false;
        let written = shared
            .session
            .write(|bytes| now_or_pending(self.stream()?.try_write(bytes)));
        match written {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                return Err(self.end_after_last_words(shared, &error.to_string()));
            }
            Poll::Pending => {
                if !mem::replace(&mut shared.is_flushing, true) {
                    drop(background().spawn(flush(Arc::downgrade(self))));
                }
            }
        }
        Ok(())
    }

    /// Schedules the write of gathered frames: the driver writes them once all ready tasks have run, and a
    /// background task does if the driver's runtime is blocked.
    fn have_written(self: &Arc<Self>, mut shared: MutexGuard<'_, Shared>) {
        let is_watched = mem::replace(&mut shared.is_watched, true);
        let reader = shared.any_reader().map(Arc::clone);
        drop(shared);
        if let Some(reader) = reader {
            reader.wakers.driver.wake();
        }
        if !is_watched {
            drop(background().spawn(flush_leftovers(Arc::downgrade(self))));
        }
    }

    /// Reads all available bytes, and returns the reason if the connection is over.
    pub(super) fn read_all(
        shared: &mut Shared,
        mut read: impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Option<String> {
        loop {
            match shared.session.read(&mut read) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => return Some(why),
                Poll::Pending => return None,
            }
        }
    }

    /// Reads one available chunk without a runtime, and returns the reason if the connection is over.
    pub(super) fn read_chunk(&self, shared: &mut Shared) -> Option<String> {
        let read = |scratch: &mut [u8]| now_or_pending(self.stream()?.try_read(scratch));
        match shared.session.read(read) {
            Poll::Ready(Err(why)) => Some(why),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// Reads all available bytes without a runtime, and returns the reason if the connection is over.
    pub(super) fn read_ready(&self, shared: &mut Shared) -> Option<String> {
        Self::read_all(shared, |scratch| {
            now_or_pending(self.stream()?.try_read(scratch))
        })
    }

    /// Returns the stream.
    ///
    /// # Errors
    ///
    /// Returns an error in a forked child of the process that connected.
    pub(super) fn stream(&self) -> io::Result<&Arc<dyn Stream>> {
        let stream = self.stream.get();
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads all available bytes without a runtime, and returns whether the connection is alive.
    pub(super) fn is_alive(&self) -> bool {
        let Some(mut shared) = self.lock() else {
            return false;
        };
        if shared.session.ended.is_some() {
            return false;
        }
        let why = self.read_ready(&mut shared);
        let is_alive = why.is_none();
        self.unlock(shared, why);
        is_alive && !self.has_lapsed()
    }

    /// Releases the lock, ends the connection if there is a reason, and wakes the callers that now have
    /// answers.
    #[inline]
    pub(super) fn unlock(&self, shared: MutexGuard<'_, Shared>, why: Option<String>) {
        if why.is_some() || shared.session.has_news() {
            self.unlock_with_news(shared, why);
        }
    }

    fn unlock_with_news(&self, mut shared: MutexGuard<'_, Shared>, why: Option<String>) {
        let ended = why.filter(|why| shared.session.end(why, &self.disconnected(why)));
        if ended.is_some() {
            self.has_ended.store(true, Ordering::Release);
        }
        let News {
            answered,
            has_changed,
            replaced,
        } = shared.session.take_news();
        if ended.is_some() {
            self.send_goodbye(&mut shared.session);
        }
        drop(shared);
        drop(replaced);
        if let Some(why) = ended {
            self.leave_session();
            if self.ends_here.load(Ordering::Relaxed) {
                client::ended_here(&self.address, self.session, &why);
            } else {
                client::disconnected(&self.address, self.session, &why);
            }
            if let Some(stream) = self.stream.get() {
                stream.shutdown();
            }
        }
        answered.into_iter().for_each(Waker::wake);
        if has_changed {
            self.changed.notify_waiters();
        }
    }

    /// Ends a connection whose stream takes no more bytes, after reading what the manager sent before it
    /// left: answers that arrived in time, and the reason for a hang-up. Returns the error for the calls in
    /// flight.
    fn end_after_last_words(&self, mut shared: MutexGuard<'_, Shared>, why: &str) -> CallError {
        let last = self.read_ready(&mut shared);
        let why = last.unwrap_or_else(|| why.to_owned());
        let error = self.disconnected(&why);
        self.unlock(shared, Some(why));
        error
    }

    /// The error of a call on a connection that has ended.
    pub(super) fn disconnected(&self, why: &str) -> CallError {
        let by = match self.ends_here.load(Ordering::Relaxed) {
            true => BY_THIS_PROGRAM,
            false => "",
        };
        CallError::Disconnected {
            address: self.address.clone(),
            why: format!("{why}{by}"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (Some(stream), Some(mut shared)) = (self.stream.get(), self.lock()) else {
            return;
        };
        let session = &mut shared.session;
        let has_ended = session.ended.is_some();
        if !has_ended {
            client::parted(&self.address, self.session);
            self.send_goodbye(session);
        }
        let rest = session.take_unsent();
        if rest.is_empty() || has_ended {
            stream.shutdown();
        } else {
            // The bytes that the stream has not taken may be releases.
            drop(background().spawn(write_and_end(Arc::clone(stream), rest)));
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

/// Turns `WouldBlock` into `Pending`.
pub(super) fn now_or_pending(outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}

/// Writes the bytes that the stream did not take, while the connection is used.
async fn flush(connection: Weak<Connection>) {
    let Some(attached) = connection
        .upgrade()
        .and_then(|used| Some(Arc::clone(used.stream.get()?).attach()))
    else {
        return;
    };
    future::poll_fn(|task| {
        let Some(connection) = connection.upgrade() else {
            return Poll::Ready(());
        };
        let Some(mut shared) = connection.lock() else {
            return Poll::Ready(());
        };
        let written = match &attached {
            Ok(stream) => ready!(shared.session.write(|bytes| stream.poll_write(task, bytes))),
            Err(error) => Err(error.kind().into()),
        };
        shared.is_flushing = false;
        if let Err(error) = written {
            // The callers get this error as their answers.
            let _ = connection.end_after_last_words(shared, &error.to_string());
        }
        Poll::Ready(())
    })
    .await;
}

/// Writes gathered frames that no driver writes, until none have appeared for a while.
async fn flush_leftovers(connection: Weak<Connection>) {
    let mut was_gathering = true;
    while was_gathering {
        tokio::time::sleep(GATHERING).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let Some(mut shared) = connection.lock() else {
            return;
        };
        was_gathering = shared.is_gathering;
        if was_gathering {
            // The callers get this error as their answers.
            let _ = connection.flush(shared);
        } else {
            shared.is_watched = false;
        }
    }
}

/// Writes the remaining bytes of a connection that is no longer used, and ends it.
async fn write_and_end(stream: Arc<dyn Stream>, rest: Vec<u8>) {
    if let Ok(attached) = Arc::clone(&stream).attach() {
        let mut sent = 0;
        let write = future::poll_fn(|task| {
            while let Some(rest) = rest.get(sent..).filter(|rest| !rest.is_empty()) {
                sent += ready!(attached.poll_write(task, rest))?;
            }
            Poll::Ready(io::Result::Ok(()))
        });
        // If the manager takes no more bytes, it releases the holds of this session anyway.
        let _ = tokio::time::timeout(CONNECT_PATIENCE, write).await;
    }
    stream.shutdown();
}

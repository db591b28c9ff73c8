//! The session as data: bytes in, bytes out, calls in flight, open objects, void grants.
//!
//! [`Session`] knows no stream, no runtime and no clock: the caller passes in the bytes that it read, and
//! takes the bytes to write. Invariant: the session is consistent whenever its lock is free. Wakers are
//! woken, and dropped, only after that lock is released, because either may run code that calls.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker, ready},
};

use lockkeeper_protocol::{
    Fault,
    codec::{CodecError, Payload},
    frame::{self, Inbox, Request, Response},
};
use rustc_hash::FxHashMap;

use crate::{
    client::lease::{Beats, BootTime},
    error::CallError,
    transport::stream::written_of,
};

#[cfg(test)]
thread_local! {
    /// The number of locks that this thread has taken.
    pub(super) static LOCKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Locks a mutex of this process. Every critical section leaves consistent data behind, even when it panics,
/// so poison is ignored.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    LOCKS.set(LOCKS.get() + 1);
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's side of a session, without I/O.
pub(super) struct Session {
    inbox: Inbox,
    scratch: Box<[u8]>,
    outgoing: Vec<u8>,
    /// The number of outgoing bytes that are written.
    sent: usize,
    /// The size of the largest message that the manager takes, in bytes.
    frame_bytes: usize,
    last_seq: u64,
    /// The calls without an answer, by their numbers. This process assigns the numbers, so a plain hash is
    /// safe.
    pub(super) in_flight: FxHashMap<u64, InFlight>,
    /// The open objects, by kind and name.
    objects: HashMap<(String, String), Arc<Object>>,
    /// The kinds and names of the open objects, by their numbers.
    names: HashMap<u32, (String, String)>,
    /// Grants that are void although their guards have not released them.
    revoked: HashSet<u64>,
    /// Objects that were removed.
    gone: HashSet<u32>,
    /// The reason if the connection has ended.
    pub(super) ended: Option<String>,
    /// The frames that renew the lease and have no answer yet.
    pub(super) beats: Beats,
    news: News,
}

/// An object that the manager has opened for this session.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) number: u32,
    pub(crate) name: String,
    operations: Vec<String>,
}

impl Object {
    /// Returns the number of the operation with that name.
    pub(crate) fn operation(&self, name: &str) -> Result<u32, CallError> {
        let place = self
            .operations
            .iter()
            .position(|operation| operation == name);
        place
            .and_then(|place| u32::try_from(place).ok())
            .ok_or_else(|| Fault::UnknownOperation(name.to_owned()).into())
    }

    /// Returns the name of the operation with that number, for errors.
    pub(crate) fn operation_name(&self, number: u32) -> &str {
        let place = usize::try_from(number).ok();
        place
            .and_then(|place| self.operations.get(place))
            .map_or("", String::as_str)
    }
}

/// A request whose caller has not taken its answer.
#[derive(Default)]
pub(super) struct InFlight {
    answer: Option<Answer>,
    /// When it was sent, if its answer renews a lease.
    sent: Option<BootTime>,
    /// The waker of the caller, unless the caller is about to look for the answer itself.
    waker: Option<Waker>,
}

/// The outcome of a request.
pub(super) type Answer = Result<Success, CallError>;

/// A successful answer.
#[derive(Debug)]
pub(super) enum Success {
    Reply(Payload),
    Opened(Arc<Object>),
}

/// The error if the type of an answer does not fit the request.
pub(super) fn wrong_answer() -> CallError {
    CallError::Protocol("an answer of another kind than the call".to_owned())
}

/// The actions that follow once the lock of the session is free.
#[derive(Default)]
pub(super) struct News {
    /// The wakers of callers that now have answers.
    pub(super) answered: Vec<Waker>,
    /// Whether grants were revoked or objects were removed.
    pub(super) has_changed: bool,
    /// Wakers that are no longer needed. The drop of one may drop a task, and with it a guard, which calls.
    pub(super) replaced: Vec<Waker>,
}

/// The most bytes of one read.
const CHUNK_BYTES: usize = 1 << 16;

/// The reason if a stream has ended in the middle of a message, where no `Bye` can follow.
const BROKEN_OFF: &str = "the manager has closed the connection in the middle of an answer: it was killed, or \
     it hung up since this process did not read its answers (`Limits::unread_time`)";

/// The reason if a stream claims to have read more than its buffer holds.
const OVERREAD: &str = "the stream has read more than there was room for";

/// An empty outgoing buffer with more capacity than this, in bytes, is shrunk.
const KEPT_BYTES: usize = 1 << 16;

/// Stores the answer of a request. If its caller was dropped, the call was withdrawn, and the answer is
/// dropped.
fn give(
    in_flight: &mut FxHashMap<u64, InFlight>,
    beats: &Beats,
    news: &mut News,
    seq: u64,
    answer: Answer,
) {
    if let Some(request) = in_flight.get_mut(&seq)
        && request.answer.is_none()
    {
        beats.answered(request.sent);
        request.answer = Some(answer);
        news.answered.extend(request.waker.take());
    }
}

impl Session {
    /// Creates a session that takes messages of `frame_bytes` bytes, until [`Self::allow`] changes that.
    pub(super) fn new(frame_bytes: usize) -> Self {
        Self {
            inbox: Inbox::new(frame_bytes),
            scratch: vec![0; CHUNK_BYTES].into(),
            outgoing: Vec::new(),
            sent: 0,
            frame_bytes,
            last_seq: 0,
            in_flight: FxHashMap::default(),
            objects: HashMap::new(),
            names: HashMap::new(),
            revoked: HashSet::new(),
            gone: HashSet::new(),
            ended: None,
            beats: Beats::default(),
            news: News::default(),
        }
    }

    /// Sets the size of the largest message, in bytes.
    pub(super) fn allow(&mut self, frame_bytes: usize) {
        self.frame_bytes = frame_bytes;
        self.inbox.allow(frame_bytes);
    }

    /// Reserves `count` request numbers, and returns the first.
    pub(super) fn reserve(&mut self, count: u64) -> u64 {
        let first = self.last_seq + 1;
        self.last_seq += count;
        first
    }

    /// Appends a request to the outgoing bytes.
    ///
    /// # Errors
    ///
    /// Returns an error when the request exceeds the limit. Nothing is appended then.
    pub(super) fn push(&mut self, request: &Request<'_>) -> Result<(), CodecError> {
        frame::append(&mut self.outgoing, request, self.frame_bytes)
    }

    /// Returns the number of outgoing bytes.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Takes the outgoing bytes.
    pub(super) fn take_unsent(&mut self) -> Vec<u8> {
        let sent = mem::take(&mut self.sent);
        let mut all = mem::take(&mut self.outgoing);
        all.drain(..sent.min(all.len()));
        all
    }

    /// Writes the outgoing bytes, as far as `write` takes them.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .outgoing
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            self.sent += written_of(rest, ready!(write(rest))?)?;
            if self.sent > self.outgoing.len() / 4 * 3 {
                // The buffer may never run empty, so the written part is removed once it is large; that moves
                // bytes rarely.
                self.outgoing.drain(..mem::take(&mut self.sent));
            }
        }
        // The buffer keeps the capacity of this write, and not that of its largest one.
        let kept = (2 * self.outgoing.len()).clamp(KEPT_BYTES, 2 * KEPT_BYTES);
        self.sent = 0;
        self.outgoing.clear();
        self.outgoing.shrink_to(kept);
        Poll::Ready(Ok(()))
    }

    /// Reads one chunk and handles its frames. An error is the reason why the connection is over.
    pub(super) fn read(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), String>> {
        Poll::Ready(match ready!(read(&mut self.scratch)) {
            Ok(0) if self.inbox.missing() > 0 => Err(BROKEN_OFF.to_owned()),
            Ok(0) => Err("the manager has closed the connection".to_owned()),
            Ok(length) => match self.scratch.get(..length) {
                Some(bytes) => {
                    self.inbox.feed(bytes);
                    self.take_in()
                }
                None => Err(OVERREAD.to_owned()),
            },
            Err(error) => Err(error.to_string()),
        })
    }

    /// Reads one chunk and returns the first frame, before there are calls.
    pub(super) fn read_first(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<Option<Vec<u8>>, String>> {
        Poll::Ready(match ready!(read(&mut self.scratch)) {
            Ok(0) => Err("the manager has closed the connection".to_owned()),
            Ok(length) => match self.scratch.get(..length) {
                Some(bytes) => {
                    self.inbox.feed(bytes);
                    match self.inbox.next_message() {
                        Ok(message) => Ok(message.map(|message| message.to_vec())),
                        Err(error) => Err(error.to_string()),
                    }
                }
                None => Err(OVERREAD.to_owned()),
            },
            Err(error) => Err(error.to_string()),
        })
    }

    /// Handles all complete frames, including those before one that ends the connection.
    pub(super) fn take_in(&mut self) -> Result<(), String> {
        let Self {
            inbox,
            in_flight,
            objects,
            names,
            revoked,
            gone,
            beats,
            news,
            ..
        } = self;
        while let Some(frame) = inbox.next_message().map_err(|error| error.to_string())? {
            let response = match Response::decode(&frame) {
                Ok(response) => response,
                Err(error) => {
                    let seq = frame::faulted(&frame);
                    let seq = seq.ok_or_else(|| format!("bad frame: {error}"))?;
                    // A later version of the protocol may have more faults.
                    let why = format!("a fault that is not known here: {error}");
                    give(in_flight, beats, news, seq, Err(CallError::Protocol(why)));
                    continue;
                }
            };
            let (seq, answer) = match response {
                Response::Reply { seq, .. } if beats.is_answered_by(seq) => continue,
                Response::Reply { seq, body } => (seq, Ok(Success::Reply(frame.keep(body.0)))),
                Response::Fault { seq, fault } => (seq, Err(fault.into())),
                Response::Opened {
                    seq,
                    object,
                    name,
                    operations,
                } => {
                    let object = Object {
                        number: object,
                        name,
                        operations,
                    };
                    (seq, Ok(Success::Opened(Arc::new(object))))
                }
                Response::Revoked { seq } => {
                    news.has_changed = true;
                    revoked.insert(seq);
                    continue;
                }
                Response::Gone { object } => {
                    news.has_changed = true;
                    gone.insert(object);
                    if let Some(key) = names.remove(&object) {
                        objects.remove(&key);
                    }
                    continue;
                }
                Response::Bye { reason } => return Err(reason),
                Response::Welcome { .. } => return Err("a second welcome".to_owned()),
            };
            give(in_flight, beats, news, seq, answer);
        }
        Ok(())
    }

    /// Records a request as in flight, and returns its number.
    pub(super) fn enter(&mut self) -> u64 {
        let seq = self.reserve(1);
        let request = InFlight {
            sent: self.beats.now(),
            ..InFlight::default()
        };
        self.in_flight.insert(seq, request);
        seq
    }

    /// Forgets a request, and returns the waker of its caller. A later answer is dropped.
    #[must_use = "a waker is dropped after the lock is free"]
    pub(super) fn forget(&mut self, seq: u64) -> Option<Waker> {
        self.in_flight.remove(&seq)?.waker
    }

    /// Returns whether a request has no answer yet.
    pub(super) fn is_in_flight(&self, seq: u64) -> bool {
        self.in_flight.contains_key(&seq)
    }

    /// Takes the waker of a caller that is about to read for itself. An answer that the caller reads must not
    /// wake it, because its runtime would then poll for other events in vain.
    pub(super) fn take_waker(&mut self, seq: u64) -> Option<Waker> {
        self.in_flight.get_mut(&seq)?.waker.take()
    }

    /// Takes the answer to a request if it has arrived.
    pub(super) fn take_answer(&mut self, seq: u64) -> Option<Answer> {
        let Entry::Occupied(request) = self.in_flight.entry(seq) else {
            let why = "the call was forgotten".to_owned();
            return Some(Err(CallError::Protocol(why)));
        };
        request.get().answer.as_ref()?;
        let InFlight { answer, waker, .. } = request.remove();
        self.news.replaced.extend(waker);
        answer
    }

    /// Takes the answer to a request, or registers `waker` for it. `known` is the waker that was taken
    /// before: it is used again if it wakes the same task, and dropped later otherwise.
    pub(super) fn poll_answer(
        &mut self,
        seq: u64,
        waker: &Waker,
        known: &mut Option<Waker>,
    ) -> Poll<Answer> {
        if let Some(request) = self.in_flight.get_mut(&seq)
            && request.answer.is_none()
        {
            let known = known.take_if(|known| known.will_wake(waker));
            request.waker = Some(known.unwrap_or_else(|| waker.clone()));
            return Poll::Pending;
        }
        self.take_answer(seq).map_or(Poll::Pending, Poll::Ready)
    }

    /// Ends the session, and gives every request without an answer this one. Returns false if it had ended
    /// before.
    pub(super) fn end(&mut self, why: &str, answer: &CallError) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.ended = Some(why.to_owned());
        self.outgoing = Vec::new();
        self.sent = 0;
        for request in self.in_flight.values_mut() {
            if request.answer.is_none() {
                request.answer = Some(Err(answer.clone()));
                self.news.answered.extend(request.waker.take());
            }
        }
        self.news.has_changed = true;
        true
    }

    /// Returns whether actions follow once the lock is free.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        let News {
            answered,
            has_changed,
            replaced,
        } = &self.news;
        *has_changed || !answered.is_empty() || !replaced.is_empty()
    }

    /// Takes the actions that follow once the lock is free.
    pub(super) fn take_news(&mut self) -> News {
        mem::take(&mut self.news)
    }

    pub(super) fn object(&self, kind: &str, name: &str) -> Option<Arc<Object>> {
        let key = (kind.to_owned(), name.to_owned());
        self.objects.get(&key).map(Arc::clone)
    }

    /// Stores an object that was opened, unless it was removed meanwhile.
    pub(super) fn keep_object(&mut self, kind: &str, object: &Arc<Object>) {
        if !self.gone.contains(&object.number) {
            let key = (kind.to_owned(), object.name.clone());
            self.names.insert(object.number, key.clone());
            self.objects.insert(key, Arc::clone(object));
        }
    }

    /// Returns whether the manager has reported that an object was removed.
    pub(super) fn is_gone(&self, object: u32) -> bool {
        self.gone.contains(&object)
    }

    /// Returns whether a grant of this session is void.
    pub(super) fn is_revoked(&self, seq: u64) -> bool {
        self.revoked.contains(&seq)
    }

    /// Forgets that a grant is void, because its guard is dropped.
    pub(super) fn forget_revoked(&mut self, seq: u64) {
        if !self.revoked.is_empty() {
            self.revoked.remove(&seq);
        }
    }
}

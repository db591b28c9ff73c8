//! What a connection is about: what waits to be written, who waits for an answer, what is open.
//!
//! Invariant: it is whole whenever it is unlocked, and knows no socket and no runtime.

use std::{
    collections::{HashMap, HashSet},
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker, ready},
};

use lockkeeper_protocol::{
    Fault,
    codec::Payload,
    frame::{Inbox, Response},
};
use rustc_hash::FxHashMap;

use crate::error::CallError;

/// Locks against the other threads of this process. What runs inside leaves whole states behind, so
/// a poisoned lock is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a connection is about at the moment.
#[derive(Default)]
pub(super) struct State {
    pub(super) outgoing: Vec<u8>,
    /// How many of the outgoing bytes are written.
    pub(super) sent: usize,
    /// Whether the background writes them.
    pub(super) is_flushing: bool,
    /// Whether they wait for the driver to write them together.
    pub(super) is_gathering: bool,
    /// How often they were gathered.
    pub(super) gathered: u64,
    /// Whether the background looks after those.
    pub(super) is_watched: bool,
    pub(super) last_seq: u64,
    /// By their numbers, which are ours: nobody makes them collide.
    pub(super) in_flight: FxHashMap<u64, InFlight>,
    /// The objects that are open, by kind and name.
    pub(super) objects: HashMap<(String, String), Arc<Object>>,
    /// The kinds and names of those, by their numbers.
    pub(super) names: HashMap<u32, (String, String)>,
    /// Grants that are void although their guards have not released them.
    pub(super) revoked: HashSet<u64>,
    /// Objects that are no more.
    pub(super) gone: HashSet<u32>,
    /// How the connection ended.
    pub(super) ended: Option<String>,
}

/// An object that the manager has opened for this session.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) number: u32,
    pub(crate) name: String,
    operations: Vec<String>,
}

impl Object {
    /// The number of the operation of that name.
    pub(crate) fn operation(&self, name: &str) -> Result<u32, CallError> {
        let place = self
            .operations
            .iter()
            .position(|operation| operation == name);
        place
            .and_then(|place| u32::try_from(place).ok())
            .ok_or_else(|| Fault::UnknownOperation(name.to_owned()).into())
    }
}

/// A request whose caller has not had its answer.
#[derive(Default)]
pub(super) struct InFlight {
    answer: Option<Answer>,
    /// Who waits, unless it is about to look for itself.
    waker: Option<Waker>,
}

/// What becomes of a request.
pub(super) type Answer = Result<Success, CallError>;

#[derive(Debug)]
pub(super) enum Success {
    Reply(Payload),
    Opened(Arc<Object>),
}

/// What is said of an answer that is none to what was asked.
pub(super) fn wrong_answer() -> CallError {
    CallError::Protocol("an answer of another kind than the call".to_owned())
}

/// An outgoing buffer above this capacity is given back once it is empty.
const KEPT_BYTES: usize = 1 << 16;

/// What is to be told once the state is unlocked.
#[derive(Default)]
pub(super) struct News {
    /// Those who have answers now.
    pub(super) answered: Vec<Waker>,
    /// Whether grants were revoked or objects are gone.
    pub(super) has_changed: bool,
}

impl State {
    /// Takes all whole frames in. What ends the connection is an error.
    pub(super) fn take_in(&mut self, inbox: &mut Inbox, news: &mut News) -> Result<(), String> {
        while let Some(frame) = inbox.next_message().map_err(|error| error.to_string())? {
            let response =
                Response::decode(&frame).map_err(|error| format!("bad frame: {error}"))?;
            let (seq, answer) = match response {
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
                    self.revoked.insert(seq);
                    continue;
                }
                Response::Gone { object } => {
                    news.has_changed = true;
                    self.gone.insert(object);
                    if let Some(key) = self.names.remove(&object) {
                        self.objects.remove(&key);
                    }
                    continue;
                }
                Response::Bye { reason } => return Err(reason),
                Response::Welcome { .. } => return Err("a second welcome".to_owned()),
            };
            // The caller may have gone; its call is withdrawn, and this answer is nobody's.
            if let Some(request) = self.in_flight.get_mut(&seq)
                && request.answer.is_none()
            {
                request.answer = Some(answer);
                news.answered.extend(request.waker.take());
            }
        }
        Ok(())
    }

    /// Takes the answer to a request, or has `waker` told when it is there. Without one nobody is.
    pub(super) fn take_answer(&mut self, seq: u64, waker: Option<&Waker>) -> Option<Answer> {
        let Some(request) = self.in_flight.get_mut(&seq) else {
            return Some(Err(CallError::Protocol(
                "the call was forgotten".to_owned(),
            )));
        };
        let answer = request.answer.take();
        if answer.is_some() {
            self.in_flight.remove(&seq);
        } else {
            request.waker = waker.cloned();
        }
        answer
    }

    /// Gives all who have no answer this one, and tells whom to wake.
    pub(super) fn answer_all(&mut self, answer: &CallError) -> Vec<Waker> {
        let open = self.in_flight.values_mut();
        let open = open.filter(|request| request.answer.is_none());
        open.filter_map(|request| {
            request.answer = Some(Err(answer.clone()));
            request.waker.take()
        })
        .collect()
    }

    /// How many bytes wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Writes what waits, as far as it is taken.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .outgoing
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            self.sent += ready!(write(rest))?;
            if self.sent > self.outgoing.len() / 4 * 3 {
                // The buffer may never run empty; what is large is not moved often.
                self.outgoing.drain(..mem::take(&mut self.sent));
            }
        }
        // As much room as it took now is kept, and not what it once took.
        let kept = (2 * self.outgoing.len()).clamp(KEPT_BYTES, 2 * KEPT_BYTES);
        self.sent = 0;
        self.outgoing.clear();
        self.outgoing.shrink_to(kept);
        Poll::Ready(Ok(()))
    }
}

//! `Endings`: hangs up sessions at all objects that they have opened, in slices.
//!
//! A session may have opened millions of objects. The task sends a message to each, a slice of them at a
//! time, and the tasks of the shard run between two slices. An object that another session addresses
//! meanwhile hangs up first by itself ([`Endings::of`]). All calls that are sent after the end of a session
//! therefore see its holds released, even if their objects have not received the message.
//!
//! Invariant: a session with objects that were not told is in `ended`, until a turn after the last of them
//! was told.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, future,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use lockkeeper_protocol::{Peer, SessionId};
use rustc_hash::FxHashMap;

use crate::host::{
    input::{Input, Inputs, Mailbox},
    openers::Openers,
};

/// The number of objects that one turn notifies. Their own turns follow before the next slice.
const SLICE: usize = 512;

/// The sessions that are being hung up. Clones share the list.
#[derive(Clone, Default)]
pub(crate) struct Endings(Rc<Shared>);

#[derive(Default)]
struct Shared {
    ended: RefCell<FxHashMap<SessionId, Ended>>,
    /// The sessions whose objects are not all told, served in turn.
    rest: RefCell<VecDeque<Rest>>,
    /// The waker of the task that notifies the objects.
    waker: RefCell<Option<Waker>>,
}

/// A session that has ended.
struct Ended {
    /// The time of the end: all messages of the session were sent before it, and all later messages at it or
    /// after.
    at: Duration,
    peer: Arc<Peer>,
}

/// The objects of a session that are not told yet.
struct Rest {
    session: SessionId,
    peer: Arc<Peer>,
    mailboxes: Box<dyn Iterator<Item = Mailbox>>,
}

impl Rest {
    /// Tells the objects of one slice, and returns their number.
    fn send_slice(&mut self, now: Duration) -> usize {
        let slice = self.mailboxes.by_ref().take(SLICE);
        let told = slice.map(|mailbox| {
            let hang_up = Input::HangUp(self.session, Arc::clone(&self.peer));
            mailbox.do_send(Inputs::one(now, hang_up));
        });
        told.count()
    }
}

impl Endings {
    /// Tells objects that their session has ended: a slice of them at once, and the others in later turns.
    pub(crate) fn begin(
        &self,
        session: SessionId,
        peer: Arc<Peer>,
        mailboxes: Box<dyn Iterator<Item = Mailbox>>,
        at: Duration,
    ) {
        let mut rest = Rest {
            session,
            peer,
            mailboxes,
        };
        if rest.send_slice(at) < SLICE {
            return;
        }
        let peer = Arc::clone(&rest.peer);
        let ended = Ended { at, peer };
        self.0.ended.borrow_mut().insert(session, ended);
        self.0.rest.borrow_mut().push_back(rest);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    /// Tells the objects of ended sessions for ever, one slice per turn. `now` returns the current time.
    pub(crate) async fn run(self, now: impl Fn() -> Duration) {
        future::poll_fn(|task| {
            let next = self.0.rest.borrow_mut().pop_front();
            let Some(mut rest) = next else {
                self.0.waker.replace(Some(task.waker().clone()));
                return Poll::Pending;
            };
            if rest.send_slice(now()) > 0 {
                // Sessions take turns, so that one with few objects does not wait for one with many.
                self.0.rest.borrow_mut().push_back(rest);
            } else {
                self.0.ended.borrow_mut().remove(&rest.session);
            }
            task.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Returns whether no session has objects left to tell.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.ended.borrow().is_empty()
    }

    /// Returns whether a session has objects left to tell.
    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.0.ended.borrow().contains_key(&session)
    }

    /// The sessions that had opened the object and had ended when a message was sent to it.
    #[cold]
    pub(super) fn of(&self, openers: &Openers, sent: Duration) -> Vec<(SessionId, Arc<Peer>)> {
        let ended = self.0.ended.borrow();
        let before = |session: SessionId, ended: &Ended| {
            (ended.at <= sent).then(|| (session, Arc::clone(&ended.peer)))
        };
        // Each message runs this, so it iterates over the smaller of the two sets.
        if openers.len() <= ended.len() {
            let openers = openers.iter();
            let found = openers.filter_map(|(session, _)| before(session, ended.get(&session)?));
            return found.collect();
        }
        let opened = ended.iter().filter(|(session, _)| openers.has(**session));
        let found = opened.filter_map(|(session, ended)| before(*session, ended));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|(session, _)| *session);
        found
    }
}

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endings")
            .field(&self.0.ended.borrow().len())
            .finish()
    }
}

//! `Leased`: the sessions of a shard that have a lease, so that a later session of the same client ends an earlier
//! one.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::{self, Waker},
};

use lockkeeper_protocol::{ManagerSecret, SessionId, frame::FormerSession};
use tokio::sync::Notify;

/// The sessions of a shard that have a lease.
#[derive(Default)]
pub(crate) struct Leased {
    sessions: RefCell<HashMap<SessionId, Rc<Replacement>>>,
    /// Whether a session was dropped before its end, so that its client may still believe in its holds.
    was_cut_short: Cell<bool>,
}

/// How a later session of the same client ends a session.
#[derive(Default)]
struct Replacement {
    is_requested: Cell<bool>,
    session: Cell<Option<Waker>>,
    /// Notified once the session has ended.
    ended: Notify,
}

impl Leased {
    /// Lists a session until the returned entry is dropped.
    pub(super) fn enter(self: &Rc<Self>, id: SessionId) -> Entry {
        let replacement = Rc::new(Replacement::default());
        let listed = Rc::clone(&replacement);
        self.sessions.borrow_mut().insert(id, listed);
        Entry {
            leased: Rc::clone(self),
            id,
            replacement,
            believes: false,
        }
    }

    /// Ends a former session, if it exists and the secret is its own, and waits for its end.
    pub(super) async fn end(&self, former: FormerSession, secret: &ManagerSecret) {
        let id = SessionId::new(former.number);
        if !secret.of_session(id).is(&former.secret) {
            return;
        }
        let Some(replacement) = self.sessions.borrow().get(&id).map(Rc::clone) else {
            return;
        };
        replacement.is_requested.set(true);
        let ended = replacement.ended.notified();
        if let Some(session) = replacement.session.take() {
            session.wake();
        }
        ended.await;
    }

    /// Returns whether clients may still believe that they hold something, although all sessions are gone.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.was_cut_short.get()
    }
}

/// The entry of a session in the list of those that have a lease.
pub(super) struct Entry {
    leased: Rc<Leased>,
    id: SessionId,
    replacement: Rc<Replacement>,
    /// Whether the client may believe that it holds something.
    believes: bool,
}

impl Entry {
    /// Returns whether a later session replaces this one. Otherwise the task is woken once one does.
    pub(super) fn is_replaced(&self, task: &task::Context<'_>) -> bool {
        self.replacement.session.set(Some(task.waker().clone()));
        self.replacement.is_requested.get()
    }

    /// Notes whether the client may believe that it holds something.
    pub(super) const fn note(&mut self, believes: bool) {
        self.believes = believes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.believes {
            self.leased.was_cut_short.set(true);
        }
        self.leased.sessions.borrow_mut().remove(&self.id);
        self.replacement.ended.notify_waiters();
    }
}

//! `Leased`: the sessions of a shard that have a lease, and what ends them from outside: a later session of the same
//! client, or the end of the manager.

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
    sessions: RefCell<HashMap<SessionId, Rc<Requested>>>,
    /// Whether a session has ended without its client knowing of it.
    has_unaware: Cell<bool>,
    /// Notified when a session has ended.
    ended: Notify,
}

/// Who wants a session to end.
#[derive(Clone, Copy)]
pub(super) enum By {
    Successor,
    Manager,
}

/// The request that a session end.
#[derive(Default)]
struct Requested {
    by: Cell<Option<By>>,
    session: Cell<Option<Waker>>,
}

impl Requested {
    fn request(&self, by: By) {
        self.by.set(Some(by));
        if let Some(session) = self.session.take() {
            session.wake();
        }
    }
}

impl Leased {
    /// Lists a session until the returned entry is dropped.
    pub(super) fn enter(self: &Rc<Self>, id: SessionId) -> Entry {
        let requested = Rc::new(Requested::default());
        let listed = Rc::clone(&requested);
        self.sessions.borrow_mut().insert(id, listed);
        Entry {
            leased: Rc::clone(self),
            id,
            requested,
            is_unaware: false,
        }
    }

    /// Ends a former session, if it exists and the secret is its own, and waits for its end.
    pub(super) async fn end(&self, former: FormerSession, secret: &ManagerSecret) {
        let id = SessionId::new(former.number);
        if !secret.of_session(id).is(&former.secret) {
            return;
        }
        if let Some(former) = self.sessions.borrow().get(&id) {
            former.request(By::Successor);
        }
        self.until(|sessions| !sessions.contains_key(&id)).await;
    }

    /// Ends all sessions with the manager, and waits until each client has confirmed the end or its session has
    /// given up.
    pub(crate) async fn end_all(&self) {
        for session in self.sessions.borrow().values() {
            session.request(By::Manager);
        }
        self.until(HashMap::is_empty).await;
    }

    async fn until(&self, is_reached: impl Fn(&HashMap<SessionId, Rc<Requested>>) -> bool) {
        loop {
            let ended = self.ended.notified();
            if is_reached(&self.sessions.borrow()) {
                return;
            }
            ended.await;
        }
    }

    /// Returns whether a session has ended without its client knowing of it.
    pub(crate) fn has_unaware(&self) -> bool {
        self.has_unaware.get()
    }
}

/// The entry of a session in the list of those that have a lease.
pub(super) struct Entry {
    leased: Rc<Leased>,
    id: SessionId,
    requested: Rc<Requested>,
    /// Whether the client would not know of an end of the session at this moment.
    is_unaware: bool,
}

impl Entry {
    /// Returns who requested the end of the session. Otherwise the task is woken once one is.
    pub(super) fn requested(&self, task: &task::Context<'_>) -> Option<By> {
        self.requested.session.set(Some(task.waker().clone()));
        self.requested.by.get()
    }

    /// Notes whether the client would not know of an end of the session.
    pub(super) const fn note(&mut self, is_unaware: bool) {
        self.is_unaware = is_unaware;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_unaware {
            self.leased.has_unaware.set(true);
        }
        self.leased.sessions.borrow_mut().remove(&self.id);
        self.leased.ended.notify_waiters();
    }
}

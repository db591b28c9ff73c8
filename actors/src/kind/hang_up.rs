//! `HangUp`: the end of a session as primitives see it, and the mark for what the session still held.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::Duration,
};

use lockkeeper_protocol::{Abandoned, CallId, Fence, Peer, SessionId};

/// What a primitive learns of a session that ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HangUp {
    /// The session.
    pub session: SessionId,
    /// Who it was.
    pub peer: Arc<Peer>,
    /// When, counted from the manager's start.
    pub at: Duration,
    left: RefCell<Left>,
    /// Whether the object has to hang up once more.
    goes_on: Cell<bool>,
}

/// How many holds or waiting calls of a session a built-in kind gives back in one turn.
pub(crate) const SLICE: usize = 1024;

/// What a session left of which others are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    /// For how long it held what it left, and under which fence.
    pub(crate) marks: Vec<(Duration, Fence)>,
    /// How many jobs are begun anew.
    pub(crate) retried: u64,
}

impl HangUp {
    pub(crate) const fn new(session: SessionId, peer: Arc<Peer>, at: Duration) -> Self {
        let marks = Vec::new();
        Self {
            session,
            peer,
            at,
            left: RefCell::new(Left { marks, retried: 0 }),
            goes_on: Cell::new(false),
        }
    }

    /// Has [`Primitive::hang_up`] called with this session once more, in a turn of its own, before the object gets
    /// any other input. A kind that keeps millions of entries for a session gives back some thousand of them
    /// in each turn, so that the manager's other objects serve their calls meanwhile.
    ///
    /// [`Primitive::hang_up`]: crate::Primitive::hang_up
    pub fn go_on(&self) {
        self.goes_on.set(true);
    }

    /// Whether the object has to hang up once more.
    pub(crate) const fn goes_on(&self) -> bool {
        self.goes_on.get()
    }

    /// Some of the session's calls among those that are kept, in order. If there are others, the object has to hang
    /// up once more.
    pub(crate) fn some_of<T>(&self, kept: &BTreeMap<CallId, T>) -> Vec<CallId> {
        let (least, greatest) = CallId::span(self.session);
        let mut theirs = kept.range(least..=greatest).map(|(id, _)| *id);
        let some = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            self.go_on();
        }
        some
    }

    /// Whether the object has to hang up once more, which it is about to do.
    pub(crate) fn take_goes_on(&self) -> bool {
        self.goes_on.take()
    }

    /// Marks something that the session held, since then and under that fence, as abandoned: for the
    /// grants that come after it, and for those who watch over the manager.
    #[must_use]
    pub fn abandon(&self, since: Duration, fence: Fence) -> Abandoned {
        self.note_abandoned(since, fence);
        self.mark(since, fence)
    }

    /// The same for those who watch over the manager alone: the kind makes the mark when it is read.
    pub(crate) fn note_abandoned(&self, since: Duration, fence: Fence) {
        let held = self.held(since);
        self.left.borrow_mut().marks.push((held, fence));
    }

    /// The mark of what the session held, since then and under that fence, which was noted.
    pub(crate) fn mark(&self, since: Duration, fence: Fence) -> Abandoned {
        Abandoned::new((*self.peer).clone(), self.held(since), fence)
    }

    fn held(&self, since: Duration) -> Duration {
        self.at.saturating_sub(since)
    }

    /// Takes note of a job that the session had begun, and that is begun anew.
    pub(crate) fn retry(&self) {
        self.left.borrow_mut().retried += 1;
    }

    /// Takes what was left in this turn.
    pub(crate) fn take_left(&self) -> Left {
        mem::take(&mut self.left.borrow_mut())
    }
}

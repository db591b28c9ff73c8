//! `HangUp`: the end of a session as primitives see it, and the mark for what the session still held.

use std::{
    cell::{Ref, RefCell},
    sync::Arc,
    time::Duration,
};

use lockkeeper_protocol::{Abandoned, Fence, Peer, SessionId};

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
}

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
        }
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

    pub(crate) fn left(&self) -> Ref<'_, Left> {
        self.left.borrow()
    }
}

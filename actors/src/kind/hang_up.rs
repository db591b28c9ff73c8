//! `HangUp`: the end of a session as primitives see it, and the mark for what the session still held.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::Duration,
};

use lockkeeper_protocol::{Abandoned, BreakReason, CallId, Fence, Peer, SessionId};

/// The end of a session, as a primitive receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HangUp {
    /// The session.
    pub session: SessionId,
    /// The process of the session.
    pub peer: Arc<Peer>,
    /// The time of the end, since the manager's start.
    pub at: Duration,
    left: RefCell<Left>,
    /// Whether the object has to continue the hang-up.
    goes_on: Cell<bool>,
}

/// The most holds or waiting calls of a session that a built-in kind releases in one turn.
pub(crate) const SLICE: usize = 1024;

/// Drops a slice of the entries of a map, if there are more. Returns whether there were.
pub(crate) fn drop_some_of<K: Ord, V>(map: &mut BTreeMap<K, V>) -> bool {
    let has_more = map.len() > SLICE;
    if has_more {
        for _ in 0..SLICE {
            drop(map.pop_last());
        }
    }
    has_more
}

/// What a session left in a turn, for the record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    /// For each hold that the session left, how long it was held, and its fence.
    pub(crate) marks: Vec<(Duration, Fence)>,
    /// The number of jobs that are run again.
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

    /// Requests another call of [`Primitive::hang_up`] for this session, in a turn of its own, before the
    /// object gets any other input. A kind that stores millions of entries for a session releases some
    /// thousands of them in each turn, so that the manager's other objects can serve their calls meanwhile.
    ///
    /// [`Primitive::hang_up`]: crate::Primitive::hang_up
    pub fn continue_next_turn(&self) {
        self.goes_on.set(true);
    }

    /// Returns whether the object has to continue the hang-up.
    pub(crate) const fn goes_on(&self) -> bool {
        self.goes_on.get()
    }

    /// Some of the session's stored calls, in order. If there are others, requests another turn.
    pub(crate) fn some_of<T>(&self, kept: &BTreeMap<CallId, T>) -> Vec<CallId> {
        let (least, greatest) = CallId::span(self.session);
        let mut theirs = kept.range(least..=greatest).map(|(id, _)| *id);
        let some = theirs.by_ref().take(SLICE).collect();
        if theirs.next().is_some() {
            self.continue_next_turn();
        }
        some
    }

    /// Returns whether the object has to continue the hang-up, and resets the request.
    pub(crate) fn take_goes_on(&self) -> bool {
        self.goes_on.take()
    }

    /// Marks something that the session held as abandoned, with the start and the fence of the hold. The mark
    /// goes to later grants and into the record.
    #[must_use]
    pub fn abandon(&self, since: Duration, fence: Fence) -> Abandoned {
        self.note_abandoned(since, fence);
        self.mark(since, fence)
    }

    /// Records an abandoned hold without a mark: the kind creates the mark when it is read.
    pub(crate) fn note_abandoned(&self, since: Duration, fence: Fence) {
        let held = self.held(since);
        self.left.borrow_mut().marks.push((held, fence));
    }

    /// Creates the mark of a hold that was recorded as abandoned.
    pub(crate) fn mark(&self, since: Duration, fence: Fence) -> Abandoned {
        Abandoned::new(Arc::clone(&self.peer), self.held(since), fence)
    }

    /// The reason why a barrier breaks at which the session waited.
    pub(crate) fn reason(&self) -> BreakReason {
        BreakReason::Died(Arc::clone(&self.peer))
    }

    fn held(&self, since: Duration) -> Duration {
        self.at.saturating_sub(since)
    }

    /// Records that a job of the session is run again.
    pub(crate) fn retry(&self) {
        self.left.borrow_mut().retried += 1;
    }

    /// Takes the record of this turn.
    pub(crate) fn take_left(&self) -> Left {
        mem::take(&mut self.left.borrow_mut())
    }
}

//! `DroppedCalls`: the fault of a call that a primitive drops without an answer.

use lockkeeper_protocol::{CallId, Fault, is_unwinding};

/// What the drop of a call means in the current turn.
#[derive(Debug, Default)]
pub(super) struct DroppedCalls {
    /// The call that this turn removes, and the fault that its drop answers with.
    undoing: Option<(CallId, Fault)>,
    /// The kind, if it has to answer the calls that it drops.
    answering: Option<&'static str>,
}

impl DroppedCalls {
    /// Begins a turn, which may remove a call.
    #[inline]
    pub(super) fn begin(&mut self, undoing: Option<(CallId, Fault)>) {
        self.answering = None;
        // The assignment drops the previous fault, and few turns remove a call.
        if self.undoing.is_some() || undoing.is_some() {
            self.undoing = undoing;
        }
    }

    /// Sets the kind that has to answer its calls, or none because the object ends.
    #[inline]
    pub(super) const fn expect_answers(&mut self, kind: Option<&'static str>) {
        self.answering = kind;
    }

    /// Ends the turns whose answers are delivered.
    pub(super) fn end(&mut self) {
        if self.undoing.is_some() {
            self.undoing = None;
        }
    }

    /// Returns the fault of a call that is dropped now.
    pub(super) fn fault(&self, id: CallId) -> Fault {
        match (&self.undoing, self.answering) {
            (Some((undone, fault)), _) if *undone == id => fault.clone(),
            // A panic ends the object.
            (_, Some(kind)) if !is_unwinding() => Fault::Unanswered(kind.to_owned()),
            (_, Some(_) | None) => Fault::Gone,
        }
    }
}

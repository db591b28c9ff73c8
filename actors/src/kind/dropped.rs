//! `DroppedCalls`: the fault of a call that a primitive drops without an answer.

use lockkeeper_protocol::{CallId, Fault};

use crate::kind::answer::Parcel;

/// What the drop of a call means in the current turn.
#[derive(Debug, Default)]
pub(super) struct DroppedCalls {
    /// The call that this turn removes, and the fault that its drop answers with.
    undoing: Option<(CallId, Fault)>,
    /// The name of the kind while it handles a turn in which the drop of a call without an answer is an error
    /// of the kind. `None` while the object ends or a session hangs up.
    answering: Option<&'static str>,
}

impl DroppedCalls {
    /// Begins a turn, which may remove a call. `answering` is the kind if it must not drop any other call.
    #[inline]
    pub(super) fn begin(
        &mut self,
        answering: Option<&'static str>,
        undoing: Option<(CallId, Fault)>,
    ) {
        self.answering = answering;
        // The assignment drops the previous fault, and few turns remove a call.
        if self.undoing.is_some() || undoing.is_some() {
            self.undoing = undoing;
        }
    }

    /// Ends the turns whose answers are delivered.
    pub(super) fn end(&mut self) {
        if self.undoing.is_some() {
            self.undoing = None;
        }
    }

    /// Ends the object: all calls that it drops in this turn are gone. A panic may have dropped some already.
    pub(super) fn end_object(&mut self, answers: &mut [(CallId, Parcel)]) {
        self.answering = None;
        for (_, answer) in answers {
            if matches!(answer, Parcel::Fault(Fault::Unanswered(_))) {
                *answer = Parcel::Fault(Fault::Gone);
            }
        }
    }

    /// Returns the fault of a call that is dropped now.
    pub(super) fn fault(&self, id: CallId) -> Fault {
        match (&self.undoing, self.answering) {
            (Some((undone, fault)), _) if *undone == id => fault.clone(),
            (_, Some(kind)) => Fault::Unanswered(kind.to_owned()),
            (_, None) => Fault::Gone,
        }
    }
}

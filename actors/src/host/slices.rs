//! The inputs that a host handles in slices, because they concern millions of entries: the end of a session, and the
//! removal of the object.
//!
//! Invariant: the host handles no other input before the last slice.

use std::time::Duration;

use lockkeeper_protocol::caught;

use crate::{
    host::{
        freed::Freed,
        host::Host,
        input::Inputs,
        unfinished::{Sliced, Unfinished},
    },
    kind::{hang_up::HangUp, primitive::Primitive},
};

impl<P: Primitive> Host<P> {
    /// Returns whether an input is handled in part.
    pub(crate) const fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Continues an input by one slice. Returns the rest of the message that it came with, once it is handled.
    pub(crate) fn handle_slice(&mut self) -> Option<Inputs> {
        let Unfinished { input, rest } = *self.unfinished.take()?;
        self.measured(None, |host| match input {
            Sliced::HangUp(ended) => host.hang_up(ended),
            Sliced::Remove(at) => host.remove(at),
        });
        let Some(unfinished) = &mut self.unfinished else {
            return rest;
        };
        unfinished.rest = rest;
        None
    }

    fn continue_next_turn(&mut self, input: Sliced) {
        self.unfinished = Some(Box::new(Unfinished { input, rest: None }));
    }

    /// Releases the holds of an ended session, or a slice of them.
    pub(super) fn hang_up(&mut self, ended: HangUp) {
        // All slices use the time of the end, because no later input is handled before them.
        self.begin(ended.at, None);
        self.run(|primitive| primitive.hang_up(&ended));
        self.watch.hung_up(&ended);
        let goes_on = ended.take_goes_on() && self.primitive.is_some();
        let freed = if goes_on { Freed::Slice } else { Freed::End };
        self.shell.freed().count(freed);
        if goes_on {
            self.continue_next_turn(Sliced::HangUp(ended));
        }
    }

    /// Drops the entries of a removed object, or a slice of them, and then the object.
    pub(super) fn remove(&mut self, at: Duration) {
        self.begin(at, None);
        self.shell.outbox().note_end_of_object();
        let primitive = self.primitive.as_mut();
        // A panic in a destructor is ignored, as that of the whole object is.
        let has_others =
            primitive.is_some_and(|primitive| caught(|| primitive.drop_some()).unwrap_or(false));
        if has_others {
            self.shell.freed().count(Freed::Slice);
            self.continue_next_turn(Sliced::Remove(at));
        } else {
            self.end();
        }
    }
}

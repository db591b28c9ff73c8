//! `Unfinished`: an input of a host of which some slices are handled.

use std::time::Duration;

use crate::{host::input::Inputs, kind::hang_up::HangUp};

/// An input that is handled in slices.
pub(super) struct Unfinished {
    pub(super) input: Sliced,
    /// The rest of the message that began it.
    pub(super) rest: Option<Inputs>,
}

/// The inputs that may take more than one turn.
pub(super) enum Sliced {
    HangUp(HangUp),
    /// The removal of the object, at that time.
    Remove(Duration),
}

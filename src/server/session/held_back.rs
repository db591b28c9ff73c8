//! `HeldBack`: inputs of a session that wait until its client has read more.
//!
//! Invariant: they stay in the order in which their hosts came to them.

use std::{cell::RefCell, collections::VecDeque};

use lockkeeper_actors::{Inputs, Mailbox};

/// Inputs whose hosts found the session full, each with the number of its object.
#[derive(Default)]
pub(super) struct HeldBack(RefCell<VecDeque<(u64, Mailbox, Inputs)>>);

impl HeldBack {
    /// Keeps inputs for an object.
    pub(super) fn keep(&self, object: u64, mailbox: Mailbox, inputs: Inputs) {
        self.0.borrow_mut().push_back((object, mailbox, inputs));
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether there are some for an object.
    pub(super) fn has(&self, object: u64) -> bool {
        self.0.borrow().iter().any(|(held, ..)| *held == object)
    }

    /// Takes all of them, in order.
    pub(super) fn take(&self) -> VecDeque<(u64, Mailbox, Inputs)> {
        self.0.take()
    }
}

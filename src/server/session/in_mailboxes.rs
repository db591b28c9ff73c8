//! `InMailboxes`: the bytes of messages that sessions of a shard have read and that may not have reached their objects.
//!
//! Messages reach their objects in the turn after the one that sends them, unless an object is busy for several turns,
//! or gets messages of hundreds of sessions at once. Nothing else bounds the messages in mailboxes: one-way calls and
//! withdrawals have no answer.

use std::{cell::Cell, rc::Rc};

/// The bytes of all sessions of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllInMailboxes(Rc<Cell<usize>>);

impl AllInMailboxes {
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.0.get()
    }

    /// Begins the count of one session.
    pub(super) fn part(&self) -> InMailboxes {
        InMailboxes {
            all: self.clone(),
            bytes: Cell::new(0),
        }
    }
}

/// A part of these bytes. Its drop gives them back.
#[derive(Debug)]
pub(super) struct InMailboxes {
    all: AllInMailboxes,
    bytes: Cell<usize>,
}

impl InMailboxes {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Begins another count of the same session.
    pub(super) fn part(&self) -> Self {
        self.all.part()
    }

    #[inline]
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.all.0.set(self.all.0.get() + bytes);
    }

    /// Gives the bytes back.
    #[inline]
    pub(super) fn clear(&self) {
        let bytes = self.bytes.take();
        self.all.0.set(self.all.0.get() - bytes);
    }

    /// Takes all bytes of another part.
    pub(super) fn take(&self, other: &Self) {
        self.bytes.set(self.bytes.get() + other.bytes.take());
    }
}

impl Drop for InMailboxes {
    fn drop(&mut self) {
        self.clear();
    }
}

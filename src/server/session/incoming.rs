//! `Incoming`: the bytes of a message that has arrived in part.
//!
//! A large message is counted as stored data while it comes in, and refused if the manager has no room. A
//! smaller one is never refused, because a release or the report of a task must not be lost: the session
//! reserves room for all of it before it reads more than a few bytes, and waits for room in the order of the
//! manager's budget.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as Task, Poll},
};

use lockkeeper_actors::{Share, Shell, StoredBytes};
use lockkeeper_protocol::{
    Fault,
    frame::{Inbox, Misread},
};
use tokio::time::{self, Sleep};

use crate::{
    limits::Limits,
    server::session::{
        buffer_budget::{BufferAccount, Waiting},
        context::End,
        held_back::Complete,
        sizes::{CHUNK_BYTES, LARGE_BYTES, OWN_INCOMING_BYTES},
    },
};

/// The bytes that a session counts for an incoming message.
pub(super) struct Incoming {
    /// Counts a large message.
    stored: Option<StoredBytes>,
    /// Counts any other message.
    reserved: BufferAccount,

    /// The time that is left for the rest of a message for which room is reserved.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) const fn new(reserved: BufferAccount) -> Self {
        Self {
            stored: None,
            reserved,
            timer: None,
        }
    }

    /// Ends the wait for room. If a message that is counted is complete, returns what it counts until it has reached its
    /// object, and its content counts where it is stored.
    pub(super) fn end(&mut self, inbox: &Inbox) -> Option<Complete> {
        self.leave();
        if inbox.missing() > 0 || !self.is_counted() {
            return None;
        }
        self.timer = None;
        Some(Complete {
            stored: self.stored.take(),
            reserved: self.reserved.counted(),
        })
    }

    /// Returns whether a message is counted.
    #[inline]
    pub(super) fn is_counted(&self) -> bool {
        self.stored.is_some() || self.reserved.counted() > 0
    }

    /// Stops counting a message that was complete and has reached its object.
    pub(super) fn has_come(&self, Complete { reserved, .. }: Complete) {
        self.reserved.set(self.reserved.counted() - reserved);
    }

    /// Ends the wait for room. A session that does not poll [`Self::poll_room`] for a while has to leave the
    /// queue, because it would block the sessions behind it.
    pub(super) fn leave(&self) {
        self.reserved.leave();
    }

    /// Returns the most bytes to read now. If the message needs room and there is none, the session waits, and
    /// then reads nothing.
    pub(super) fn poll_room(&self, inbox: &Inbox, task: &Task<'_>) -> Poll<usize> {
        if self.reserved.counted() > 0 || self.reserved.is_uncontended() {
            return Poll::Ready(CHUNK_BYTES);
        }
        // Short messages need neither room nor the lock of the budget.
        let begun = inbox.begun();
        let own = OWN_INCOMING_BYTES.saturating_sub(begun);
        if own > 0 {
            return Poll::Ready(own);
        }
        let is_large = begun.saturating_add(inbox.missing()) > LARGE_BYTES;
        if is_large || self.reserved.wait(Waiting::Queued, task.waker()) {
            return Poll::Ready(CHUNK_BYTES);
        }
        Poll::Pending
    }

    /// Counts a message that is incomplete, besides `complete` reserved bytes of the one before it. If there is no room for a large one, the inbox drops it, and the
    /// session has to tell the client.
    ///
    /// # Errors
    ///
    /// Returns the message and the reason if it is refused.
    pub(super) fn count(
        &mut self,
        inbox: &mut Inbox,
        complete: usize,
        shell: &Shell,
    ) -> Result<(), (Misread, Fault)> {
        let begun = inbox.begun();
        if begun <= OWN_INCOMING_BYTES {
            return Ok(());
        }
        let whole = begun.saturating_add(inbox.missing());
        if whole <= LARGE_BYTES {
            self.reserved.set(complete + whole - OWN_INCOMING_BYTES);
            self.leave();
            return Ok(());
        }
        let counted = match &mut self.stored {
            Some(stored) => stored.resize_in(Share::Session, begun),
            None => shell
                .outbox()
                .store_in(Share::Session, begun)
                .map(|stored| self.stored = Some(stored)),
        };
        counted.map_err(|fault| {
            self.stored = None;
            (Misread::of(&inbox.skip()), fault)
        })
    }

    /// Checks the time while the rest of a message does not come.
    ///
    /// # Errors
    ///
    /// Returns the end of a client that keeps other clients waiting for the room of a message that it does not
    /// complete.
    #[inline]
    pub(super) fn check(&mut self, limits: Limits, task: &mut Task<'_>) -> Result<(), End> {
        if self.reserved.counted() == 0 {
            return Ok(());
        }
        self.check_time(limits, task)
    }

    fn check_time(&mut self, limits: Limits, task: &mut Task<'_>) -> Result<(), End> {
        let time = limits.unread_time;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(time::sleep(time)));
        while timer.as_mut().poll(task).is_ready() {
            if self.reserved.keeps_others_waiting() {
                return Err(End::Offence(format!(
                    "a message of it has been incomplete for {time:?}, while other clients wait to send theirs"
                )));
            }
            timer.set(time::sleep(time));
        }
        Ok(())
    }
}

//! `Stall`: measures whether a client that has many unread answers reads them.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use lockkeeper_actors::ReplySink;
use tokio::time::{self, Sleep};

use crate::{
    limits::Limits,
    server::session::{context::End, outgoing::Outgoing},
};

/// A period in which the client has to read.
pub(super) struct Stall {
    over: Pin<Box<Sleep>>,
    limits: Limits,
    /// The number of unread bytes at its beginning.
    unread: usize,
    /// The number of bytes written since.
    written: usize,
}

impl Stall {
    pub(super) fn begin(outgoing: &Outgoing, limits: Limits) -> Self {
        Self {
            over: Box::pin(time::sleep(limits.unread_time)),
            limits,
            unread: outgoing.unread(),
            written: 0,
        }
    }

    /// Counts bytes that were written. At the end of the period, judges the client and begins the next
    /// period.
    ///
    /// # Errors
    ///
    /// Returns the end of a client that read nothing although it could, or too little while other clients
    /// wait for the room of its answers.
    pub(super) fn check(
        &mut self,
        written: usize,
        outgoing: &Outgoing,
        task: &mut task::Context<'_>,
    ) -> Result<(), End> {
        self.written = self.written.saturating_add(written);
        while let Poll::Ready(()) = self.over.as_mut().poll(task) {
            let (unread, limits) = (outgoing.unread(), self.limits);
            let time = limits.unread_time;
            if unread > 0 && self.written == 0 && outgoing.is_full() {
                return Err(End::Offence(format!(
                    "it has read none of {unread} bytes of answers in {time:?}"
                )));
            }
            if self.written < self.unread && outgoing.keeps_others_waiting() {
                let (read, most) = (self.written, self.unread);
                return Err(End::Offence(format!(
                    "it has read only {read} of {most} bytes of answers in {time:?}, \
                     while other clients wait: at most {} bytes may be unread in all",
                    limits.unread_bytes
                )));
            }
            *self = Self::begin(outgoing, limits);
        }
        Ok(())
    }
}

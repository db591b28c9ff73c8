//! Sends inputs to mailboxes, and knows which have come.
//!
//! Invariant: a session reads on only while few of its messages may be in mailboxes.

use std::{num::NonZero, time::Duration};

use lockkeeper_actors::Input;
use lockkeeper_protocol::Fault;

use crate::server::session::{
    session::Session,
    sizes::{MOST_IN_MAILBOXES, OWN_IN_MAILBOXES},
};

impl Session {
    /// Adds an input for an object to the messages of the current chunk.
    #[inline]
    pub(super) fn push(&mut self, number: u32, input: Input) -> Result<(), Fault> {
        let object = self.objects.get_mut(number)?;
        let touched = object
            .touched
            .and_then(|count| usize::try_from(count.get() - 1).ok());
        match touched.and_then(|at| self.touched.get_mut(at)) {
            Some((_, inputs)) => self.context.shell.add(inputs, input),
            None => {
                let mut inputs = self.context.shell.inputs();
                inputs.push(input);
                self.touched.push((number, inputs));
                let count = u32::try_from(self.touched.len());
                object.touched = count.ok().and_then(NonZero::new);
            }
        }
        Ok(())
    }

    /// Sends the inputs of the chunk, one message per mailbox.
    pub(super) fn deliver(&mut self) {
        let now = self.context.shell.now();
        self.outgoing.in_mailboxes.add(self.outgoing.read.take());
        if self.context.shell.is_behind() || self.outgoing.held_back.has_complete() {
            return self.deliver_by_places(now);
        }
        for (number, inputs) in self.touched.drain(..) {
            if let Ok(object) = self.objects.get_mut(number) {
                object.touched = None;
                object.mailbox.do_send(inputs.at(now));
            }
        }
    }

    /// Does the same, and has the inputs tell when they have reached their objects.
    #[cold]
    fn deliver_by_places(&mut self, now: Duration) {
        let held_back = &self.outgoing.held_back;
        for (number, inputs) in self.touched.drain(..) {
            if let Ok(object) = self.objects.get_mut(number) {
                object.touched = None;
                let inputs = held_back.send(self.id, object.id, inputs.at(now));
                object.mailbox.do_send(inputs);
            }
        }
        held_back.count(&self.outgoing.in_mailboxes);
    }

    /// Returns whether the session must not read on before its messages have reached their objects, because it or all
    /// sessions have many in mailboxes. [`ReplySink::come_again`](lockkeeper_actors::ReplySink::come_again) wakes it.
    #[inline]
    pub(super) fn waits_for_objects(&mut self) -> bool {
        let held_back = &self.outgoing.held_back;
        if held_back.is_under_way() {
            return self.incoming.is_counted()
                || held_back.bytes_under_way() >= OWN_IN_MAILBOXES
                || self.context.in_mailboxes.bytes() > MOST_IN_MAILBOXES;
        }
        self.end_complete();
        false
    }

    /// Ends the count of a complete message. No input is under way.
    #[inline]
    pub(super) fn end_complete(&self) {
        if let Some(complete) = self.outgoing.held_back.take_complete() {
            self.incoming.has_come(complete);
        }
    }

    /// Keeps the length of the current chunk until its messages are sent.
    pub(super) fn has_read(&self, length: usize) {
        self.outgoing.read.set(length);
    }
}

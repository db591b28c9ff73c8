//! `Outgoing` as the sink of answers, as the hosts see it.

use std::sync::Arc;

use lockkeeper_actors::{Client, Inputs, Mailbox, Outcome, ReplySink, Sharing};
use lockkeeper_protocol::{Peer, codec::BlobRef, frame::Response};

use crate::server::session::{outgoing::Outgoing, shown::shown_to};

impl ReplySink for Outgoing {
    fn answer(&self, seq: u64, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Reply(body) => self.put(&Response::Reply {
                seq,
                body: BlobRef(body),
            }),
            Outcome::Large(reply) => return self.put_large(seq, reply),
            Outcome::Fault(fault) => self.put_fault(seq, shown_to(&self.client.principal, fault)),
            Outcome::Revoked => return self.put(&Response::Revoked { seq }),
        }
        self.answered();
    }

    fn gone(&self, object: u32) {
        self.gone.borrow_mut().push(object);
        self.put(&Response::Gone { object });
    }

    fn calls_in_flight(&self) -> usize {
        self.in_flight.get()
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }

    fn hold_back(&self, object: u64, mailbox: Mailbox, inputs: Inputs) {
        self.held_back.keep(object, mailbox, inputs);
        self.task.wake();
    }

    fn holds_back(&self, object: u64, place: u64) -> bool {
        self.held_back.has(object, place)
    }

    fn come_again(&self, place: u64) {
        self.held_back.come(place);
        if !self.held_back.is_under_way() {
            // The session may wait for that before it reads on.
            self.task.wake();
        }
    }

    fn sharing(&self) -> Option<&Sharing> {
        Some(&self.sharing)
    }

    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.borrow().clone()
    }

    fn client(&self) -> Client {
        self.client.as_told(self.peer())
    }
}

//! What a session asks the supervisor for: to open an object, or to end one.
//!
//! Nothing else of its client is looked at before the supervisor has answered.

use lockkeeper_actors::{Fault, Input, Inputs, codec::BlobRef};

use super::{Session, objects::Object};
use crate::{
    supervisor::{Open, Opened, Remove},
    wire::Response,
};

/// What takes the supervisor's answer to go on.
pub(super) enum Errand {
    Open(u64, Open),
    Remove(u64, Remove),
}

/// The encoded unit.
pub(super) const NIL: &[u8] = &[0xc0];

impl Session {
    /// Asks the supervisor, and tells the client what it says.
    pub(super) async fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Open(seq, open) => {
                let opened = self.context.supervisor.send(open).await;
                match opened.unwrap_or(Err(Fault::ShuttingDown)) {
                    Ok(opened) => self.enter(seq, opened),
                    Err(fault) => self.outgoing.put_fault(seq, fault),
                }
            }
            Errand::Remove(seq, remove) => {
                let removed = self.context.supervisor.send(remove).await;
                match removed.unwrap_or(Err(Fault::ShuttingDown)) {
                    Ok(()) => self.outgoing.put(&Response::Reply {
                        seq,
                        body: BlobRef(NIL),
                    }),
                    Err(fault) => self.outgoing.put_fault(seq, fault),
                }
            }
        }
    }

    /// Gives an opened object a number, the one it has already if it was opened before.
    fn enter(&mut self, seq: u64, opened: Opened) {
        let Opened {
            id,
            name,
            operations,
            mailbox,
        } = opened;
        let number = match self.numbers.get(&id) {
            Some(number) => *number,
            None => {
                let number = self.objects.push(Object {
                    id,
                    mailbox,
                    touched: None,
                });
                if let Ok(object) = self.objects.get_mut(number) {
                    let (now, open) = (self.context.shell.now(), Input::Open(self.id, number));
                    object.mailbox.do_send(Inputs::one(now, open));
                }
                self.numbers.insert(id, number);
                number
            }
        };
        self.outgoing.put(&Response::Opened {
            seq,
            object: number,
            name: name.to_string(),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
        });
    }
}

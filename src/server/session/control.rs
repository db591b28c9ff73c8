//! `ControlRequest`: a request to open an object, remove one, or inspect objects.
//!
//! The session handles no other frame of its client until the request is answered.

use std::sync::Arc;

use lockkeeper_actors::{Input, Inputs, LargeReply, Share, StoredBytes};
use lockkeeper_protocol::{
    Deadlock, Fault, ObjectName, Peer, Question, Refusal, SessionId, codec::BlobRef, cut,
    frame::Response,
};

use crate::{
    access::{Principal, Right},
    server::{
        deadlock::find::find,
        inspection::Inspector,
        kinds::Kinds,
        session::{
            context::{Context, let_others_run},
            objects::{Guarded, OPEN_BYTES, Object, Objects},
            outgoing::Outgoing,
        },
        supervisor::supervisor::{Open, Opened, Remove, long_name},
    },
    telemetry::session,
};

/// A request that the session cannot answer alone.
pub(super) enum ControlRequest {
    Open(u64, Open),
    Remove(u64, Remove),
    Inspect(u64, Question),
}

/// The encoding of the unit value.
pub(super) const NIL: &[u8] = &[0xc0];

/// The parts of a session that a control request needs.
pub(super) struct Control<'a> {
    pub(super) session: SessionId,
    pub(super) peer: &'a Peer,
    pub(super) context: &'a Context,
    pub(super) objects: &'a mut Objects,
    pub(super) outgoing: &'a Outgoing,
}

impl Control<'_> {
    /// Asks the supervisor or the objects, and sends the answer to the client.
    pub(super) async fn run(mut self, request: ControlRequest) {
        if let Err((seq, fault)) = check(&request, self.context.limits.name_bytes) {
            return self.outgoing.put_fault(seq, fault);
        }
        if let Err((seq, fault)) = self.check_right(&request) {
            return self.outgoing.put_fault(seq, fault);
        }
        match request {
            ControlRequest::Open(seq, open) => {
                let outbox = self.context.shell.outbox();
                let room = self.objects.check_room();
                let stored = room.and_then(|()| outbox.store_in(Share::Session, OPEN_BYTES));
                let stored = match stored {
                    Ok(stored) => stored,
                    Err(fault) => return self.outgoing.put_fault(seq, fault),
                };
                let opened = self.context.supervisor.send(open).await;
                match opened.unwrap_or(Err(Fault::ShuttingDown)) {
                    Ok(opened) => self.enter(seq, opened, stored),
                    Err(fault) => self.outgoing.put_fault(seq, fault),
                }
            }
            ControlRequest::Remove(seq, remove) => {
                let name = remove.name.clone();
                let removed = self.context.supervisor.send(remove).await;
                match removed.unwrap_or(Err(Fault::ShuttingDown)) {
                    Ok(()) => {
                        session::removed(self.session, self.peer, self.principal(), &name);
                        self.outgoing.put(&Response::Reply {
                            seq,
                            body: BlobRef(NIL),
                        });
                    }
                    Err(fault) => self.outgoing.put_fault(seq, fault),
                }
            }
            ControlRequest::Inspect(seq, question) => {
                session::inspected(self.session, self.peer, self.principal(), &question);
                // An object is listed as contended only after it has handled what this session sent to it.
                let_others_run().await;
                match self.answer(question).await {
                    Ok(reply) => self.outgoing.put_answer(seq, reply),
                    Err(fault) => self.outgoing.put_fault(seq, fault),
                }
            }
        }
    }

    fn principal(&self) -> &Principal {
        &self.outgoing.client.principal
    }

    /// Refuses administration to a client that may not administer.
    fn check_right(&self, request: &ControlRequest) -> Result<(), (u64, Fault)> {
        let principal = self.principal();
        let (seq, checked) = match request {
            ControlRequest::Open(..) => return Ok(()),
            ControlRequest::Remove(seq, Remove { name, .. }) => {
                let what = || format!("to remove {name:?}");
                (*seq, principal.check_administration(what))
            }
            ControlRequest::Inspect(seq, question) => {
                let what = || match question {
                    Question::All(_) | Question::Contended(_) => "to inspect objects".to_owned(),
                    Question::Named(name) => format!("to inspect {name:?}"),
                    Question::Deadlocks => "to look for deadlocks".to_owned(),
                };
                (*seq, principal.check_administration(what))
            }
        };
        checked.map_err(|fault| (seq, fault))
    }

    /// Answers a question. It waits for room as all large answers do.
    async fn answer(&self, question: Question) -> Result<LargeReply, Fault> {
        let inspector = Inspector {
            supervisor: &self.context.supervisor,
            shell: &self.context.shell,
            shard: self.context.shard_of.shard,
            most_bytes: self.context.limits.frame_bytes,
            by: self
                .outgoing
                .client
                .principal
                .peer()
                .map(|rights| &**rights),
        };
        let page = match question {
            Question::All(above) => inspector.all(above).await?,
            Question::Contended(above) => inspector.contended(above).await?,
            Question::Named(name) => inspector.named(name).await?,
            Question::Deadlocks if self.principal().prefix().is_some() => {
                return Err(self
                    .outgoing
                    .client
                    .principal
                    .not_for_some_names("to look for deadlocks"));
            }
            Question::Deadlocks if self.context.seeks_deadlocks => {
                let found = find(&inspector).await?;
                let told: Vec<Deadlock> = found.into_iter().map(|found| found.deadlock).collect();
                return Ok(self.context.shell.outbox().large_reply(told));
            }
            Question::Deadlocks => {
                return Err(Fault::Refused(Refusal::Invalid(
                    "this manager does not look for deadlocks: build it with .deadlocks(..), and of one shard"
                        .to_owned(),
                )));
            }
        };
        Ok(self.context.shell.outbox().large_reply(page))
    }

    /// Assigns a number to an opened object, or returns its number if it was opened before.
    fn enter(&mut self, seq: u64, opened: Opened, stored: StoredBytes) {
        let Opened {
            name,
            operations,
            administrative,
            mailbox,
            made,
        } = opened;
        let id = name.number();
        let number = match self.objects.number_of(id) {
            Some(number) => number,
            None => {
                let object = Object {
                    id,
                    mailbox,
                    touched: None,
                    made: made.try_into().unwrap_or(u32::MAX),
                };
                self.outgoing.sharing.open(object.bytes());
                let number = self.objects.push(object, stored);
                if let Ok(object) = self.objects.get_mut(number) {
                    let (now, open) = (self.context.shell.now(), Input::Open(self.session, number));
                    object.mailbox.do_send(Inputs::one(now, open));
                }
                number
            }
        };
        match self.principal().right() {
            Right::Administer => {}
            Right::Use => self.objects.guard(
                number,
                Guarded {
                    name: name.clone(),
                    administrative,
                    operations: Arc::clone(&operations),
                },
            ),
        }
        self.outgoing.put(&Response::Opened {
            seq,
            object: number,
            name: name.text().into_owned(),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
        });
    }
}

/// Refuses names of objects that are empty, and names that exceed the limit, before they are looked up or copied into an
/// answer.
fn check(request: &ControlRequest, name_bytes: usize) -> Result<(), (u64, Fault)> {
    let (seq, name) = match request {
        ControlRequest::Open(seq, Open { kind, .. }) if kind.len() > Kinds::MOST_NAME_BYTES => {
            return Err((*seq, Fault::UnknownKind(cut(kind).to_owned())));
        }
        ControlRequest::Open(seq, Open { name, .. }) => (*seq, name.as_deref()),
        ControlRequest::Remove(seq, Remove { name, .. })
        | ControlRequest::Inspect(seq, Question::Named(name)) => (*seq, Some(name.as_str())),
        ControlRequest::Inspect(
            _,
            Question::All(_) | Question::Contended(_) | Question::Deadlocks,
        ) => return Ok(()),
    };
    let most = name_bytes.max(ObjectName::MOST_ANONYMOUS_BYTES);
    match name.map(str::len) {
        Some(length) if length == 0 || length > most => Err((seq, long_name(name_bytes, length))),
        Some(_) | None => Ok(()),
    }
}

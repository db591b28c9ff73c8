//! What the session does with each request: it becomes inputs for objects, or a control request.
//!
//! Invariant: the numbers of a client's calls increase, and the session numbers one-way calls itself; so no
//! two calls of a session have the same id.

use std::time::Duration;

use lockkeeper_actors::{CallAtLimit, Input, RawCall};
use lockkeeper_protocol::{
    CallId, Fault,
    codec::{BlobRef, Payload},
    frame::{self, Message, Misread, Request, Response},
};

use crate::{
    access::{Principal, Right},
    server::{
        session::{
            context::End,
            control::{ControlRequest, NIL},
            session::Session,
        },
        supervisor::supervisor::{Open, Remove},
    },
};

/// The limit on the arguments of a call, in its fault.
const ARGUMENTS: &str = "bytes of arguments";

impl Session {
    /// Serves a request, or returns it if the session cannot answer it alone. It is boxed, so that the result of the
    /// others is small.
    #[inline]
    pub(super) fn handle(
        &mut self,
        frame: Message<'_>,
    ) -> Result<Option<Box<ControlRequest>>, End> {
        let request = match Request::decode(&frame) {
            Ok(request) => request,
            Err(error) => {
                let fault = Fault::BadArguments(error.to_string());
                let failed = self.fail(Misread::of(&frame), fault);
                return failed.map(|()| None);
            }
        };
        match request {
            Request::Hello { .. } => return Err(End::Offence("a second hello".to_owned())),
            Request::Open {
                seq,
                kind,
                name,
                spec,
            } => {
                self.number(seq)?;
                let bytes = spec.map_or(0, |BlobRef(bytes)| bytes.len());
                if !self.has_room(seq, frame.len(), bytes, "bytes of a spec") {
                    return Ok(None);
                }
                let open = Open {
                    kind: kind.to_owned(),
                    name: name.map(str::to_owned),
                    spec: spec.map(|BlobRef(bytes)| frame.keep(bytes)),
                    opened: self.outgoing.sharing.opened(),
                    by: self.principal().peer().cloned(),
                };
                return Ok(Some(Box::new(ControlRequest::Open(seq, open))));
            }
            Request::Remove { seq, name } => {
                self.number(seq)?;
                let (name, by) = (name.to_owned(), self.principal().peer().cloned());
                let remove = Remove { name, by };
                return Ok(Some(Box::new(ControlRequest::Remove(seq, remove))));
            }
            Request::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            } => {
                self.number(seq)?;
                let arguments = frame.keep(arguments.0);
                let timeout = micros.map(Duration::from_micros);
                let call = self.raw_call(seq, operation, timeout, arguments);
                if self.has_room(seq, frame.len(), call.arguments.len(), ARGUMENTS) {
                    self.call(seq, object, operation, Input::Call(call));
                }
            }
            Request::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            } => {
                self.number(seq)?;
                let arguments = frame.keep(arguments.0);
                let timeout = micros.map(Duration::from_micros);
                let call = self.raw_call(seq, operation, timeout, arguments);
                if self.has_room(seq, frame.len(), call.arguments.len(), ARGUMENTS) {
                    let call = Input::CallBy(Box::new(call), caller);
                    self.call(seq, object, operation, call);
                }
            }
            Request::ReportPipe {
                seq,
                object,
                operation,
            } => {
                self.number(seq)?;
                self.set_report_pipe(seq, object, operation);
            }
            Request::Inspect { seq, question } => {
                self.number(seq)?;
                return Ok(Some(Box::new(ControlRequest::Inspect(seq, question))));
            }
            Request::Cast {
                object,
                operation,
                arguments,
            } => {
                if frame.len() <= self.most_bytes() || arguments.0.len() <= self.most_bytes() {
                    self.cast(object, operation, frame.keep(arguments.0));
                }
            }
            Request::Beat { seq, received } => {
                self.number(seq)?;
                self.stream.acknowledge(received);
                let body = BlobRef(NIL);
                self.outgoing.put(&Response::Reply { seq, body });
            }
            Request::Goodbye => return Err(End::Goodbye),
            Request::Withdraw { object, seq } => {
                let _ = self.push(object, Input::Withdraw(CallId::new(self.id, seq)));
            }
        }
        Ok(None)
    }

    /// Fails only the call of a message that is not served, if its number could be read.
    #[cold]
    pub(super) fn fail(&mut self, message: Misread, fault: Fault) -> Result<(), End> {
        match message {
            Misread::Call(seq) => {
                self.number(seq)?;
                self.outgoing.put_fault(seq, fault);
                Ok(())
            }
            Misread::OneWay => Ok(()),
            Misread::Stream => Err(End::Offence(match fault {
                Fault::BadArguments(why) => format!("bad frame: {why}"),
                fault => fault.to_string(),
            })),
        }
    }

    /// Checks the number of a new call. Numbers must increase, so each is unique.
    #[inline]
    fn number(&mut self, seq: u64) -> Result<(), End> {
        if seq <= self.last_seq || seq >= CallId::ONE_WAY {
            return Err(End::Offence(format!(
                "call {seq} does not count up from {}",
                self.last_seq
            )));
        }
        self.last_seq = seq;
        Ok(())
    }

    /// Refuses the arguments of a call, or a spec, if they fit a request but not an answer. An answer may repeat
    /// them with additional data: no client could receive such an item of a queue.
    #[inline]
    fn has_room(&self, seq: u64, frame: usize, bytes: usize, what: &str) -> bool {
        let most = self.most_bytes();
        if frame <= most || bytes <= most {
            return true;
        }
        self.outgoing.put_fault(seq, Fault::limit(what, most));
        false
    }

    /// The most bytes of a call's arguments, or of a spec.
    fn most_bytes(&self) -> usize {
        let limit = self.context.limits.frame_bytes;
        limit.saturating_sub(frame::ANSWER_MARGIN_BYTES)
    }

    #[inline]
    fn raw_call(
        &self,
        seq: u64,
        operation: u32,
        timeout: Option<Duration>,
        arguments: Payload,
    ) -> RawCall {
        RawCall {
            id: CallId::new(self.id, seq),
            operation,
            timeout,
            arguments,
        }
    }

    #[inline]
    fn call(&mut self, seq: u64, object: u32, operation: u32, call: Input) {
        let most = self.outgoing.most_calls;
        let in_flight = self.outgoing.in_flight.get();
        let call = if in_flight < most {
            call
        } else if in_flight - most < self.context.calls_at_limit {
            at_limit(call, self.too_many_calls())
        } else {
            return self.outgoing.put_fault(seq, self.too_many_calls());
        };
        let allowed = self.check_right(object, operation);
        match allowed.and_then(|()| self.push(object, call)) {
            Ok(()) => self.outgoing.in_flight.set(in_flight + 1),
            Err(fault) => self.outgoing.put_fault(seq, fault),
        }
    }

    /// Calls an object without sending an answer.
    #[inline]
    pub(super) fn cast(&mut self, object: u32, operation: u32, arguments: Payload) {
        self.one_way += 1;
        if self.check_right(object, operation).is_err() {
            return;
        }
        let call = RawCall {
            id: CallId::one_way(self.id, self.one_way),
            operation,
            timeout: None,
            arguments,
        };
        // A one-way call needs no answer if the object does not exist or has ended.
        let _ = self.push(object, Input::Call(call));
    }

    /// Refuses an operation that is forbidden to the client.
    #[inline]
    pub(super) fn check_right(&self, object: u32, operation: u32) -> Result<(), Fault> {
        match self.right {
            Right::Administer => Ok(()),
            Right::Use => self.check_use(object, operation),
        }
    }

    #[cold]
    fn check_use(&self, object: u32, operation: u32) -> Result<(), Fault> {
        match self.objects.forbidden(object, operation) {
            Some(what) => Err(self.principal().not_administrative(&what)),
            None => Ok(()),
        }
    }

    /// Who the client is, and what it may do.
    fn principal(&self) -> &Principal {
        &self.outgoing.client.principal
    }

    /// The refusal of a call that would be one too many.
    #[cold]
    fn too_many_calls(&self) -> Fault {
        let most = self.outgoing.most_calls;
        match self.principal().key() {
            Some(key) if most < self.context.limits.calls_in_flight => {
                Fault::limit(&format!("calls in flight for the key {key:?}"), most)
            }
            Some(_) | None => Fault::limit("calls in flight", most),
        }
    }
}

/// Turns a call into one that is served only if it need not wait.
#[cold]
fn at_limit(call: Input, fault: Fault) -> Input {
    let (call, caller) = match call {
        Input::Call(call) => (call, None),
        Input::CallBy(call, caller) => (*call, Some(caller)),
        Input::CallAtLimit(..)
        | Input::Open(..)
        | Input::Withdraw(_)
        | Input::Expire(_)
        | Input::HangUp(..)
        | Input::Remove
        | Input::Survey(_)
        | Input::Fail(..) => return call,
    };
    Input::CallAtLimit(Box::new(CallAtLimit {
        call,
        caller,
        fault,
    }))
}

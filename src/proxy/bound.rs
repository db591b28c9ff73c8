//! `Bound`: a proxy after its first use, that is, a connection and the number of the object there.

use std::{
    any::type_name,
    future::{self, Future},
    pin::pin,
    sync::Arc,
};

use lockkeeper_protocol::{
    CallId, Fault, Operation, Refusal,
    codec::{Blob, CodecError, Form, Payload, guarded_in},
};
use serde::Serialize;

use crate::{
    client::{connection::Connection, deadline::Deadline, state::Object},
    error::CallError,
    proxy::owner::Owner,
    subject::Subject,
    telemetry::call::{self, Calling},
    undecoded::Undecoded,
};

/// A call that was answered, and who made it, where the manager asks for that: it has its number for
/// as long as it holds what it was granted.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) call: CallId,
    _caller: Option<Owner>,
}

/// An object as one connection knows it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) kind: &'static str,
    /// How the kind's operations are written.
    pub(super) form: Form,
    pub(super) connection: Arc<Connection>,
    pub(super) object: Arc<Object>,
}

impl Bound {
    /// Calls the object. The id is the grant, where the answer is one.
    ///
    /// The operation is encoded at once, and the future has its bytes alone: an operation need not
    /// be `Sync`.
    pub(crate) fn call<O: Operation, D: Into<Deadline>>(
        &self,
        operation: &O,
        deadline: D,
    ) -> impl Future<Output = Result<(Receipt, O::Reply), CallError>> + Send + use<'_, O, D> {
        let number = self.object.operation(O::NAME);
        let (arguments, deadline) = (encode(self.form, operation), deadline.into());
        async move {
            let (number, arguments) = (number?, arguments?);
            let read = |body: &Payload| {
                let reply = guarded_in(self.form, || body.decode());
                reply.map_err(|error| self.undecoded::<O>(body, &error))
            };
            let asks_who_calls = self.connection.asks_who_calls;
            let caller = asks_who_calls.then(Owner::current);
            let who = caller.as_ref().map(Owner::number);
            let calling = Calling::begin(self.kind, &self.object.name, O::NAME);
            let mut call = pin!(self.connection.call(
                self.object.number,
                number,
                deadline,
                &arguments,
                who,
                read
            ));
            let answer = future::poll_fn(|task| calling.within(|| call.as_mut().poll(task))).await;
            let answer = answer.map_err(|error| error.about(|| self.subject()));
            calling.end(&answer);
            let (call, reply) = answer?;
            let _caller = caller;
            Ok((Receipt { call, _caller }, reply))
        }
    }

    /// Makes an error that names the object of a refusal.
    pub(crate) fn accepted<T>(&self, reply: Result<T, Refusal>) -> Result<T, CallError> {
        reply.map_err(|refusal| CallError::from(refusal).about(|| self.subject()))
    }

    /// The object, for errors.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(self.kind, &self.object.name)
    }

    #[cold]
    fn undecoded<O: Operation>(&self, body: &Payload, error: &CodecError) -> CallError {
        let what = format!("the reply of {} to {:?}", self.subject(), O::NAME);
        let wanted = type_name::<O::Reply>();
        let types = [wanted, wanted].map(str::to_owned);
        let bytes = Blob::from(body.to_vec());
        let undecoded = Undecoded::new(what, types, error.to_string(), bytes);
        CallError::Undecoded(Box::new(undecoded))
    }

    /// Sends the object an operation that has no answer. In a forked child, a hold of the parent has none to
    /// send.
    pub(crate) fn cast<O: Operation>(&self, operation: &O) {
        if !self.connection.is_here() {
            return;
        }
        call::cast(self.kind, &self.object.name, O::NAME);
        let cast = || {
            let (number, arguments) = (
                self.object.operation(O::NAME)?,
                encode(self.form, operation)?,
            );
            self.connection.cast(self.object.number, number, &arguments)
        };
        // Its caller, which may be a drop, hears of no error.
        if let Err(why) = cast() {
            call::not_cast(self.kind, &self.object.name, O::NAME, &why);
        }
    }
}

/// Encodes what the caller sends. An error or a panic of its `Serialize` is the error of this call.
pub(crate) fn encode<T: Serialize>(form: Form, value: &T) -> Result<Vec<u8>, CallError> {
    guarded_in(form, || form.encode(value)).map_err(|error| {
        let name = type_name::<T>();
        Fault::BadArguments(format!("{name} cannot be encoded: {error}")).into()
    })
}

//! `Bound`: a proxy after its first use, that is, a connection and the number of the object there.

use std::{
    any::type_name,
    borrow::Cow,
    future::{self, Future},
    pin::pin,
    sync::Arc,
};

use lockkeeper_protocol::{
    CallId, Fault, Operation, Refusal,
    codec::{Blob, CodecError, Form, Payload, guarded_in},
    frame::Capability,
};
use serde::Serialize;

use crate::{
    client::{calls::NoReply, connection::Connection, deadline::Deadline, state::Object},
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
    pub(super) kind: Cow<'static, str>,
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
        let (arguments, deadline) = (self.encode(operation), deadline.into());
        async move { Ok(self.call_encoded::<O>(&arguments?, deadline).await?) }
    }

    /// Calls the object with an operation that is encoded already.
    pub(super) async fn call_encoded<O: Operation>(
        &self,
        arguments: &[u8],
        deadline: Deadline,
    ) -> Result<(Receipt, O::Reply), NoReply> {
        let read = |body: &Payload| {
            let reply = guarded_in(self.form, || body.decode());
            reply.map_err(|error| self.undecoded::<O>(body, &error))
        };
        self.call_by(None, O::NAME, arguments, deadline, read).await
    }

    /// Calls the object by an owner, or else by the current task or thread. `read` decodes the reply.
    pub(super) async fn call_by<T>(
        &self,
        owner: Option<&Owner>,
        operation: &str,
        arguments: &[u8],
        deadline: Deadline,
        read: impl FnOnce(&Payload) -> Result<T, CallError>,
    ) -> Result<(Receipt, T), NoReply> {
        let number = self.object.operation(operation)?;
        let wants_callers = self.connection.capabilities.has(Capability::Callers);
        let caller = wants_callers.then(|| owner.map_or_else(Owner::current, Owner::clone));
        let who = caller.as_ref().map(Owner::number);
        let calling = Calling::begin(&self.kind, &self.object.name, operation);
        let mut call =
            pin!(
                self.connection
                    .call(self.object.number, number, deadline, arguments, who, read)
            );
        let answer = future::poll_fn(|task| calling.within(|| call.as_mut().poll(task))).await;
        let answer = answer.map_err(|why| match why {
            NoReply::Unsent(error) => NoReply::Unsent(error),
            NoReply::Final(error) => NoReply::Final(error.about(|| self.subject())),
        });
        calling.end(&answer);
        let (call, reply) = answer?;
        let _caller = caller;
        Ok((Receipt { call, _caller }, reply))
    }

    /// Which start of the manager has opened it.
    pub(super) fn incarnation(&self) -> u64 {
        self.connection.shard_of().incarnation
    }

    /// Makes an error that names the object of a refusal.
    pub(crate) fn accepted<T>(&self, reply: Result<T, Refusal>) -> Result<T, CallError> {
        reply.map_err(|refusal| CallError::from(refusal).about(|| self.subject()))
    }

    /// The object, for errors.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(self.kind.clone(), &self.object.name)
    }

    /// Encodes an operation that has room in a message.
    pub(super) fn encode<O: Operation>(&self, operation: &O) -> Result<Vec<u8>, CallError> {
        let most = self.connection.frame_bytes();
        encode(self.form, operation, most, CALL)
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
        let arguments = self.encode(operation);
        let cast = arguments.and_then(|arguments| self.cast_encoded(O::NAME, &arguments));
        // Its caller, which may be a drop, hears of no error.
        if let Err(why) = cast {
            call::not_cast(&self.kind, &self.object.name, O::NAME, &why);
        }
    }

    /// Sends the object an operation that is encoded already and has no answer.
    pub(super) fn cast_encoded(&self, operation: &str, arguments: &[u8]) -> Result<(), CallError> {
        call::cast(&self.kind, &self.object.name, operation);
        let number = self.object.operation(operation)?;
        self.connection.cast(self.object.number, number, arguments)
    }
}

/// What the limit of a message is a limit of, for a call whose operation or spec is above it.
pub(crate) const CALL: &str = "bytes in a call";

/// Encodes what the caller sends. An error or a panic of its `Serialize` is the error of this call, and so
/// is a value of more than `most` bytes, which `what` names.
pub(crate) fn encode<T: Serialize>(
    form: Form,
    value: &T,
    most: usize,
    what: &str,
) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    match guarded_in(form, || form.encode_bounded(&mut bytes, value, most)) {
        Ok(true) => Ok(bytes),
        Ok(false) => Err(Fault::limit(what, most).into()),
        Err(error) => {
            let name = type_name::<T>();
            Err(Fault::BadArguments(format!("{name} cannot be encoded: {error}")).into())
        }
    }
}

/// The room for a value at first: most values take less.
const USUAL_BYTES: usize = 64;

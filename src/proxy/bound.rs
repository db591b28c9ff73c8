//! `Bound`: a proxy after its first use, that is, a connection and the number of the object there.

use std::{
    future::{self, Future},
    pin::pin,
    sync::Arc,
};

use lockkeeper_protocol::{
    CallId, Fault, Operation,
    codec::{self, Payload},
};
use serde::Serialize;

use crate::{
    client::{connection::Connection, deadline::Deadline, state::Object},
    error::CallError,
    proxy::owner::Owner,
    telemetry::call::{self, Calling},
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
        let (arguments, deadline) = (encode(operation), deadline.into());
        async move {
            let (number, arguments) = (number?, arguments?);
            let read = |body: &Payload| {
                let reply = body.decode();
                reply.map_err(|error| CallError::Protocol(error.to_string()))
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
            calling.end(&answer);
            let (call, reply) = answer?;
            let _caller = caller;
            Ok((Receipt { call, _caller }, reply))
        }
    }

    /// Sends the object an operation whose answer nobody waits for.
    pub(crate) fn cast<O: Operation>(&self, operation: &O) {
        call::cast(self.kind, &self.object.name, O::NAME);
        let cast = || {
            let (number, arguments) = (self.object.operation(O::NAME)?, encode(operation)?);
            self.connection.cast(self.object.number, number, &arguments)
        };
        // Its caller, which may be a drop, hears of no error.
        if let Err(why) = cast() {
            call::not_cast(self.kind, &self.object.name, O::NAME, &why);
        }
    }
}

/// Encodes what the caller sends: it is the caller's own when that is not possible.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CallError> {
    codec::encode(value).map_err(|error| Fault::BadArguments(error.to_string()).into())
}

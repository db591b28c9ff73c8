//! `Bound`: a proxy after its first use: a connection, and the number of the object there.

use std::{
    any::type_name,
    borrow::Cow,
    cell::Cell,
    future::{self, Future},
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use lockkeeper_protocol::{
    CallId, Fault, Operation, Refusal,
    codec::{Blob, CodecError, Form, Payload, guarded_in},
    frame::Capability,
};
use serde::Serialize;

use crate::{
    client::owner::Owner,
    client::{
        calls::{ARGUMENTS, SentCall},
        connection::Connection,
        deadline::Deadline,
        state::Object,
    },
    error::CallError,
    subject::{Asked, Subject},
    telemetry::call::{self, Calling},
    undecoded::{Encoder, Undecoded},
};

/// An answered call, and its caller if the manager tracks callers: the caller keeps its number while
/// it holds the grant.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) call: CallId,
    _caller: Option<Owner>,
}

/// A call that was sent, with its span and its caller.
pub(crate) struct Sent {
    call: SentCall,
    /// The number of the operation.
    number: u32,
    /// Whether the call does not wait.
    is_try: bool,
    calling: Calling,
    caller: Option<Owner>,
}

impl Sent {
    /// The number of the call in its session.
    pub(crate) const fn number(&self) -> u64 {
        self.call.number()
    }
}

/// An object over one connection.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) kind: Cow<'static, str>,
    /// The encoding of the kind's operations.
    pub(crate) form: Form,
    pub(crate) connection: Arc<Connection>,
    pub(crate) object: Arc<Object>,
}

impl Bound {
    /// Calls the object and waits for the answer. If the answer is a grant, the id identifies it.
    ///
    /// The operation is encoded before the first await, and the future keeps only the bytes, so
    /// operations need not be `Sync`.
    pub(crate) fn call<O: Operation, D: Into<Deadline>>(
        &self,
        operation: &O,
        deadline: D,
    ) -> impl Future<Output = Result<(Receipt, O::Reply), CallError>> + Send + use<'_, O, D> {
        let arguments = self.encode(operation);
        let sent = arguments.map(|arguments| (arguments, deadline.into()));
        async move {
            let (arguments, deadline) = sent?;
            let sent = self.send(None, O::NAME, &arguments, deadline)?;
            drop(arguments);
            self.reply::<O>(sent).await
        }
    }

    /// Waits for the reply to an operation.
    pub(crate) fn reply<O: Operation>(
        &self,
        sent: Sent,
    ) -> impl Future<Output = Result<(Receipt, O::Reply), CallError>> + Send {
        self.answer(sent, |body| self.decode::<O>(body))
    }

    /// Sends a call of the object as an owner, or as the current task or thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the call was not sent, so that it is not served.
    pub(crate) fn send(
        &self,
        owner: Option<&Owner>,
        operation: &str,
        arguments: &[u8],
        deadline: Deadline,
    ) -> Result<Sent, CallError> {
        let number = self.object.operation(operation)?;
        let wants_callers = self.connection.capabilities.has(Capability::Callers);
        let caller = wants_callers.then(|| owner.map_or_else(Owner::current, Owner::clone));
        let who = caller.as_ref().map(Owner::number);
        let mut calling = Calling::begin(&self.kind, &self.object.name, operation);
        let sent = calling.within(|| {
            let object = self.object.number;
            self.connection
                .send_call(object, number, deadline, arguments, who)
        });
        match sent {
            Ok(call) => Ok(Sent {
                call,
                number,
                is_try: matches!(deadline, Deadline::Ends(Duration::ZERO)),
                calling,
                caller,
            }),
            Err(error) => {
                let error = error.about(|| self.subject());
                calling.ended(&error);
                Err(error)
            }
        }
    }

    /// Waits for the answer to a call, which `read` decodes.
    pub(crate) fn answer<T>(
        &self,
        mut sent: Sent,
        read: impl Fn(&Payload) -> Result<T, CallError> + Send,
    ) -> impl Future<Output = Result<(Receipt, T), CallError>> + Send {
        future::poll_fn(move |task| sent.poll(self, task, &read))
    }

    /// Returns the incarnation of the manager that has opened it.
    pub(crate) fn incarnation(&self) -> u64 {
        self.connection.shard_of().incarnation
    }

    /// Makes an error that names the object of a refusal, and the operation that was refused.
    pub(super) fn accepted_of<O, T>(&self, reply: Result<T, Refusal>) -> Result<T, CallError>
    where
        O: Operation,
    {
        let asked = || Asked::Call(O::NAME.to_owned());
        reply.map_err(|refusal| CallError::from(refusal).about(|| self.subject().asked(asked())))
    }

    /// Makes an error that names the object of a refusal.
    pub(crate) fn accepted<T>(&self, reply: Result<T, Refusal>) -> Result<T, CallError> {
        reply.map_err(|refusal| CallError::from(refusal).about(|| self.subject()))
    }

    /// Returns the subject for errors about the object.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(self.kind.clone(), &self.object.name)
    }

    /// Encodes an operation. Returns an error above the limit of arguments.
    pub(crate) fn encode<O: Operation>(&self, operation: &O) -> Result<Payload, CallError> {
        let most = self.connection.argument_bytes();
        // A `Serialize` that makes a call itself finds an empty buffer, and so does a drop at the end of a thread.
        let mut bytes = ARGUMENTS_BUFFER.try_with(Cell::take).unwrap_or_default();
        bytes.reserve(USUAL_BYTES);
        encode_into(&mut bytes, self.form, operation, most, ARGUMENTS)?;
        if bytes.len() > Payload::MOST_INLINE {
            return Ok(bytes.into());
        }
        let arguments = Payload::from(&*bytes);
        bytes.clear();
        let _ = ARGUMENTS_BUFFER.try_with(|kept| kept.set(bytes));
        Ok(arguments)
    }

    fn decode<O: Operation>(&self, reply: &Payload) -> Result<O::Reply, CallError> {
        let decoded = guarded_in(self.form, || reply.decode());
        decoded.map_err(|error| self.undecoded::<O>(reply, &error))
    }

    #[cold]
    fn undecoded<O: Operation>(&self, body: &Payload, error: &CodecError) -> CallError {
        let what = format!("the reply of {} to {:?}", self.subject(), O::NAME);
        let wanted = type_name::<O::Reply>();
        let types = [wanted, wanted].map(str::to_owned);
        let bytes = Blob::from(body.to_vec());
        let undecoded = Undecoded::new(Encoder::Kind, what, types, error.to_string(), bytes);
        CallError::Undecoded(Box::new(undecoded))
    }

    /// Sends a one-way call to the object. In a forked child, a hold of the parent sends nothing.
    pub(crate) fn cast<O: Operation>(&self, operation: &O) {
        if !self.connection.is_here() {
            return;
        }
        let arguments = self.encode(operation);
        let cast = arguments.and_then(|arguments| self.cast_encoded(O::NAME, &arguments));
        // The caller, which may be a drop, cannot handle an error.
        if let Err(why) = cast {
            call::not_cast(&self.kind, &self.object.name, O::NAME, &why);
        }
    }

    /// Sends an encoded one-way call to the object.
    pub(crate) fn cast_encoded(&self, operation: &str, arguments: &[u8]) -> Result<(), CallError> {
        call::cast(&self.kind, &self.object.name, operation);
        let number = self.object.operation(operation)?;
        self.connection.cast(self.object.number, number, arguments)
    }
}

impl Sent {
    /// Polls for the reply to an operation.
    #[inline]
    pub(crate) fn poll_reply<O: Operation>(
        &mut self,
        bound: &Bound,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<(Receipt, O::Reply), CallError>> {
        self.poll(bound, task, |reply| bound.decode::<O>(reply))
    }

    /// Polls for the answer, which `read` decodes.
    #[inline]
    fn poll<T>(
        &mut self,
        bound: &Bound,
        task: &mut task::Context<'_>,
        read: impl Fn(&Payload) -> Result<T, CallError>,
    ) -> Poll<Result<(Receipt, T), CallError>> {
        let Self { call, calling, .. } = self;
        let answer = ready!(calling.within(|| call.poll_reply(task, read)));
        Poll::Ready(match answer {
            Ok((call, reply)) => {
                self.calling.ended(&"answered");
                let _caller = self.caller.take();
                Ok((Receipt { call, _caller }, reply))
            }
            Err(error) => Err(self.failed(bound, error)),
        })
    }

    #[cold]
    fn failed(&mut self, bound: &Bound, error: CallError) -> CallError {
        let error = error.about(|| {
            let operation = bound.object.operation_name(self.number).to_owned();
            bound.subject().asked(match self.is_try {
                true => Asked::Try(operation),
                false => Asked::Call(operation),
            })
        });
        self.calling.ended(&error);
        error
    }
}

thread_local! {
    /// The buffer into which the arguments of the next call are encoded. Most are short and are copied out of it,
    /// so they take no allocation.
    static ARGUMENTS_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a value of the caller. Returns an error if its `Serialize` fails or panics, or if it takes more
/// than `most` bytes; `what` names that limit.
pub(crate) fn encode<T: Serialize>(
    form: Form,
    value: &T,
    most: usize,
    what: &str,
) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    encode_into(&mut bytes, form, value, most, what)?;
    Ok(bytes)
}

/// The initial capacity of the buffer: most values take less.
const USUAL_BYTES: usize = 64;

fn encode_into<T: Serialize>(
    bytes: &mut Vec<u8>,
    form: Form,
    value: &T,
    most: usize,
    what: &str,
) -> Result<(), CallError> {
    match guarded_in(form, || form.encode_bounded(bytes, value, most)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::limit(what, most).into()),
        Err(error) => {
            let name = type_name::<T>();
            Err(Fault::BadArguments(format!("{name} cannot be encoded: {error}")).into())
        }
    }
}

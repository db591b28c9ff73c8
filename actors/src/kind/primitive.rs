//! The traits of a hosted kind, [`Primitive`] and [`Serve`], and the table of its operations.
//!
//! Invariant: a primitive is a synchronous state machine. It receives one input at a time, has no
//! clock, no thread and no socket, and its only output is the answers to its calls.

use std::fmt;

use lockkeeper_protocol::{
    CallId, Fault, Operation, Refusal,
    codec::{Form, Payload, guarded_in},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::kind::{
    call::{Call, Outbox},
    hang_up::HangUp,
    survey::Survey,
};

/// A kind of hosted object: its state, and what becomes of a call.
pub trait Primitive: Sized + Unpin + 'static {
    /// The name on the wire: stable, and unique within a manager.
    const KIND: &'static str;
    /// How structs are written in the arguments, replies and specs of the kind. Only the built-in kinds
    /// have another form than the default, because PROTOCOL.md promises their bytes. Their arguments and
    /// replies have no code of users, so they are encoded and decoded without a guard against panics.
    #[doc(hidden)]
    const FORM: Form = Form::Named;
    /// What an object of this kind is made from.
    type Spec: Serialize + DeserializeOwned + Send + 'static;

    /// Makes the object.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] with what is allowed when the spec is out of range.
    fn create(spec: Self::Spec) -> Result<Self, Refusal>;

    /// Lists what the kind serves: `operations.on::<Add>().on::<Read>()`.
    fn operations(operations: &mut Operations<Self>);

    /// Undoes call `id`: it waits still, or it was answered and its caller never saw the answer.
    ///
    /// What a parked call waited for goes to the next in line. The default suits a kind that
    /// parks no call and grants nothing.
    fn withdraw(&mut self, id: CallId) {
        let _ = id;
    }

    /// Ends call `id`, which waits still, since its deadline has passed.
    fn expire(&mut self, id: CallId) {
        self.withdraw(id);
    }

    /// Gives back all that an ended session holds, after forgetting all that it waits for. See [`HangUp::go_on`]
    /// for sessions that hold or wait for more than one turn should handle.
    fn hang_up(&mut self, session: &HangUp) {
        let _ = session;
    }

    /// Tells who holds the object and who waits for it. Asked seldom, so it may look at each of them.
    fn survey(&self) -> Survey {
        Survey::default()
    }
}

/// A primitive that serves one operation.
pub trait Serve<O: Operation>: Primitive {
    /// Answers the call, or keeps it to answer it later.
    ///
    /// A call that is dropped unanswered is answered with [`Fault::Gone`](crate::Fault::Gone).
    fn serve(&mut self, operation: O, call: Call<O::Reply>);
}

/// What a kind serves, in the order in which it was listed.
pub struct Operations<P>(Vec<Entry<P>>);

struct Entry<P> {
    name: &'static str,
    is_administrative: bool,
    serve: fn(&mut P, &Payload, CallId, &Outbox),
}

impl<P> Default for Operations<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P> Operations<P> {
    /// Adds an operation.
    ///
    /// # Panics
    ///
    /// Panics if the kind lists two operations of one name.
    pub fn on<O: Operation>(&mut self) -> &mut Self
    where
        P: Serve<O>,
    {
        assert!(
            self.names().all(|name| name != O::NAME),
            "a kind lists two operations named {:?}",
            O::NAME
        );
        self.0.push(Entry {
            name: O::NAME,
            is_administrative: O::IS_ADMINISTRATIVE,
            serve: serve::<P, O>,
        });
        self
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|entry| entry.name)
    }

    /// The numbers of the operations that are for administrators.
    pub fn administrative(&self) -> impl Iterator<Item = u32> + '_ {
        let numbered = (0..).zip(&self.0);
        numbered.filter_map(|(number, entry)| entry.is_administrative.then_some(number))
    }

    /// Decodes the arguments and lets the primitive serve the call. What is wrong with them is
    /// the answer.
    pub(crate) fn serve(
        &self,
        primitive: &mut P,
        operation: u32,
        arguments: &Payload,
        id: CallId,
        outbox: &Outbox,
    ) {
        match usize::try_from(operation)
            .ok()
            .and_then(|number| self.0.get(number))
        {
            Some(entry) => (entry.serve)(primitive, arguments, id, outbox),
            None => outbox
                .call::<()>(id)
                .fail(Fault::UnknownOperation(format!("number {operation}"))),
        }
    }
}

fn serve<P: Serve<O>, O: Operation>(
    primitive: &mut P,
    arguments: &Payload,
    id: CallId,
    outbox: &Outbox,
) {
    let call = outbox.call(id);
    // A panic of a user's `Deserialize` is a fault of this call: the object is as it was.
    match guarded_in(P::FORM, || arguments.decode::<O>()) {
        Ok(operation) => primitive.serve(operation, call),
        Err(error) => call.fail(Fault::BadArguments(error.to_string())),
    }
}

impl<P> fmt::Debug for Operations<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

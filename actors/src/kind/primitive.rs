//! The traits of a hosted kind, [`Primitive`] and [`Serve`], and the table of its operations.
//!
//! Invariant: a primitive is a synchronous state machine. It receives one input at a time, has no
//! clock, no thread and no socket, and its only output is the answers to its calls.

use std::fmt;

use lockkeeper_protocol::{
    CallId, Fault, Operation, Refusal,
    codec::{self, Form, Payload, guarded_in},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::kind::{
    call::{Call, Outbox},
    hang_up::HangUp,
    survey::Survey,
};

/// A kind of hosted object: its state, and how it handles calls.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kind of objects",
    label = "not a kind",
    note = "implement `lockkeeper::kind::Primitive` for it; data of other types is the value of a `Value`, or an item of \
            a `Queue`"
)]
pub trait Primitive: Sized + Unpin + 'static {
    /// The name on the wire, stable and unique within a manager.
    const KIND: &'static str;
    /// The form of structs in the kind's arguments, replies and specs. Only the built-in kinds use another
    /// form than the default, because PROTOCOL.md specifies their bytes. Their arguments and replies contain
    /// no code of users, so they are encoded and decoded without a guard against panics.
    #[doc(hidden)]
    const FORM: Form = Form::Named;
    /// The type from which an object of this kind is created.
    type Spec: Serialize + DeserializeOwned + Send + 'static;

    /// Creates the object.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] with the valid range when the spec is out of range. If it panics, the client
    /// gets [`Refusal::Invalid`] with the text of the panic, and there is no object.
    fn create(spec: Self::Spec) -> Result<Self, Refusal>;

    /// Returns the text of a spec, for the error about an object of the same name that was made with another
    /// one. The default has the names and values of its fields, and is cut after about 200 bytes. If it panics,
    /// the error has the text of the panic in its place.
    #[must_use]
    fn describe(spec: &Self::Spec) -> String {
        codec::text_of(spec)
    }

    /// Lists the operations of the kind: `operations.on::<Add>().on::<Read>()`.
    fn operations(operations: &mut Operations<Self>);

    /// Undoes call `id`, which still waits, or was answered without its caller seeing the answer.
    ///
    /// What the call held goes to the next call in line. The default does nothing, which suits a kind that parks
    /// no call and grants nothing.
    fn withdraw(&mut self, id: CallId) {
        let _ = id;
    }

    /// Ends call `id`, which still waits, because its deadline has passed. The default calls
    /// [`Self::withdraw`], and a call that this drops is answered with `TimedOut`.
    fn expire(&mut self, id: CallId) {
        self.withdraw(id);
    }

    /// Forgets all waiting calls of an ended session, and then releases all that it holds. See
    /// [`HangUp::continue_next_turn`] for a session with more holds and waiting calls than one turn should
    /// handle. The default does nothing, which suits a kind that parks no call and grants nothing.
    ///
    /// The host may call it again for a session that it has hung up before. There is nothing left to do then.
    fn hang_up(&mut self, session: &HangUp) {
        let _ = session;
    }

    /// Drops some entries of an object that was removed, and returns whether there are others.
    ///
    /// The host calls it, in turns of their own, until it returns `false`, and then drops the object with the rest.
    /// A kind that stores millions of entries drops some thousands of them in each turn, so that the manager's
    /// other objects can serve their calls meanwhile. No call reaches the object any more, so its other state need
    /// not fit the entries that are left. The default returns `false`.
    fn drop_some(&mut self) -> bool {
        false
    }

    /// Returns the holders and waiters of the object. It is called rarely, so it may visit each of them. The default
    /// reports none, and `inspect` prints `-`.
    fn survey(&self) -> Survey {
        Survey::default()
    }
}

/// A primitive that serves one operation.
#[diagnostic::on_unimplemented(
    message = "the kind `{Self}` does not serve the operation `{O}`",
    label = "`{Self}` has no such operation",
    note = "a kind of your own needs `impl Serve<{O}> for {Self}`, and `.on::<{O}>()` in its `operations`"
)]
pub trait Serve<O: Operation>: Primitive {
    /// Answers the call, or stores it to answer it later.
    ///
    /// A call that is dropped without an answer fails with [`Fault::Unanswered`](crate::Fault::Unanswered).
    fn serve(&mut self, operation: O, call: Call<O::Reply>);
}

/// The operations of a kind, in the order in which they were listed.
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
    /// Panics if the kind lists two operations with the same name.
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

    /// Returns the names in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|entry| entry.name)
    }

    /// Returns the numbers of the operations that are reserved for administrators.
    pub fn administrative(&self) -> impl Iterator<Item = u32> + '_ {
        let numbered = (0..).zip(&self.0);
        numbered.filter_map(|(number, entry)| entry.is_administrative.then_some(number))
    }

    /// Returns each name, and whether the operation is reserved for administrators.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        let entries = self.0.iter();
        entries.map(|entry| (entry.name, entry.is_administrative))
    }

    /// Decodes the arguments and lets the primitive serve the call. An error in the arguments is answered
    /// with a fault.
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
    if O::MOST_BYTES < usize::MAX && arguments.len() > O::MOST_BYTES {
        return call.fail(too_long::<O>(arguments.len()));
    }
    // A panic in a user's `Deserialize` is a fault of this call, and the object is unchanged.
    match guarded_in(P::FORM, || arguments.decode::<O>()) {
        Ok(operation) => primitive.serve(operation, call),
        Err(error) => call.fail(Fault::BadArguments(error.to_string())),
    }
}

/// The fault of arguments that are not decoded, because a check of megabytes of text would delay other calls.
#[cold]
fn too_long<O: Operation>(length: usize) -> Fault {
    let (name, most) = (O::NAME, O::MOST_BYTES);
    Fault::BadArguments(format!(
        "the arguments of {name} have at most {most} bytes, not {length}"
    ))
}

impl<P> fmt::Debug for Operations<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

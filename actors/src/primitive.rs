//! What a hosted kind is: three traits, and no implementation of them.
//!
//! Invariant: a primitive is a synchronous state machine. It sees one input at a time, it has no
//! clock, no thread and no socket, and its only output is the answers that it gives to its calls.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Call, CallId, HangUp, Operations, Refusal, Survey};

/// A request that a primitive answers, with the type of its answer.
///
/// ```
/// use lockkeeper_actors::Operation;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64);
///
/// impl Operation for Add {
///     const NAME: &'static str = "add";
///     type Reply = i64;
/// }
/// ```
pub trait Operation: Serialize + DeserializeOwned + Send + 'static {
    /// The name on the wire: stable, and unique within a kind.
    const NAME: &'static str;
    /// What the caller gets. A refusal is part of it.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// A kind of hosted object: its state, and what becomes of a call.
pub trait Primitive: Sized + Unpin + 'static {
    /// The name on the wire: stable, and unique within a manager.
    const KIND: &'static str;
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

    /// Gives back all that an ended session holds, after forgetting all that it waits for.
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

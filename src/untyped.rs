//! Untyped calls, by names and bytes, to objects of any kind. It may import `client`, what that stands on, and
//! `proxy`.
//!
//! The operations, their arguments and their replies are MessagePack as in PROTOCOL.md, and are not decoded
//! here. Invariant: from the binding on, a call takes the same path as that of any other proxy.

use std::{fmt, future::Future, sync::Arc};

use lockkeeper_protocol::{
    CallId, Proof,
    codec::{Form, Payload},
};
use serde::Serialize;

use crate::{
    address::Address,
    client::{connection::Connection, deadline::Deadline, owner::Owner},
    error::CallError,
    proxy::{
        ask::Bind,
        binding::Binding,
        bound::{Bound, Receipt, Sent},
        hold,
        wait::Wait,
    },
    subject::{Asked, Subject},
};

/// A hosted object of any kind, called by the names of its operations. Clones refer to the same
/// object.
#[derive(Clone)]
pub struct Object {
    shared: Arc<Shared>,
    /// The caller, if it is not the current task or thread.
    owner: Option<Owner>,
}

/// The state that all clones share.
struct Shared {
    kind: String,
    address: Address,
    name: String,
    binding: Binding,
}

impl Object {
    /// Names an object at the address of the shard that has it.
    pub(crate) fn at(address: Address, kind: &str, name: &str) -> Self {
        Self::bound_by(Binding::default(), address, kind, name.to_owned())
    }

    /// Opens an object: a new one without a name, or the one of that name, which is created if
    /// necessary.
    pub(crate) async fn open_over(
        connection: &Arc<Connection>,
        kind: &str,
        name: Option<&str>,
        spec: &[u8],
    ) -> Result<Self, CallError> {
        let opened = connection.open(kind, name, Some(spec)).await;
        let about = || Subject::of(kind.to_owned(), name).asked(Asked::Open);
        let object = opened.map_err(|error| error.about(about))?;
        let (address, opened_as) = (connection.address().clone(), object.name.clone());
        let bound = Bound {
            kind: kind.to_owned().into(),
            form: Form::Compact,
            connection: Arc::clone(connection),
            object,
        };
        let binding = Binding::to(bound, name.is_some(), spec.to_vec());
        Ok(Self::bound_by(binding, address, kind, opened_as))
    }

    fn bound_by(binding: Binding, address: Address, kind: &str, name: String) -> Self {
        let shared = Arc::new(Shared {
            kind: kind.to_owned(),
            address,
            name,
            binding,
        });
        Self {
            shared,
            owner: None,
        }
    }

    /// Returns the address of the object's manager, or of the shard that has the object.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Returns the kind of the object.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.shared.kind
    }

    /// Returns the name of the object. That of an anonymous object begins with `#`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the same object with an owner as its caller, from any task or thread: a manager that detects
    /// deadlocks treats all of its calls as those of one caller. A reentrant lock also needs [the owner's
    /// number](Owner::number) in the arguments.
    #[must_use]
    pub fn owned_by(&self, owner: Owner) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            owner: Some(owner),
        }
    }

    /// Calls an operation and waits for its answer.
    ///
    /// A refusal, such as `NotHeld`, is in the bytes of the reply.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownOperation`, which names it, with `BadArguments` for bytes that
    /// are not its arguments, and with `UnknownKind`; else as [`Proxy::call`](crate::Proxy::call).
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn call(&self, operation: &str, arguments: &[u8]) -> Wait<Answer> {
        let (object, call) = (self.clone(), Encoded::new(operation, arguments));
        Wait::new(move |timeout| async move {
            let (owner, deadline) = (object.owner.as_ref(), Deadline::from(timeout));
            let send = |bound: &Bound| call.send(bound, owner, deadline);
            let (bound, sent) = object.send(object.bound().await?, send).await?;
            Answer::to(sent, &bound, owner).await
        })
    }

    /// Sends an operation whose answer is dropped, and does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownOperation`, or with `Limit` above the limit of arguments,
    /// 1,024 bytes less than a message may have. An object that was not used before is opened first, with the
    /// errors of [`Self::call`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped before it returns, the operation may have been sent.
    pub async fn cast(&self, operation: &str, arguments: &[u8]) -> Result<(), CallError> {
        self.bound().await?.cast_encoded(operation, arguments)
    }
}

impl Bind for Object {
    fn opened(&self) -> Option<Arc<Bound>> {
        self.shared.binding.get()
    }

    async fn reopen(&self) -> Result<Arc<Bound>, CallError> {
        let Shared {
            kind,
            address,
            name,
            binding,
        } = &*self.shared;
        let kind = kind.clone();
        Box::pin(binding.bind(kind, Form::Compact, address, name)).await
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared {
            kind,
            address,
            name,
            ..
        } = &*self.shared;
        write!(f, "{kind} {name:?} at {address}")
    }
}

/// A call with its name and its bytes.
struct Encoded {
    operation: String,
    arguments: Vec<u8>,
}

impl Encoded {
    fn new(operation: &str, arguments: &[u8]) -> Self {
        Self {
            operation: operation.to_owned(),
            arguments: arguments.to_vec(),
        }
    }

    fn send(
        &self,
        bound: &Bound,
        owner: Option<&Owner>,
        deadline: Deadline,
    ) -> Result<Sent, CallError> {
        bound.send(owner, &self.operation, &self.arguments, deadline)
    }
}

/// The answer of a call: its reply, and the id by which the call may hold something.
///
/// Dropping it releases nothing: if the answer is a grant, convert it to a [`Hold`] for the guard of the
/// binding.
#[must_use = "what the call was granted is held until its session ends"]
pub struct Answer {
    bound: Arc<Bound>,
    owner: Option<Owner>,
    receipt: Receipt,
    reply: Payload,
}

impl Answer {
    /// Waits for the answer to a call.
    async fn to(sent: Sent, bound: &Arc<Bound>, owner: Option<&Owner>) -> Result<Self, CallError> {
        let (receipt, reply) = bound.answer(sent, |reply| Ok(reply.clone())).await?;
        Ok(Self {
            bound: Arc::clone(bound),
            owner: owner.cloned(),
            receipt,
            reply,
        })
    }

    /// Returns the id of the call, which identifies the grant if the answer is one.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.receipt.call
    }

    /// Returns the reply in MessagePack.
    #[must_use]
    pub fn reply(&self) -> &[u8] {
        &self.reply
    }

    /// Returns the hold of the call, for a reply that is a grant.
    pub fn into_hold(self) -> Hold {
        Hold {
            hold: hold::Hold::new(self.bound, self.receipt),
            owner: self.owner,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("id", &self.id())
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

/// The hold of a granted call, for the guard of a binding.
///
/// Dropping it releases nothing: the drop of the guard must send the operation that does, such as
/// `release`, with [`Self::cast`]. Send operations that name the grant by [`Self::proof`] through this
/// hold and not through the [`Object`], which may use another session by now.
#[must_use = "what the call was granted is held until its session ends"]
pub struct Hold {
    hold: hold::Hold,
    owner: Option<Owner>,
}

impl Hold {
    /// Returns the id of the granted call.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.hold.grant()
    }

    /// Returns the grant in MessagePack, as an argument of operations that this hold sends.
    #[must_use]
    pub fn proof(&self) -> Vec<u8> {
        encoded(&self.hold.proof())
    }

    /// Returns the grant in MessagePack, as an argument of operations of any session: a signed call. Treat
    /// it like a password.
    #[must_use]
    pub fn signed_proof(&self) -> Vec<u8> {
        encoded(&Proof::Signed(self.hold.sign()))
    }

    /// Returns whether it is still held, as far as this process knows.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until it is no longer held, and returns the reason, as [`LockGuard::lost`](crate::LockGuard::lost) does: the
    /// session is lost, the object is removed, another process has ended the hold, or this is dropped. The future borrows
    /// nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = CallError> + Send + use<> {
        self.hold.lost()
    }

    /// Calls the object over the session of the hold.
    ///
    /// # Errors
    ///
    /// As [`Object::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn call(&self, operation: &str, arguments: &[u8]) -> Wait<Answer> {
        let (bound, owner) = (Arc::clone(self.hold.bound()), self.owner.clone());
        let call = Encoded::new(operation, arguments);
        Wait::new(move |timeout| async move {
            let deadline = Deadline::from(timeout);
            let sent = call.send(&bound, owner.as_ref(), deadline)?;
            Answer::to(sent, &bound, owner.as_ref()).await
        })
    }

    /// Calls an operation whose timeout ends only a part of the wait, such as the `wait` of a condition,
    /// whose sleeper then waits for the lock again without a limit.
    ///
    /// # Errors
    ///
    /// As [`Object::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn wait(&self, operation: &str, arguments: &[u8]) -> Wait<Answer> {
        let (bound, owner) = (Arc::clone(self.hold.bound()), self.owner.clone());
        let call = Encoded::new(operation, arguments);
        Wait::new(move |timeout| async move {
            let deadline = timeout.map_or(Deadline::Never, Deadline::Wakes);
            let sent = call.send(&bound, owner.as_ref(), deadline)?;
            Answer::to(sent, &bound, owner.as_ref()).await
        })
    }

    /// Sends a one-way call over the session of the hold. It never waits, so the drop of a guard can call it.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownOperation`, or with `Limit` above the limit of arguments,
    /// 1,024 bytes less than a message may have, and [`CallError::Forked`] in a forked child. If the session has
    /// ended, nothing is sent, because the hold has ended too.
    pub fn cast(&self, operation: &str, arguments: &[u8]) -> Result<(), CallError> {
        self.hold.bound().cast_encoded(operation, arguments)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.id()).finish()
    }
}

/// Encodes numbers and bytes, which never fails.
fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    Form::Compact.encode(value).unwrap_or_default()
}

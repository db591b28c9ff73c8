//! Calls by names and bytes: an object of any kind without a type of its own here.
//!
//! The operations, their arguments and their replies are MessagePack as PROTOCOL.md tells. Nothing of it is
//! decoded here. Invariant: a call takes the same way as that of any other proxy, from the binding on.

use std::{fmt, future::Future, sync::Arc};

use lockkeeper_protocol::{
    CallId, Proof,
    codec::{Form, Payload},
};
use serde::Serialize;

use crate::{
    address::Address,
    client::{calls::NoReply, connection::Connection, deadline::Deadline},
    error::CallError,
    proxy::{
        binding::{Bind, Binding, Current},
        bound::{Bound, Receipt},
        hold,
        owner::Owner,
        wait::Wait,
    },
    subject::Subject,
};

/// A hosted object of any kind, called by the names of its operations. Clones are the same object.
#[derive(Clone)]
pub struct Object {
    shared: Arc<Shared>,
    /// Who calls, if that is not the current task or thread.
    owner: Option<Owner>,
}

/// What the clones of an object share.
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

    /// Opens an object: a new one without a name, else the one of that name, made if need be.
    pub(crate) async fn open_over(
        connection: &Arc<Connection>,
        kind: &str,
        name: Option<&str>,
        spec: &[u8],
    ) -> Result<Self, CallError> {
        let opened = connection.open(kind, name, Some(spec)).await;
        let about = || Subject::of(kind.to_owned(), name);
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

    /// Where the object is: its manager's address, or that of the shard of it which has the object.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// The kind of the object.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.shared.kind
    }

    /// The name of the object with its manager. That of an anonymous one begins with `#`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The same object, called by an owner, whichever task or thread calls: a manager that looks for deadlocks
    /// takes its calls for those of one caller. A reentrant lock wants
    /// [the owner's number](Owner::number) among the arguments as well.
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
            let (owner, call) = (object.owner.as_ref(), &call);
            let answer = object.over_bound(|bound| async move {
                let deadline = Deadline::from(timeout);
                call.of(&bound, owner, deadline).await
            });
            answer.await
        })
    }

    /// Sends an operation whose answer is dropped, and does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownOperation`, or with `Limit` for arguments above the limit of a
    /// message. An object that was not used before is opened first, with the errors of [`Self::call`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it has returned, the operation may have been sent.
    pub async fn cast(&self, operation: &str, arguments: &[u8]) -> Result<(), CallError> {
        self.bound().await?.cast_encoded(operation, arguments)
    }
}

impl Bind for Object {
    async fn bound(&self) -> Result<Current<'_>, CallError> {
        let Shared {
            kind,
            address,
            name,
            binding,
        } = &*self.shared;
        match binding.get() {
            Some(bound) => Ok(bound),
            None => {
                let kind = kind.clone();
                binding.bind(kind, Form::Compact, address, name).await
            }
        }
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

    /// Calls an object.
    async fn of(
        &self,
        bound: &Arc<Bound>,
        owner: Option<&Owner>,
        deadline: Deadline,
    ) -> Result<Answer, NoReply> {
        let Self {
            operation,
            arguments,
        } = self;
        let read = |reply: &Payload| Ok(reply.clone());
        let answer = bound.call_by(owner, operation, arguments, deadline, read);
        let (receipt, reply) = answer.await?;
        Ok(Answer {
            bound: Arc::clone(bound),
            owner: owner.cloned(),
            receipt,
            reply,
        })
    }
}

/// The answer of a call: its reply, and the id by which the call may hold something.
///
/// Its drop gives nothing back: an answer that is a grant goes into a [`Hold`] for the guard of the binding.
#[must_use = "what the call was granted is held until its session ends"]
pub struct Answer {
    bound: Arc<Bound>,
    owner: Option<Owner>,
    receipt: Receipt,
    reply: Payload,
}

impl Answer {
    /// The id of the call, which is the grant where the answer is one.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.receipt.call
    }

    /// The reply, in MessagePack.
    #[must_use]
    pub fn reply(&self) -> &[u8] {
        &self.reply
    }

    /// What the call was granted, if the reply says that it was.
    pub fn into_hold(self) -> Hold {
        Hold {
            hold: hold::Hold::new(&self.bound, self.receipt),
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

/// What a call was granted: for the guard of a binding.
///
/// Its drop gives nothing back: the drop of the guard casts the operation that does, such as `release`, by
/// [`Self::cast`]. Operations that name the grant by [`Self::proof`] go out by this hold and not by the
/// [`Object`], which may use another session by now.
#[must_use = "what the call was granted is held until its session ends"]
pub struct Hold {
    hold: hold::Hold,
    owner: Option<Owner>,
}

impl Hold {
    /// The id of the call that was granted.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.hold.grant()
    }

    /// The grant as an argument of operations that this sends, in MessagePack.
    #[must_use]
    pub fn proof(&self) -> Vec<u8> {
        encoded(&self.hold.proof())
    }

    /// The grant as an argument of operations of any session, in MessagePack: a signed call, which is to be
    /// kept as secret as a password.
    #[must_use]
    pub fn ticket(&self) -> Vec<u8> {
        encoded(&Proof::Signed(self.hold.sign()))
    }

    /// Whether it is held still, as far as this process can know.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until it is no longer held: until the session is lost, the object is removed, another process
    /// ends the hold, or this is dropped. Borrows nothing, so that work can be raced against it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.hold.lost()
    }

    /// Calls the object over the session that holds.
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
            Ok(call.of(&bound, owner.as_ref(), deadline).await?)
        })
    }

    /// Calls an operation whose timeout ends a part of the wait, after which it goes on for as long as that
    /// takes: the `wait` of a condition, whose sleeper waits for the lock again.
    ///
    /// # Errors
    ///
    /// As [`Object::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn sleep(&self, operation: &str, arguments: &[u8]) -> Wait<Answer> {
        let (bound, owner) = (Arc::clone(self.hold.bound()), self.owner.clone());
        let call = Encoded::new(operation, arguments);
        Wait::new(move |timeout| async move {
            let deadline = timeout.map_or(Deadline::Never, Deadline::Wakes);
            Ok(call.of(&bound, owner.as_ref(), deadline).await?)
        })
    }

    /// Sends the object an operation over the session that holds. It never waits, so it is what the drop of a
    /// guard calls.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownOperation`, or with `Limit` for arguments above the limit of a
    /// message, and [`CallError::Forked`] in a forked child. Over a session that has ended nothing is sent, and
    /// there is nothing to give back.
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

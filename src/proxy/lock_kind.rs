//! The trait of the kinds with one holder that `LockOf` calls.

use std::fmt;

use lockkeeper_actors::{Serve, sync::Exclusive};
use lockkeeper_protocol::{Operation, Proof, Refusal, operations::Granted};
use serde::{Serialize, de::DeserializeOwned};

use crate::proxy::owner::Owner;

/// What a kind with one holder at a time adds to what all of them have.
pub trait LockKind: Exclusive + Serve<Self::Acquire> + Serve<Self::Adopt> {
    /// What a proxy is about beside the lock: whom it acts for, or which wait set it is of.
    type Aspect: Clone + Default + fmt::Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Who enters, where it matters.
    type Owner: Clone + fmt::Debug + Send + Sync;
    /// Waits for the lock.
    type Acquire: Operation<Reply = Result<Granted, Refusal>>;
    /// Takes a hold over.
    type Adopt: Operation<Reply = Result<Granted, Refusal>>;

    /// Who the caller is.
    fn owner(aspect: &Self::Aspect) -> Self::Owner;

    /// How that one enters.
    fn acquire(owner: &Self::Owner) -> Self::Acquire;

    /// How that one takes a hold over.
    fn adopt(owner: &Self::Owner, grant: Proof) -> Self::Adopt;

    /// Who stays the owner for as long as a ticket is kept where it was made.
    fn kept(_: &Self::Owner) -> Option<Owner> {
        None
    }
}

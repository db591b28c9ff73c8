//! The trait of the kinds with one holder that `LockOf` calls.

use std::fmt;

use lockkeeper_actors::{Serve, sync::Exclusive};
use lockkeeper_protocol::{Operation, Proof, Refusal, operations::Granted};
use serde::{Serialize, de::DeserializeOwned};

use crate::proxy::owner::Owner;

/// What a kind with one holder at a time adds to what all of them have.
pub trait LockKind: Exclusive + Serve<Self::Acquire> + Serve<Self::Adopt> {
    /// What a proxy has beside the lock: the owner that it acts for, or its wait set.
    type Aspect: Clone + Default + fmt::Debug + Serialize + DeserializeOwned + Send + Sync;
    /// What identifies the holder beside its session.
    type Owner: Clone + fmt::Debug + Send + Sync;
    /// Waits for the lock.
    type Acquire: Operation<Reply = Result<Granted, Refusal>>;
    /// Takes a hold over.
    type Adopt: Operation<Reply = Result<Granted, Refusal>>;

    /// Returns the owner that the caller acts as.
    fn owner(aspect: &Self::Aspect) -> Self::Owner;

    /// Makes the operation by which the owner acquires the lock.
    fn acquire(owner: &Self::Owner) -> Self::Acquire;

    /// Makes the operation by which the owner takes over a hold.
    fn adopt(owner: &Self::Owner, grant: Proof) -> Self::Adopt;

    /// Returns the owner to keep for as long as a ticket exists in the process that made it.
    fn kept(_: &Self::Owner) -> Option<Owner> {
        None
    }
}

//! The trait of the kinds with one holder that `LockOf` calls.

use std::fmt;

use lockkeeper_actors::{Serve, sync::Exclusive};
use lockkeeper_protocol::{Operation, Proof, Refusal, operations::Granted};
use serde::{Serialize, de::DeserializeOwned};

use crate::client::owner::Owner;

/// The differences between the kinds with one holder at a time.
pub trait LockKind: Exclusive + Serve<Self::Acquire> + Serve<Self::Adopt> {
    /// The additional data of a proxy: its owner, or its wait set.
    type ProxyState: Clone + Default + fmt::Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Identifies the holder within its session.
    type Data: Clone + fmt::Debug + Send + Sync + 'static;
    /// Waits for the lock.
    type Acquire: Operation<Reply = Result<Granted, Refusal>>;
    /// Adopts a hold.
    type Adopt: Operation<Reply = Result<Granted, Refusal>>;

    /// Returns the owner that the caller acts as.
    fn data(state: &Self::ProxyState) -> Self::Data;

    /// Makes the operation by which the owner acquires the lock.
    fn acquire(data: &Self::Data) -> Self::Acquire;

    /// Makes the operation by which the owner adopts a hold.
    fn adopt(data: &Self::Data, grant: Proof) -> Self::Adopt;

    /// Returns the owner that a ticket keeps in the process that made it.
    fn kept(_: &Self::Data) -> Option<Owner> {
        None
    }
}

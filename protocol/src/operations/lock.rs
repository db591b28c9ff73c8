//! The operations of locks and reentrant locks: arguments, replies and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation, operations::grant::Granted, proof::Proof};

/// Waits to become the holder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Acquire;

/// Moves the hold to the calling session. From then on this call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Adopt {
    /// The call that was granted.
    pub grant: Proof,
}

/// Takes the hold from its holder. Returns whether there was one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ForceUnlock;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetLockStatus;

/// The state of a lock at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockStatus {
    /// Whether it is held.
    pub is_held: bool,
    /// The number of entries of its holder: more than 1 only for reentrant locks.
    pub depth: u64,
    /// The number of waiting calls.
    pub waiting: u64,
}

impl Operation for Acquire {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for Adopt {
    const NAME: &'static str = "adopt";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for ForceUnlock {
    const NAME: &'static str = "force_unlock";
    const IS_ADMINISTRATIVE: bool = true;
    type Reply = bool;
}

impl Operation for GetLockStatus {
    const NAME: &'static str = "status";
    type Reply = LockStatus;
}

/// Waits to become the holder, or enters again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AcquireAs {
    /// The number of the owner, which the session assigns and never reuses.
    pub owner: u64,
}

/// Moves the hold of an owner with a single entry to an owner of the calling session. From then on this call
/// is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AdoptAs {
    /// The call that was granted.
    pub grant: Proof,
    /// The number of the new owner.
    pub owner: u64,
}

impl Operation for AcquireAs {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AdoptAs {
    const NAME: &'static str = "adopt";
    type Reply = Result<Granted, Refusal>;
}

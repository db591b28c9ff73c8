//! The operations of locks and reentrant locks: arguments, replies and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation, operations::grant::Granted, proof::Proof};

/// Waits to be the holder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Acquire;

/// Moves the hold to the calling session; from then on the call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Adopt {
    /// The call that was granted.
    pub grant: Proof,
}

/// Takes the hold from its holder. Answers whether there was one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ForceUnlock;

/// Asks who is there, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Status;

/// The state of a lock at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockStatus {
    /// Whether it is held.
    pub held: bool,
    /// How often its holder has entered it: more than once only where locks are reentrant.
    pub depth: u64,
    /// How many calls wait for it.
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

impl Operation for Status {
    const NAME: &'static str = "status";
    type Reply = LockStatus;
}

/// Waits to be the holder, or enters again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AcquireAs {
    /// Who enters: a number that the session gives no other owner, ever.
    pub owner: u64,
}

/// Moves the hold of an owner that is inside once to an owner of the calling session; from then on
/// the call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AdoptAs {
    /// The call that was granted.
    pub grant: Proof,
    /// Who holds it then.
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

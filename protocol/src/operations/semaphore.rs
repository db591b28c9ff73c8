//! The operations of semaphores: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    operation::Operation,
    operations::grant::{Granted, ReleaseBy},
    proof::Proof,
};

/// What a semaphore is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphoreSpec {
    /// How many permits it begins with: 0 to 4,294,967,295.
    pub permits: i64,
    /// Who may release what a session holds.
    pub release_by: ReleaseBy,
}

impl From<u32> for SemaphoreSpec {
    fn from(permits: u32) -> Self {
        Self {
            permits: permits.into(),
            release_by: ReleaseBy::default(),
        }
    }
}

/// Waits for a number of permits, all or none.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AcquireMany {
    /// How many.
    pub permits: u32,
}

/// Gives permits of a grant back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReleasePermits {
    /// The call that was granted.
    pub grant: Proof,
    /// How many of its permits.
    pub permits: u32,
}

/// Parts with permits of a grant for good: they do not come back when the session ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// The call that was granted.
    pub grant: Proof,
    /// How many of its permits.
    pub permits: u32,
}

/// Adds permits that were not held.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AddPermits {
    /// How many.
    pub permits: u32,
}

/// Refuses all who wait and all who come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Close;

/// Asks for the numbers, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Count;

/// The state of a semaphore at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SemaphoreStatus {
    /// How many permits are free.
    pub available: u64,
    /// How many are held.
    pub held: u64,
    /// How many calls wait.
    pub waiting: u64,
    /// Whether it was closed.
    pub closed: bool,
}

impl Operation for AcquireMany {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for ReleasePermits {
    const NAME: &'static str = "release";
    type Reply = Result<(), Refusal>;
}

impl Operation for Forget {
    const NAME: &'static str = "forget";
    type Reply = Result<(), Refusal>;
}

impl Operation for AddPermits {
    const NAME: &'static str = "add_permits";
    type Reply = Result<(), Refusal>;
}

impl Operation for Close {
    const NAME: &'static str = "close";
    type Reply = ();
}

impl Operation for Count {
    const NAME: &'static str = "count";
    type Reply = SemaphoreStatus;
}

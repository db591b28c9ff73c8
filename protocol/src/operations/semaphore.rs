//! The operations of semaphores: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    codec::whole::whole,
    fault::Refusal,
    operation::Operation,
    operations::grant::{Granted, ReleaseBy},
    proof::Proof,
};

/// The spec of a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphoreSpec {
    /// The initial number of permits: 0 to 4,294,967,295.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
    /// Who may release a session's permits.
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
    /// The number of permits: 0 to 4,294,967,295.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
}

/// Releases permits of a grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReleasePermits {
    /// The call that was granted.
    pub grant: Proof,
    /// The number of permits to release: at least 1.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
}

/// Consumes permits of a grant: they do not return when the session ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// The call that was granted.
    pub grant: Proof,
    /// The number of permits to consume: at least 1.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
}

/// Adds permits that were not held.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AddPermits {
    /// The number of permits to add: 0 to 4,294,967,295.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
}

/// Refuses all waiting and future calls.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Close;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetSemaphoreStatus;

/// The state of a semaphore at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SemaphoreStatus {
    /// The number of free permits.
    #[doc(alias = "available_permits")]
    #[doc(alias = "get_value")]
    pub available: u64,
    /// The number of held permits.
    pub held: u64,
    /// The number of waiting calls.
    pub waiting: u64,
    /// Whether the semaphore is closed.
    pub is_closed: bool,
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

impl Operation for GetSemaphoreStatus {
    const NAME: &'static str = "status";
    type Reply = SemaphoreStatus;
}

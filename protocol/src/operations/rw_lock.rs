//! The operations of a readers-writer lock: arguments, replies and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation, operations::grant::Granted, proof::Proof};

/// How a readers-writer lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Shared with other readers.
    Read,
    /// Shared with other readers, with the right to become the writer. At most one hold is upgradable.
    Upgradable,
    /// Exclusive.
    Write,
}

/// Waits for the lock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AcquireFor {
    /// The requested access.
    pub access: Access,
}

/// Waits until an upgradable hold is the only one, and makes it the writer's. The call is the grant then.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// The call that was granted, of the same session.
    pub grant: Proof,
}

/// Downgrades a hold, so that others can share the lock. The lock is held throughout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Downgrade {
    /// The call that was granted, of the same session. It stays the grant.
    pub grant: Proof,
    /// The new access, which is weaker than the current one.
    pub to: Access,
}

/// Asks for the holders and waiters, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetRwLockStatus;

/// The state of a readers-writer lock at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RwLockStatus {
    /// The number of readers, without the upgradable one.
    pub readers: u64,
    /// Whether an upgradable reader holds it.
    pub has_upgradable: bool,
    /// Whether a writer holds it.
    pub has_writer: bool,
    /// The number of calls that wait for the lock or for an upgrade.
    pub waiting: u64,
}

impl Operation for AcquireFor {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for Upgrade {
    const NAME: &'static str = "upgrade";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for Downgrade {
    const NAME: &'static str = "downgrade";
    type Reply = Result<(), Refusal>;
}

impl Operation for GetRwLockStatus {
    const NAME: &'static str = "status";
    type Reply = RwLockStatus;
}

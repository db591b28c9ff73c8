//! The operations of a condition, and their replies.

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    operation::{Operation, SHORT},
    operations::grant::Granted,
    proof::Proof,
};

/// Releases the lock and sleeps until a notification or the timeout, then waits for the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sleep {
    /// The call that holds the lock.
    pub grant: Proof,
    /// The wait set: at most 255 bytes.
    pub set: String,
}

/// Wakes the calls that have slept longest in a wait set. Returns their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notify {
    /// The call that holds the lock.
    pub grant: Proof,
    /// The wait set: at most 255 bytes.
    pub set: String,
    /// The most calls to wake, at least 0; `None` wakes all.
    pub most: Option<i128>,
}

/// Asks for the number of sleepers in a wait set, without waiting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountSleepers {
    /// The wait set: at most 255 bytes.
    pub set: String,
}

/// The answer to a sleeper that holds the lock again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// The grant of the lock.
    pub granted: Granted,
    /// The reason why it woke up.
    pub wake: Wake,
}

/// The reason why a sleeper of a condition woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wake {
    /// A notification.
    Notified,
    /// The end of its timeout.
    TimedOut,
}

impl Operation for Sleep {
    const NAME: &'static str = "wait";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<Woken, Refusal>;
}

impl Operation for Notify {
    const NAME: &'static str = "notify";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<u64, Refusal>;
}

impl Operation for CountSleepers {
    const NAME: &'static str = "sleepers";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<u64, Refusal>;
}

//! The operations of a condition, and their replies.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation, operations::grant::Granted, proof::Proof};

/// Frees the lock and sleeps, until it is notified or its time is over; then waits for the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sleep {
    /// The call that holds the lock.
    pub grant: Proof,
    /// The wait set: at most 255 bytes.
    pub set: String,
}

/// Wakes those who have slept longest in a wait set. Answers how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notify {
    /// The call that holds the lock.
    pub grant: Proof,
    /// The wait set: at most 255 bytes.
    pub set: String,
    /// How many at the most; without a number all.
    pub most: Option<u64>,
}

/// Asks how many sleep in a wait set, without waiting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountSleepers {
    /// The wait set: at most 255 bytes.
    pub set: String,
}

/// What a sleeper is told that holds the lock again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// That it does.
    pub granted: Granted,
    /// What woke it.
    pub wake: Wake,
}

/// What woke a sleeper of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wake {
    /// A notification.
    Notified,
    /// The end of its time.
    TimedOut,
}

impl Operation for Sleep {
    const NAME: &'static str = "wait";
    type Reply = Result<Woken, Refusal>;
}

impl Operation for Notify {
    const NAME: &'static str = "notify";
    type Reply = Result<u64, Refusal>;
}

impl Operation for CountSleepers {
    const NAME: &'static str = "sleepers";
    type Reply = Result<u64, Refusal>;
}

//! The operations of a latch: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{codec::whole::whole, fault::Refusal, operation::Operation};

/// The spec of a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatchSpec {
    /// The initial count: 0 to 4,294,967,295. A latch of 0 is open.
    #[serde(deserialize_with = "whole")]
    pub count: i128,
}

/// Counts down. Returns the count that is left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountDown {
    /// The number to subtract: 0 up to the count that is left.
    #[serde(deserialize_with = "whole")]
    pub by: i128,
}

/// Waits until the count is zero.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitOpen;

/// Counts down, and waits until the count is zero. The count is not restored if the wait ends early.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ArriveAndWait {
    /// The number to subtract: 0 up to the count that is left.
    #[serde(deserialize_with = "whole")]
    pub by: i128,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetLatchStatus;

/// The state of a latch at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatchStatus {
    /// The count that is left. At 0 the latch is open.
    #[doc(alias = "getCount")]
    pub count: u32,
    /// The number of waiting calls.
    pub waiting: u64,
}

impl LatchStatus {
    /// Returns whether the count is zero. An open latch stays open.
    #[doc(alias = "try_wait")]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.count == 0
    }
}

impl Operation for CountDown {
    const NAME: &'static str = "count_down";
    type Reply = Result<u32, Refusal>;
}

impl Operation for WaitOpen {
    const NAME: &'static str = "wait";
    type Reply = Result<(), Refusal>;
}

impl Operation for ArriveAndWait {
    const NAME: &'static str = "arrive_and_wait";
    type Reply = Result<(), Refusal>;
}

impl Operation for GetLatchStatus {
    const NAME: &'static str = "status";
    type Reply = LatchStatus;
}

//! The operations of a latch: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation};

/// What a latch is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatchSpec {
    /// From how many it counts down: 0 to 4,294,967,295. One of 0 is open.
    pub count: i64,
}

/// Counts down. Answers how many are left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountDown {
    /// By how many: 0 to as many as are left.
    pub by: u32,
}

/// Waits until none are left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitOpen;

/// Counts down, and waits until none are left. What was counted stays so, whatever becomes of the
/// wait.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ArriveAndWait {
    /// By how many: 0 to as many as are left.
    pub by: u32,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountLeft;

/// The state of a latch at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatchStatus {
    /// How many are left to be counted down; at 0 it is open.
    pub count: u32,
    /// How many calls wait for that.
    pub waiting: u64,
}

impl LatchStatus {
    /// Whether none are left to be counted down. Once it is open a latch stays so.
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

impl Operation for CountLeft {
    const NAME: &'static str = "count";
    type Reply = LatchStatus;
}

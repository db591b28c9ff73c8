//! The operations of an event: arguments, replies and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation};

/// Sets the flag, which completes all waits. Returns how often it was set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Set;

/// Clears the flag.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Clear;

/// Waits for the flag. Returns how often it was set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitSet {
    /// `None` waits until the flag is set. A number waits until it was set more often than that, regardless
    /// of its state.
    pub since: Option<i128>,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetEventStatus;

/// The state of an event at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventStatus {
    /// Whether the flag is set.
    pub is_set: bool,
    /// The number of times that it was set.
    pub generation: u64,
    /// The number of waiting calls.
    pub waiting: u64,
}

impl Operation for Set {
    const NAME: &'static str = "set";
    type Reply = u64;
}

impl Operation for Clear {
    const NAME: &'static str = "clear";
    type Reply = ();
}

impl Operation for WaitSet {
    const NAME: &'static str = "wait";
    type Reply = Result<u64, Refusal>;
}

impl Operation for GetEventStatus {
    const NAME: &'static str = "status";
    type Reply = EventStatus;
}

//! The operations of an event: arguments, replies and the status.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation};

/// Sets the flag, which completes all who wait. Answers how often it has been set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Set;

/// Takes the flag down.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Clear;

/// Waits for the flag. Answers how often it has been set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitSet {
    /// Without a number: until the flag is up. With one: until it was set more often than that,
    /// whether it is up or not.
    pub since: Option<u64>,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Look;

/// The state of an event at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventStatus {
    /// Whether the flag is up.
    pub is_set: bool,
    /// How often it has been set.
    pub generation: u64,
    /// How many calls wait for it.
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

impl Operation for Look {
    const NAME: &'static str = "look";
    type Reply = EventStatus;
}

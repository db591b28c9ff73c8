//! The operations of a barrier: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    codec::whole::whole,
    fault::{BreakReason, Refusal},
    operation::Operation,
    proof::Proof,
};

/// The spec of a barrier: `BarrierSpec::from(3)`, or `BarrierSpec::from(3).on_death(OnDeath::Retract)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierSpec {
    /// The number of parties that have to arrive: 1 to 4,294,967,295. A program sets it by `from`. The type is wider,
    /// because the kind refuses a number out of range and says what it allows.
    #[doc(hidden)]
    #[serde(deserialize_with = "whole")]
    pub parties: i128,
    /// The effect of the death of a process that has arrived.
    pub on_death: OnDeath,
}

/// The effect of a process's death on the barrier at which it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnDeath {
    /// The barrier breaks, because the others could wait in vain.
    #[default]
    Break,
    /// The arrival is taken back, because another process will arrive in its place.
    Retract,
}

impl BarrierSpec {
    /// Sets the effect of the death of a waiting process.
    #[must_use]
    pub const fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = on_death;
        self
    }
}

impl From<u32> for BarrierSpec {
    fn from(parties: u32) -> Self {
        Self {
            parties: parties.into(),
            on_death: OnDeath::default(),
        }
    }
}

/// Arrives, and waits for the other parties.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Arrive {
    /// Whether the caller runs the action if it arrives last.
    pub acts: bool,
}

/// The result of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// All parties have arrived, and are released.
    Passed(BarrierWaitResult),
    /// All parties have arrived, and wait until the caller has run the action.
    Act,
}

/// One party's passage of a barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BarrierWaitResult {
    index: u32,
    is_leader: bool,
    generation: u64,
}

impl BarrierWaitResult {
    /// Creates the result of a party.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(index: u32, generation: u64) -> Self {
        Self {
            index,
            is_leader: false,
            generation,
        }
    }

    /// Makes the party the leader if `leads` is true.
    #[doc(hidden)]
    #[must_use]
    pub const fn leading(self, leads: bool) -> Self {
        Self {
            is_leader: leads,
            ..self
        }
    }

    /// Returns the position in the order of arrival, counted from 0.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Returns whether this party ran the action or, without an action, arrived last. This is true for exactly one
    /// party.
    #[must_use]
    pub const fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// Returns the number of earlier generations that passed.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

/// Reports that the action has run, and waits for the release.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// The arrival that was told to run the action, of the same session.
    pub turn: Proof,
}

/// Reports that the action failed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fail {
    /// The arrival that was told to run the action, of the same session.
    pub turn: Proof,
}

/// Breaks the barrier until it is reset.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Abort;

/// Makes a broken barrier usable again. Waiting parties are refused with `Broken`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reset;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetBarrierStatus;

/// The state of a barrier at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BarrierStatus {
    /// The number of parties that have to arrive.
    pub parties: u32,
    /// The number of arrivals, including those of the next generation.
    pub arrived: u64,
    /// The number of generations that passed.
    pub generation: u64,
    /// The reason why it is broken, until it is reset.
    pub broken: Option<BreakReason>,
}

impl Operation for Arrive {
    const NAME: &'static str = "wait";
    type Reply = Result<Arrival, Refusal>;
}

impl Operation for Finish {
    const NAME: &'static str = "finish";
    type Reply = Result<BarrierWaitResult, Refusal>;
}

impl Operation for Fail {
    const NAME: &'static str = "fail";
    type Reply = ();
}

impl Operation for Abort {
    const NAME: &'static str = "abort";
    type Reply = ();
}

impl Operation for Reset {
    const NAME: &'static str = "reset";
    type Reply = ();
}

impl Operation for GetBarrierStatus {
    const NAME: &'static str = "status";
    type Reply = BarrierStatus;
}

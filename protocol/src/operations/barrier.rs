//! The operations of a barrier: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Breach, Refusal},
    operation::Operation,
    proof::Proof,
};

/// What a barrier is made from: `BarrierSpec::from(3)`, or
/// `BarrierSpec::from(3).on_death(OnDeath::Retract)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierSpec {
    /// How many have to arrive: 1 to 4,294,967,295.
    pub parties: u32,
    /// What the death of a process that has arrived means.
    pub on_death: OnDeath,
}

/// What the death of a process does to the barrier that it waits at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnDeath {
    /// It breaks the barrier: the others could wait in vain.
    #[default]
    Break,
    /// It takes its arrival back: another process will come in its place.
    Retract,
}

impl BarrierSpec {
    /// Sets what the death of a process that waits does.
    #[must_use]
    pub const fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = on_death;
        self
    }
}

impl From<u32> for BarrierSpec {
    fn from(parties: u32) -> Self {
        Self {
            parties,
            on_death: OnDeath::default(),
        }
    }
}

/// Arrives, and waits for the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Arrive {
    /// Whether the caller would run the action, if it is the last.
    pub acts: bool,
}

/// What becomes of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// All have arrived, and are released.
    Passed(Passed),
    /// All have arrived, and wait until the caller has run the action.
    Act,
}

/// One party's passage of a barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Passed {
    /// Its place in the order of arrival, from 0.
    pub index: u32,
    /// Whether it ran the action; without one, whether it was the last. Exactly one party did.
    pub is_leader: bool,
    /// How often the barrier was passed before.
    pub generation: u64,
}

/// Tells that the action was run, and waits for the release.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// The arrival that was told to run it, of the same session.
    pub turn: Proof,
}

/// Tells that the action failed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fail {
    /// The arrival that was told to run it, of the same session.
    pub turn: Proof,
}

/// Breaks the barrier until it is reset.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Abort;

/// Mends the barrier. Those who wait at it are told that it broke.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reset;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountArrivals;

/// The state of a barrier at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BarrierStatus {
    /// How many have to arrive.
    pub parties: u32,
    /// How many have arrived, with those who are early for the next generation.
    pub arrived: u64,
    /// How often it was passed.
    pub generation: u64,
    /// What broke it, until it is reset.
    pub broken: Option<Breach>,
}

impl Operation for Arrive {
    const NAME: &'static str = "wait";
    type Reply = Result<Arrival, Refusal>;
}

impl Operation for Finish {
    const NAME: &'static str = "finish";
    type Reply = Result<Passed, Refusal>;
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

impl Operation for CountArrivals {
    const NAME: &'static str = "count";
    type Reply = BarrierStatus;
}

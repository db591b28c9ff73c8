//! The operations of a value: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{codec::blob::Blob, fault::Refusal, operation::Operation};

/// What a value is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueSpec {
    /// What it is at first, encoded.
    pub value: Blob,
    /// The schema id, at most 4,096 bytes. See [`CheckType`](crate::operations::CheckType).
    pub holds: String,
}

/// Asks what it is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Read;

/// Sets it. Answers with the version that it has since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    /// What it is from now on, encoded.
    pub value: Blob,
}

/// Sets it. Answers what it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Swap {
    /// What it is from now on, encoded.
    pub value: Blob,
}

/// Sets it if it is what the caller thinks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// What it must be.
    pub only_if: OnlyIf,
    /// What it is from then on, encoded.
    pub value: Blob,
}

/// What a value must be to be exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlyIf {
    /// The same bytes.
    Equal(Blob),
    /// Not set since it had that version.
    Version(u64),
}

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchanged {
    /// It was done, and the value has that version since.
    Done(u64),
    /// Nothing was done: this is what it is.
    Actual(Versioned<Blob>),
}

/// Waits until it was set more often than a number of times. Answers what it is then.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitChange {
    /// The version that the caller knows.
    pub since: u64,
}

/// Asks for the numbers, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountWatchers;

/// What a value was, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// How often it had been set: 0 for what it was made with. Setting counts also if nothing
    /// changes by it.
    pub version: u64,
    /// What it was.
    pub value: T,
}

/// The state of a value at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ValueStatus {
    /// How often it has been set.
    pub version: u64,
    /// How many bytes it is, encoded.
    pub bytes: u64,
    /// How many calls wait for a change.
    pub waiting: u64,
}

impl Operation for Read {
    const NAME: &'static str = "read";
    type Reply = Versioned<Blob>;
}

impl Operation for Store {
    const NAME: &'static str = "store";
    type Reply = u64;
}

impl Operation for Swap {
    const NAME: &'static str = "swap";
    type Reply = Versioned<Blob>;
}

impl Operation for Exchange {
    const NAME: &'static str = "exchange";
    type Reply = Exchanged;
}

impl Operation for WaitChange {
    const NAME: &'static str = "wait_change";
    type Reply = Result<Versioned<Blob>, Refusal>;
}

impl Operation for CountWatchers {
    const NAME: &'static str = "count";
    type Reply = ValueStatus;
}

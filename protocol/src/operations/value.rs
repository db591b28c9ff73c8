//! The operations of a value: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{blob::Blob, whole::whole},
    fault::Refusal,
    operation::Operation,
};

/// The spec of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueSpec {
    /// The initial value, encoded.
    pub value: Blob,
    /// The schema id, 1 to 4,096 bytes. See [`CheckType`](crate::operations::CheckType).
    pub schema: String,
}

/// Reads the value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Read;

/// Sets the value. Returns its new version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    /// The new value, encoded.
    pub value: Blob,
}

/// Sets the value. Returns the previous value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Swap {
    /// The new value, encoded.
    pub value: Blob,
}

/// Sets the value if it is the expected one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// The condition for the exchange.
    pub only_if: OnlyIf,
    /// The new value, encoded.
    pub value: Blob,
}

/// The condition under which a value is exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlyIf {
    /// The value has these bytes.
    Equal(Blob),
    /// The value has this version.
    Version(u64),
}

/// The result of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchanged {
    /// The value was set, and has this version now.
    Done(u64),
    /// The condition failed; this is the current value.
    Actual(Versioned<Blob>),
}

/// Waits until the value was set more often than a number of times. Returns the value then.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WaitChange {
    /// The version that the caller knows.
    #[serde(deserialize_with = "whole")]
    pub since: i128,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetValueStatus;

/// A value with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The number of times that the value was set; 0 is the initial value. Setting an equal value counts too.
    pub version: u64,
    /// The value of that version.
    pub value: T,
}

/// The state of a value at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ValueStatus {
    /// The number of times that the value was set.
    pub version: u64,
    /// The number of bytes of the encoded value.
    pub bytes: u64,
    /// The number of calls that wait for a change.
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

impl Operation for GetValueStatus {
    const NAME: &'static str = "status";
    type Reply = ValueStatus;
}

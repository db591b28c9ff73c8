//! The operations of keyed locks and keyed semaphores, beside those of all holders.

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    ids::CallId,
    operation::Operation,
    operations::{grant::Granted, key::Key},
};

/// Waits to be the holder of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcquireKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// Waits for permits of a key, all or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcquireKeyMany {
    /// The key: at most 255 bytes.
    pub key: Key,
    /// How many: at least one.
    pub permits: u32,
}

/// Moves what a grant holds to the calling session; from then on the call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AdoptKey {
    /// The call that was granted.
    pub grant: CallId,
}

/// What has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedKey {
    /// The new grant.
    pub granted: Granted,
    /// Of which key.
    pub key: Key,
    /// How many permits it holds.
    pub permits: u32,
}

/// Takes a key from whoever holds it. Answers whether anybody did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForceUnlockKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// Asks who is there for a key, without waiting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// The state of one key at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyStatus {
    /// How many permits of it are free: for a lock, 1 when nobody holds it.
    pub available: u64,
    /// How many are held: for a lock, 1 when somebody holds it.
    pub held: u64,
    /// How many calls wait for it.
    pub waiting: u64,
    /// Whether somebody died with it, and nobody has declared it consistent.
    pub abandoned: bool,
}

/// Asks for the numbers of all keys together, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountKeys;

/// The state of all keys at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyedStatus {
    /// How many keys are held. Only those are waited for.
    pub keys: u64,
    /// How many grants hold them: more than there are keys only where a key has several permits.
    pub grants: u64,
    /// How many calls wait.
    pub waiting: u64,
    /// How many keys nobody holds that somebody died with, and nobody has declared consistent.
    pub abandoned: u64,
}

/// Asks for the keys that are held, in no order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ListKeys;

impl Operation for AcquireKey {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AcquireKeyMany {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AdoptKey {
    const NAME: &'static str = "adopt";
    type Reply = Result<AdoptedKey, Refusal>;
}

impl Operation for ForceUnlockKey {
    const NAME: &'static str = "force_unlock";
    const IS_ADMINISTRATIVE: bool = true;
    type Reply = Result<bool, Refusal>;
}

impl Operation for CountKey {
    const NAME: &'static str = "status";
    type Reply = Result<KeyStatus, Refusal>;
}

impl Operation for CountKeys {
    const NAME: &'static str = "count";
    type Reply = KeyedStatus;
}

impl Operation for ListKeys {
    const NAME: &'static str = "keys";
    type Reply = Vec<Key>;
}

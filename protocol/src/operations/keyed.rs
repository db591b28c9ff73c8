//! The operations of keyed locks and keyed semaphores, beside those of all holders.

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    operation::Operation,
    operations::{grant::Granted, key::Key},
    proof::Proof,
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
    pub grant: Proof,
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

/// Takes a key from its holders. Answers whether there was one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForceUnlockKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// Gives back what of a key has been held longest, whichever session holds it. Only an object that was
/// made with [`ReleaseBy::Anyone`](crate::operations::ReleaseBy) does so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseAnyKey {
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
    /// How many permits of it are free: for a lock, 1 when it is not held.
    pub available: u64,
    /// How many are held: for a lock, 1 when it is held.
    pub held: u64,
    /// How many calls wait for it.
    pub waiting: u64,
    /// Whether it carries the mark of a holder that died.
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
    /// How many free keys carry the mark of a holder that died.
    pub abandoned: u64,
}

/// Asks for the keys that are held, in no order, page by page.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ListKeys {
    /// Where the page begins: zero, or the `next` of the page before.
    pub from: u32,
}

/// Some of the keys that are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys of the page, which may have none. A key that is held while all pages are asked for is in
    /// exactly one of them.
    pub keys: Vec<Key>,
    /// Where the next page begins, if there is one.
    pub next: Option<u32>,
}

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

impl Operation for ReleaseAnyKey {
    const NAME: &'static str = "release_any";
    type Reply = Result<(), Refusal>;
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
    type Reply = KeyPage;
}

//! The operations of keyed locks and keyed semaphores, in addition to those of all holders.

use serde::{Deserialize, Serialize};

use crate::{
    codec::whole::whole,
    fault::Refusal,
    operation::{Operation, SHORT},
    operations::{grant::Granted, key::Key},
    proof::Proof,
};

/// Waits to become the holder of a key.
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
    /// The number of permits, at least one.
    #[serde(deserialize_with = "whole")]
    pub permits: i128,
}

/// Moves a grant's permits to the calling session. From then on this call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AdoptKey {
    /// The call that was granted.
    pub grant: Proof,
}

/// The result of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedKey {
    /// The new grant.
    pub granted: Granted,
    /// The key of the grant.
    pub key: Key,
    /// The number of permits that it holds.
    pub permits: u32,
}

/// Takes a key from its holders. Returns whether there was one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForceUnlockKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// Releases the hold of a key that has lasted longest, of any session. It requires an object that was created
/// with [`ReleaseBy::Anyone`](crate::operations::ReleaseBy).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseAnyKey {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// Asks for the holders and waiters of a key, without waiting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GetKeyStatus {
    /// The key: at most 255 bytes.
    pub key: Key,
}

/// The state of one key at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyStatus {
    /// The number of free permits: for a lock, 1 when it is not held.
    pub available: u64,
    /// The number of held permits: for a lock, 1 when it is held.
    pub held: u64,
    /// The number of calls that wait for it.
    pub waiting: u64,
    /// Whether it has the mark of a holder that died.
    pub is_abandoned: bool,
}

/// Asks for the totals of all keys, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetKeyedStatus;

/// The state of all keys at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyedStatus {
    /// The number of held keys. Calls wait only for these.
    pub keys: u64,
    /// The number of grants. It exceeds the number of keys only if keys have several permits.
    pub grants: u64,
    /// The number of waiting calls.
    pub waiting: u64,
    /// The number of free keys with the mark of a holder that died.
    pub abandoned: u64,
}

/// Asks for the held keys, in no order, page by page.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ListKeys {
    /// The start of the page: zero, or the `next` of the page before.
    pub from: u32,
}

/// A page of the held keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys of the page, which may be empty. A key that stays held while all pages are requested is in
    /// exactly one of them.
    pub keys: Vec<Key>,
    /// The start of the next page, if there is one.
    pub next: Option<u32>,
}

impl Operation for AcquireKey {
    const NAME: &'static str = "acquire";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AcquireKeyMany {
    const NAME: &'static str = "acquire";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AdoptKey {
    const NAME: &'static str = "adopt";
    type Reply = Result<AdoptedKey, Refusal>;
}

impl Operation for ForceUnlockKey {
    const NAME: &'static str = "force_unlock";
    const IS_ADMINISTRATIVE: bool = true;
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<bool, Refusal>;
}

impl Operation for ReleaseAnyKey {
    const NAME: &'static str = "release_any";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<(), Refusal>;
}

impl Operation for GetKeyStatus {
    const NAME: &'static str = "key_status";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<KeyStatus, Refusal>;
}

impl Operation for GetKeyedStatus {
    const NAME: &'static str = "status";
    type Reply = KeyedStatus;
}

impl Operation for ListKeys {
    const NAME: &'static str = "keys";
    type Reply = KeyPage;
}

//! The operations of a queue: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    codec::blob::Blob, fault::Refusal, ids::Fence, operation::Operation, peer::Abandoned,
    proof::Proof,
};

/// What a queue is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// How many items may wait in it: 1 to 1,000,000,000. Without a number, as many as that.
    pub capacity: Option<u64>,
    /// The schema id, at most 4,096 bytes. See [`CheckType`](crate::operations::CheckType).
    pub holds: String,
}

/// Puts an item behind all others, and waits for room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    /// The item, encoded.
    pub item: Blob,
}

/// Waits for the first item, which is the caller's until it is done or put back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Get;

/// Acknowledges an item: it is no more.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The call that was given it.
    pub delivery: Proof,
}

/// Gives an item back, to its place at the front.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PutBack {
    /// The call that was given it.
    pub delivery: Proof,
}

/// Waits until all items that were put are done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Join;

/// Takes no more items. Those that were put can be taken still.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CloseQueue;

/// Asks for the numbers, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountItems;

/// An item, as its taker is given it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The token of the grant.
    pub fence: Fence,
    /// How often the item was delivered, with this time.
    pub attempts: u32,
    /// The last one who had it and died, if any did.
    pub abandoned: Option<Abandoned>,
    /// The item, encoded.
    pub item: Blob,
}

/// The state of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueStatus {
    /// How many items wait to be taken.
    pub len: u64,
    /// How many may. Items that come back go in beyond it.
    pub capacity: u64,
    /// How many are taken and not done.
    pub taken: u64,
    /// How many puts wait for room.
    pub putting: u64,
    /// How many gets wait for an item.
    pub getting: u64,
    /// How many calls wait until all is done.
    pub joining: u64,
    /// Whether it was closed.
    pub closed: bool,
}

impl Operation for Put {
    const NAME: &'static str = "put";
    type Reply = Result<(), Refusal>;
}

impl Operation for Get {
    const NAME: &'static str = "get";
    type Reply = Result<Delivery, Refusal>;
}

impl Operation for Done {
    const NAME: &'static str = "done";
    type Reply = Result<(), Refusal>;
}

impl Operation for PutBack {
    const NAME: &'static str = "put_back";
    type Reply = Result<(), Refusal>;
}

impl Operation for Join {
    const NAME: &'static str = "join";
    type Reply = ();
}

impl Operation for CloseQueue {
    const NAME: &'static str = "close";
    type Reply = ();
}

impl Operation for CountItems {
    const NAME: &'static str = "count";
    type Reply = QueueStatus;
}

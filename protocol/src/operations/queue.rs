//! The operations of a queue: arguments, replies, the spec and the status.

use serde::{Deserialize, Serialize};

use crate::{
    codec::blob::Blob, fault::Refusal, ids::Fence, operation::Operation, peer::Abandoned,
    proof::Proof,
};

/// The spec of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// The most items that may wait in it: 1 to 1,000,000,000. `None` means 1,000,000,000.
    pub capacity: Option<i128>,
    /// The schema id, 1 to 4,096 bytes. See [`CheckType`](crate::operations::CheckType).
    pub schema: String,
}

/// Appends an item, and waits for room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    /// The item, encoded.
    pub item: Blob,
}

/// Waits for the first item. The item belongs to the caller until it is done or put back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Get;

/// Acknowledges an item, which removes it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The call that received it.
    pub delivery: Proof,
}

/// Returns an item to its place in the order of the puts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PutBack {
    /// The call that received it.
    pub delivery: Proof,
}

/// Waits until all items that were put are done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Join;

/// Closes the queue to further items. Its remaining items can still be taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CloseQueue;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetQueueStatus;

/// An item as its taker receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The fence of the grant.
    pub fence: Fence,
    /// The number of deliveries of the item, including this one.
    pub attempts: u32,
    /// The last taker that died with it, if any.
    pub abandoned: Option<Abandoned>,
    /// The item, encoded.
    pub item: Blob,
}

/// The state of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueStatus {
    /// The number of items that wait to be taken.
    pub len: u64,
    /// The most items that may wait. Items that are returned may exceed it.
    #[doc(alias = "maxsize")]
    pub capacity: u64,
    /// The number of items that are taken and not done.
    pub taken: u64,
    /// The number of puts that wait for room.
    pub putting: u64,
    /// The number of gets that wait for an item.
    pub getting: u64,
    /// The number of calls that wait until all items are done.
    pub joining: u64,
    /// Whether the queue is closed.
    pub is_closed: bool,
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

impl Operation for GetQueueStatus {
    const NAME: &'static str = "status";
    type Reply = QueueStatus;
}

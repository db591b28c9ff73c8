//! lockkeeper's clients that use queues and values: an item is put and taken again, a value is set and read again.
//!
//! Each client has an object of its own, so that what is measured is the calls and the encoding, and not waiting.

use crate::party::{self, Failure};
use lockkeeper::{Manager, Queue, Value};
use lockkeeper_actors::codec::Blob;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

// What a client repeats; sync_manager.py does the same with Python's objects.
/// Puts a small struct into a queue and takes it; that it is done is not waited for, and Python's queue has no such thing.
pub(crate) const QUEUE: &str = "queue";
/// The same with 1 MB of bytes.
pub(crate) const BULKY_QUEUE: &str = "bulky-queue";
/// Sets a value to a small struct and reads it.
pub(crate) const VALUE: &str = "value";
/// The same with 1 MB of bytes.
pub(crate) const BULKY_VALUE: &str = "bulky-value";

/// The bytes of a large item; sync_manager.py has the same number.
const BULK: usize = 1_000_000;

/// A small struct, as a program would share it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    is_done: bool,
}

/// Plays one of these clients.
pub(crate) async fn repeat(manager: &Manager, cycle: &str) -> Result<(), Failure> {
    let record = Record {
        id: 7,
        name: "sweep".to_owned(),
        is_done: false,
    };
    let bulk = || Blob::from(vec![7; BULK]);
    match cycle {
        QUEUE => repeat_queue(manager.queue(1).await?, record).await,
        BULKY_QUEUE => repeat_queue(manager.queue(1).await?, bulk()).await,
        VALUE => repeat_value(manager.value(record.clone()).await?, record).await,
        BULKY_VALUE => repeat_value(manager.value(bulk()).await?, bulk()).await,
        other => Err(format!("no client repeats {other:?}").into()),
    }
}

async fn repeat_queue<T>(queue: Queue<T>, item: T) -> Result<(), Failure>
where
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    party::repeat(async || {
        queue.put(item.clone()).await.map_err(|put| put.error)?;
        let taken = queue.get().await?.into_inner();
        one_if(taken == item)
    })
    .await
}

async fn repeat_value<T>(value: Value<T>, item: T) -> Result<(), Failure>
where
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    party::repeat(async || {
        value.set(item.clone()).await?;
        one_if(value.get().await? == item)
    })
    .await
}

/// One cycle, if what has arrived is equal to what was sent.
fn one_if(is_equal: bool) -> Result<u64, Failure> {
    if is_equal {
        Ok(1)
    } else {
        Err("another value has arrived than was sent".into())
    }
}

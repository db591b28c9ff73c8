//! The proxy of a hosted queue.

use std::{fmt, time::Duration};

use lockkeeper_actors::data;
use lockkeeper_protocol::{
    ObjectInfo,
    codec::Blob,
    operations::{CloseQueue, CountItems, Get, Join, Put, QueueStatus},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    client::thread::block_on,
    error::CallError,
    proxy::{
        hold::Hold,
        proxy::Proxy,
        taken::{Claim, GetError, PutError, Taken, UndecodedItem},
        token::Token,
        typed::Typed,
    },
};

/// A queue that processes share: items of one type, put at one end and taken at the other.
///
/// An item that was taken is its taker's until it is [`done`](Taken::done). When the taker dies, or
/// drops it, it goes back to the front, and another one has it. Counterpart of Python's
/// `manager.Queue()` and `manager.JoinableQueue()`, where the item of a killed taker is lost and
/// `join` waits for good.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let jobs = manager.queue::<String>(100).await?;
/// jobs.put("sweep".to_owned()).await?;
/// let job = jobs.get().await?;
/// assert_eq!(*job, "sweep");
/// drop(job); // It was not done, so it is back.
/// let job = jobs.get().await?;
/// assert_eq!(job.attempts(), 2);
/// job.done().await?;
/// jobs.join().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Queue<T>(Typed<data::Queue, T>);

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// Puts an item behind all others, and waits while there is no room for it, in the order of
    /// arrival. Python: `queue.put(item)`.
    ///
    /// # Errors
    ///
    /// Returns the item and the reason: [`CallError::Refused`] with `Closed` once the queue was
    /// closed, [`CallError::Fault`] with `Limit` for an item above the limit of a message, and
    /// with `BadArguments` for one that cannot be encoded, [`CallError::Disconnected`] or
    /// [`CallError::NoManager`] without a manager and [`CallError::Gone`] once it was removed.
    /// [`CallError::Refused`] with `WrongType` tells that the queue has another schema id.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the item is not put, unless somebody has taken it already.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_within(item, None).await
    }

    /// Puts an item, and waits for room until the time is over, kept by the manager.
    /// Python: `queue.put(item, timeout=..)`.
    ///
    /// # Errors
    ///
    /// As [`Self::put`], with [`CallError::TimedOut`] when there was no room in time.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::put`].
    pub async fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_within(item, Some(timeout)).await
    }

    /// Puts an item if there is room; never overtakes who waits for that.
    /// Python: `queue.put_nowait(item)`.
    ///
    /// # Errors
    ///
    /// As [`Self::put`], with [`CallError::TimedOut`] when there is no room:
    /// [`PutError::is_full`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::put`].
    pub async fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_within(item, Some(Duration::ZERO)).await
    }

    /// Puts an item in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::put`].
    pub async fn put_owned(self, item: T) -> Result<(), PutError<T>> {
        self.put_within(item, None).await
    }

    /// Puts an item on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_put(&self, item: T) -> Result<(), PutError<T>> {
        block_on(self.put(item))
    }

    /// Puts an item on a plain thread, and waits for room until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::put_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        block_on(self.put_timeout(item, timeout))
    }

    /// Puts an item on a plain thread if there is room.
    ///
    /// # Errors
    ///
    /// As [`Self::try_put`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_put(&self, item: T) -> Result<(), PutError<T>> {
        block_on(self.try_put(item))
    }

    /// Takes the first item, and waits while there is none, in the order of arrival.
    /// Python: `queue.get()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Closed` once the queue was closed and all items are
    /// done; while some are taken, one may come back, and it waits. Else as [`Self::put`]. An item
    /// that cannot be decoded is [`GetError::Undecoded`], which owns it: it can be discarded or put back.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, no item is taken, and none is counted as delivered. So
    /// `tokio::time::timeout(time, queue.get())` is right.
    pub async fn get(&self) -> Result<Taken<T>, GetError> {
        self.get_within(None).await
    }

    /// Takes the first item, and waits for one until the time is over, kept by the manager.
    /// Python: `queue.get(timeout=..)`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::get`].
    pub async fn get_timeout(&self, timeout: Duration) -> Result<Taken<T>, GetError> {
        self.get_within(Some(timeout)).await
    }

    /// Takes the first item if there is one. Python: `queue.get_nowait()`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::get`].
    pub async fn try_get(&self) -> Result<Option<Taken<T>>, GetError> {
        match self.get_within(Some(Duration::ZERO)).await {
            Ok(item) => Ok(Some(item)),
            Err(GetError::Call(CallError::TimedOut(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the first item in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::get`].
    pub async fn get_owned(self) -> Result<Taken<T>, GetError> {
        self.get_within(None).await
    }

    /// Takes the first item on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_get(&self) -> Result<Taken<T>, GetError> {
        block_on(self.get())
    }

    /// Takes the first item on a plain thread, and waits for one until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::get_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_get_timeout(&self, timeout: Duration) -> Result<Taken<T>, GetError> {
        block_on(self.get_timeout(timeout))
    }

    /// Takes the first item on a plain thread if there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_get(&self) -> Result<Option<Taken<T>>, GetError> {
        block_on(self.try_get())
    }

    /// Waits until all items that were put are done: none is left, and none is taken.
    /// Python: `queue.join()`.
    ///
    /// # Errors
    ///
    /// As [`Self::put`], but for `Closed`.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn join(&self) -> Result<(), CallError> {
        self.0.call(&Join, None).await
    }

    /// The same, until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::join`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::join`].
    pub async fn join_timeout(&self, timeout: Duration) -> Result<(), CallError> {
        self.0.call(&Join, Some(timeout)).await
    }

    /// Waits on a plain thread until all items that were put are done.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_join(&self) -> Result<(), CallError> {
        block_on(self.join())
    }

    /// The same, until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::join_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_join_timeout(&self, timeout: Duration) -> Result<(), CallError> {
        block_on(self.join_timeout(timeout))
    }

    /// Takes no more items: refuses all who wait for room and all who come with `Closed`. Those
    /// that are in can be taken still; then whoever wants another one is refused as well.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been closed. To close it again does no harm.
    pub async fn close(&self) -> Result<(), CallError> {
        self.0.call(&CloseQueue, None).await
    }

    /// How many items wait to be taken, which may have changed when it is read.
    /// Python: `queue.qsize()`.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn len(&self) -> Result<u64, CallError> {
        Ok(self.status().await?.len)
    }

    /// Whether no item waits to be taken, which may have changed when it is read.
    /// Python: `queue.empty()`.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn is_empty(&self) -> Result<bool, CallError> {
        Ok(self.len().await? == 0)
    }

    /// Tells the numbers, which may have changed when they are read.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn status(&self) -> Result<QueueStatus, CallError> {
        self.0.call(&CountItems, None).await
    }

    /// Tells who has items and who waits for what, in order, and what was measured: see
    /// [`Manager::inspect`](crate::Manager::inspect).
    ///
    /// # Errors
    ///
    /// As [`Self::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn info(&self) -> Result<ObjectInfo, CallError> {
        self.0.info().await
    }

    async fn put_within(&self, item: T, timeout: Option<Duration>) -> Result<(), PutError<T>> {
        let packed = self.0.pack(&item);
        let put = match packed.await {
            Ok(bytes) => self.send(bytes, timeout).await,
            Err(error) => Err(error),
        };
        put.map_err(|error| PutError { item, error })
    }

    async fn send(&self, item: Blob, timeout: Option<Duration>) -> Result<(), CallError> {
        let bound = self.0.bound().await?;
        let (_, reply) = bound.call(&Put { item }, timeout).await?;
        bound.accepted(reply)
    }

    async fn get_within(&self, timeout: Option<Duration>) -> Result<Taken<T>, GetError> {
        let bound = self.0.bound().await?;
        let (grant, reply) = bound.call(&Get, timeout).await?;
        let delivery = bound.accepted(reply)?;
        let claim = Claim::new(Hold::new(bound, grant));
        match self.0.unpack(&delivery.item) {
            Ok(item) => Ok(Taken::new(claim, item, delivery)),
            Err(CallError::Undecoded(undecoded)) => Err(GetError::Undecoded(UndecodedItem::new(
                claim, undecoded, &delivery,
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

impl<T> Queue<T> {
    /// Where the queue is.
    #[must_use]
    pub const fn token(&self) -> &Token<data::Queue> {
        self.0.token()
    }

    /// Chooses the schema id of the items, for a queue that was opened by
    /// [`Manager::schema`](crate::Manager::schema) and is reached by its token.
    #[must_use]
    pub fn schema(self, id: &str) -> Self {
        Self(self.0.with_schema(id))
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(self.token()).finish()
    }
}

impl<T> From<Typed<data::Queue, T>> for Queue<T> {
    fn from(typed: Typed<data::Queue, T>) -> Self {
        Self(typed)
    }
}

impl<T> From<Proxy<data::Queue>> for Queue<T> {
    fn from(proxy: Proxy<data::Queue>) -> Self {
        Self(proxy.into())
    }
}

impl<T> From<Token<data::Queue>> for Queue<T> {
    fn from(token: Token<data::Queue>) -> Self {
        Proxy::from(token).into()
    }
}

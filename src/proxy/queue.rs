//! The proxy of a hosted queue.

use std::{fmt, ops::Deref, time::Duration};

use lockkeeper_actors::data;
use lockkeeper_protocol::{
    codec::Blob,
    operations::{CloseQueue, Get, GetQueueStatus, Join, Put},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::CallError,
    proxy::{
        ask::Bind,
        held_item::HeldItem,
        hold::Hold,
        proxy::Proxy,
        taken::{GetError, PutError, Taken, UndecodedItem},
        token::Token,
        typed::{Typed, pack},
        wait::Wait,
    },
};

/// The name of the limit of a message, for an item that exceeds it.
const ITEM: &str = "bytes of an item";

/// A queue that processes share, with items of one type.
///
/// A taken item belongs to its taker until it is [`done`](Taken::done). If the taker dies or drops
/// it, the item returns to its place, and another process can take it. Counterpart of Python's
/// `manager.Queue()` and `manager.JoinableQueue()`, where the item of a killed taker is lost and
/// `join` waits for ever.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let jobs = manager.queue::<String>(100).await?;
/// jobs.put("sweep".to_owned()).await?;
/// let job = jobs.get().await?;
/// assert_eq!(*job, "sweep");
/// drop(job); // It was not done, so it returns to the queue.
/// let job = jobs.get().await?;
/// assert_eq!(job.attempts(), 2);
/// job.done().await?;
/// jobs.join().await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "JoinableQueue")]
#[doc(alias = "SimpleQueue")]
#[doc(alias = "mpsc")]
#[doc(alias = "channel")]
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Queue<T>(Typed<data::Queue, T>);

impl<T: Serialize + DeserializeOwned + 'static> Queue<T> {
    /// Puts an item at the end. Waits while the queue is full, in order of arrival. Python:
    /// `queue.put(item)`.
    ///
    /// # Errors
    ///
    /// Returns the item and the reason: [`CallError::Refused`] with `Closed` once the queue was closed,
    /// [`CallError::Fault`] with `Limit` for an item above the limit of a message, and with `BadArguments`
    /// for one that cannot be encoded. [`CallError::Refused`] with `WrongType` means that the queue has
    /// another schema id.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the item is not put, unless another call has already
    /// taken it.
    #[doc(alias = "send")]
    #[doc(alias = "push")]
    pub fn put(&self, item: T) -> Wait<(), PutError<T>>
    where
        T: Send,
    {
        let queue = self.clone();
        Wait::new(move |timeout| queue.put_within(item, timeout))
    }

    /// Puts an item if the queue has room, and never overtakes a waiter.
    /// Python: `queue.put_nowait(item)`.
    ///
    /// # Errors
    ///
    /// As [`Self::put`], with [`CallError::TimedOut`] when there is no room:
    /// [`CallError::is_timeout`].
    #[doc(alias = "put_nowait")]
    #[doc(alias = "try_send")]
    pub fn try_put(&self, item: T) -> Wait<(), PutError<T>>
    where
        T: Send,
    {
        let queue = self.clone();
        Wait::new(move |_| queue.put_within(item, Some(Duration::ZERO)))
    }

    /// Takes the first item. Waits while the queue is empty, in order of arrival. Python:
    /// `queue.get()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Closed` once the queue was closed and all items are done. While items
    /// are taken the call waits, because one may return. Returns [`GetError::Undecoded`] for an item that cannot
    /// be decoded; the error owns the item, which can be discarded or put back. A program that reacts to another
    /// error matches `Err(GetError::Call(CallError::Disconnected { .. }))` and the like.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, no item is taken, and no delivery counts.
    #[doc(alias = "recv")]
    #[doc(alias = "pop")]
    pub fn get(&self) -> Wait<Taken<T>, GetError>
    where
        T: Send,
    {
        let queue = self.clone();
        Wait::new(|timeout| queue.get_within(timeout))
    }

    /// Takes the first item if there is one. Python: `queue.get_nowait()`.
    #[doc(alias = "get_nowait")]
    #[doc(alias = "try_recv")]
    pub fn try_get(&self) -> Wait<Option<Taken<T>>, GetError>
    where
        T: Send,
    {
        let queue = self.clone();
        Wait::trying(|timeout| queue.get_within(timeout))
    }

    /// Waits until all items are done: no item waits, and none is taken. Python: `queue.join()`.
    ///
    /// # Errors
    ///
    /// As [`Self::put`], except `Closed`.
    pub fn join(&self) -> Wait<()> {
        let queue = self.clone();
        Wait::new(|timeout| async move { queue.0.call(Join, timeout).await })
    }

    /// Closes the queue for further items: all waiting and later puts are refused with `Closed`. The items in it
    /// can still be taken; once all are done, calls that take an item are refused too.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the queue may have been closed. Closing it
    /// again has no effect.
    #[doc(alias = "shutdown")]
    pub fn close(&self) -> Wait<()> {
        let queue = self.clone();
        Wait::new(|timeout| async move { queue.0.call(CloseQueue, timeout).await })
    }

    /// Returns how many items wait to be taken.
    /// Python: `queue.qsize()`, and `queue.empty()` for none.
    #[doc(alias = "qsize")]
    #[doc(alias = "empty")]
    #[doc(alias = "is_empty")]
    pub fn len(&self) -> Wait<u64> {
        self.start(GetQueueStatus, |_, _, status| Ok(status.len))
    }

    async fn put_within(self, item: T, timeout: Option<Duration>) -> Result<(), PutError<T>> {
        let put = match self.0.bound().await {
            Ok(bound) => match pack(&bound.connection, &item, ITEM) {
                Ok(bytes) => self.send(bytes, timeout).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        put.map_err(|error| PutError { item, error })
    }

    async fn send(&self, item: Blob, timeout: Option<Duration>) -> Result<(), CallError> {
        let (bound, _, reply) = self.0.ask(Put { item }, timeout).await?;
        bound.accepted(reply)
    }

    async fn get_within(self, timeout: Option<Duration>) -> Result<Taken<T>, GetError> {
        let (bound, grant, reply) = self.0.ask(Get, timeout).await?;
        let delivery = bound.accepted(reply)?;
        let (held, item) = HeldItem::new(Hold::new(bound, grant), delivery);
        match self.0.unpack(&item) {
            Ok(item) => Ok(Taken::new(held, item)),
            Err(CallError::Undecoded(undecoded)) => {
                let item = UndecodedItem::new(held, undecoded);
                Err(GetError::Undecoded(item))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl<T> Queue<T> {
    /// Sets the schema id of the items, if the queue was opened with
    /// [`Manager::schema`](crate::Manager::schema) and is reached by its token.
    #[must_use]
    pub fn schema(self, id: &str) -> Self {
        Self(self.0.with_schema(id))
    }
}

impl<T> Deref for Queue<T> {
    type Target = Proxy<data::Queue>;

    fn deref(&self) -> &Proxy<data::Queue> {
        self.0.proxy()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
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

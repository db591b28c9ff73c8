//! The methods of a manager that create an object, or open one by its name: one for each kind.

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::operations::{BarrierSpec, ReleaseBy};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CallError,
    manager::{
        manager::Manager,
        named::{Named, Releasable, WithSchema},
    },
    proxy::{
        barrier::Barrier,
        condition::Condition,
        event::Event,
        keyed::keyed::{KeyedLock, KeyedSemaphore},
        latch::Latch,
        lock::Lock,
        proxy::Proxy,
        queue::Queue,
        reentrant_lock::ReentrantLock,
        rw_lock::RwLock,
        semaphore::{BoundedSemaphore, Semaphore},
        value::Value,
    },
};

impl Manager {
    /// Makes a lock. Python: `manager.Lock()`.
    ///
    /// Only its holder releases it. [`Self::release_by`] makes one that every process may release, as Python's.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] without the manager and [`CallError::Fault`] with
    /// `Limit` when it hosts too many objects.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, the lock may have been made. It has no name by which it could be removed before the
    /// manager ends. [`Self::named`] makes one that can be found
    /// again.
    pub async fn lock(&self) -> Result<Lock, CallError> {
        self.anonymous().lock().await
    }

    /// Makes a lock that its owner may enter again. Python: `manager.RLock()`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn reentrant_lock(&self) -> Result<ReentrantLock, CallError> {
        self.anonymous().reentrant_lock().await
    }

    /// Makes a lock whose holder may wait until another holder notifies it. Python: `manager.Condition()`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn condition(&self) -> Result<Condition, CallError> {
        self.anonymous().condition().await
    }

    /// Makes a flag that others wait for. Python: `manager.Event()`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn event(&self) -> Result<Event, CallError> {
        self.anonymous().event().await
    }

    /// Makes a semaphore of that many permits; zero is allowed.
    /// Python: `manager.Semaphore(n)`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn semaphore(&self, permits: u32) -> Result<Semaphore, CallError> {
        self.anonymous().semaphore(permits).await
    }

    /// Makes a semaphore that never has more than that many permits.
    /// Python: `manager.BoundedSemaphore(n)`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn bounded_semaphore(&self, permits: u32) -> Result<BoundedSemaphore, CallError> {
        self.anonymous().bounded_semaphore(permits).await
    }

    /// Makes a barrier of that many parties: a number, or a [`BarrierSpec`] that says more.
    /// Python: `manager.Barrier(parties)`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`], and [`CallError::Refused`] with `Invalid` for no parties at all.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn barrier(&self, parties: impl Into<BarrierSpec>) -> Result<Barrier, CallError> {
        self.anonymous().barrier(parties).await
    }

    /// Makes a lock that many read, or one writes. Python has none.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn rw_lock(&self) -> Result<RwLock, CallError> {
        self.anonymous().rw_lock().await
    }

    /// Makes a latch that counts down from that many; one of zero is open. Python has none.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn latch(&self, count: u32) -> Result<Latch, CallError> {
        self.anonymous().latch(count).await
    }

    /// Makes a queue with room for that many items, 1 to 1,000,000,000, of one type:
    /// `manager.queue::<Job>(100)`. Python: `manager.JoinableQueue(n)`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`], and [`CallError::Refused`] with `Invalid` for no room at all and for more.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn queue<T>(&self, capacity: u32) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().queue(capacity).await
    }

    /// Makes a queue at which puts do not wait until it has 1,000,000,000 items: what no process
    /// takes stays in the memory of the manager. Python: `manager.JoinableQueue()`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn unbounded_queue<T>(&self) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().unbounded_queue().await
    }

    /// Makes a value. Python: `manager.Value(typecode, value)`.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`], and [`CallError::Fault`] with `Limit` for a value above the limit of a
    /// message, and with `BadArguments` for one that cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn value<T>(&self, value: T) -> Result<Value<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().value(value).await
    }

    /// Makes a lock for each of any number of keys.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn keyed_lock(&self) -> Result<KeyedLock, CallError> {
        self.anonymous().keyed_lock().await
    }

    /// Makes that many permits, at least one, for each of any number of keys.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`], and [`CallError::Refused`] with `Invalid` for no permits at all.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn keyed_semaphore(&self, permits: u32) -> Result<KeyedSemaphore, CallError> {
        self.anonymous().keyed_semaphore(permits).await
    }

    /// Makes an object of a kind that was registered with the manager.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`], [`CallError::Fault`] with `UnknownKind` when it was not registered, and
    /// [`CallError::Refused`] when its `create` refuses the spec. [`CallError::Fault`] with
    /// `BadArguments` tells that the spec cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::lock`].
    pub async fn open<P: Primitive>(&self, spec: P::Spec) -> Result<Proxy<P>, CallError> {
        self.anonymous().open(spec).await
    }

    /// Names the object that is opened next. Opening a name twice gives the same object.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named::new(self, Some(name))
    }

    /// Chooses the schema id of the queue or the value that is made next:
    /// `manager.schema("job/2").queue::<Job>(100)`.
    #[must_use]
    pub const fn schema<'a>(&'a self, id: &'a str) -> WithSchema<'a> {
        self.anonymous().schema(id)
    }

    /// Says who may release what sessions hold of the object that is made next:
    /// `manager.release_by(ReleaseBy::Anyone).lock()`.
    #[must_use]
    pub const fn release_by(&self, release_by: ReleaseBy) -> Releasable<'_> {
        self.anonymous().release_by(release_by)
    }

    const fn anonymous(&self) -> Named<'_> {
        Named::new(self, None)
    }
}

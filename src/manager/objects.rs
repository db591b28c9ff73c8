//! The methods of a manager that create an object or open one by its name, one for each kind.

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::operations::{BarrierSpec, ReleaseBy};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CallError,
    manager::{
        manager::Manager,
        named::{Named, WithReleaseBy, WithSchema},
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
    /// Creates a lock. Python: `manager.Lock()`.
    ///
    /// Only its holder may release it. [`Self::release_by`] creates a lock that every process may release, as
    /// in Python.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] if the manager is gone, and [`CallError::Fault`] with `Limit` when
    /// it hosts too many objects.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lock may have been created. Without a name, it cannot be removed before
    /// the manager ends. [`Self::named`] creates a lock that can be found again.
    pub async fn lock(&self) -> Result<Lock, CallError> {
        self.anonymous().lock().await
    }

    /// Creates a lock that its owner may acquire again. Python: `manager.RLock()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    #[doc(alias = "RLock")]
    pub async fn reentrant_lock(&self) -> Result<ReentrantLock, CallError> {
        self.anonymous().reentrant_lock().await
    }

    /// Creates a lock whose holder may wait until another holder notifies it. Python: `manager.Condition()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn condition(&self) -> Result<Condition, CallError> {
        self.anonymous().condition().await
    }

    /// Creates a flag that callers can wait for. Python: `manager.Event()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn event(&self) -> Result<Event, CallError> {
        self.anonymous().event().await
    }

    /// Creates a semaphore of `permits` permits. With zero it is a signal: calls wait until `add_permits`. Python: `manager.Semaphore(n)`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn semaphore(&self, permits: u32) -> Result<Semaphore, CallError> {
        self.anonymous().semaphore(permits).await
    }

    /// Creates a semaphore that never has more than `permits` permits: at least one, because no call is ever granted a
    /// permit of zero. Python: `manager.BoundedSemaphore(n)`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn bounded_semaphore(&self, permits: u32) -> Result<BoundedSemaphore, CallError> {
        self.anonymous().bounded_semaphore(permits).await
    }

    /// Creates a barrier of `parties` parties: a number, or a [`BarrierSpec`] with further settings. Python:
    /// `manager.Barrier(parties)`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`], and [`CallError::Refused`] with `Invalid` for zero parties.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn barrier(&self, parties: impl Into<BarrierSpec>) -> Result<Barrier, CallError> {
        self.anonymous().barrier(parties).await
    }

    /// Creates a lock with many readers or one writer. Python has no counterpart.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    #[doc(alias = "RwLock")]
    pub async fn rw_lock(&self) -> Result<RwLock, CallError> {
        self.anonymous().rw_lock().await
    }

    /// Creates a latch that counts down from `count`; at zero it is open. Python has no counterpart.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn latch(&self, count: u32) -> Result<Latch, CallError> {
        self.anonymous().latch(count).await
    }

    /// Creates a queue of items of one type, with room for `capacity` items, 1 to 1,000,000,000:
    /// `manager.queue::<Job>(100)`. Python: `manager.JoinableQueue(n)`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`], and [`CallError::Refused`] with `Invalid` for a capacity outside
    /// of that range.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn queue<T>(&self, capacity: u32) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().queue(capacity).await
    }

    /// Creates a queue whose puts do not wait until it has 1,000,000,000 items. Items that no process takes
    /// stay in the memory of the manager. Python: `manager.JoinableQueue()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn unbounded_queue<T>(&self) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().unbounded_queue().await
    }

    /// Creates a value. Python: `manager.Value(typecode, value)`.
    ///
    /// Its fields are owned, such as `String`: with `&str` the compiler says that the implementation of `Deserialize` is
    /// not general enough.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`], and [`CallError::Fault`] with `Limit` for a value that exceeds
    /// the limit of a message, or with `BadArguments` for a value that cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn value<T>(&self, value: T) -> Result<Value<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.anonymous().value(value).await
    }

    /// Creates a lock for each of any number of keys.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn keyed_lock(&self) -> Result<KeyedLock, CallError> {
        self.anonymous().keyed_lock().await
    }

    /// Creates a semaphore of `permits` permits, at least one, for each of any number of keys.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`], and [`CallError::Refused`] with `Invalid` for zero permits.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn keyed_semaphore(&self, permits: u32) -> Result<KeyedSemaphore, CallError> {
        self.anonymous().keyed_semaphore(permits).await
    }

    /// Creates an object of a kind that was registered with the manager.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock`], [`CallError::Fault`] with `UnknownKind` if the kind was not
    /// registered, [`CallError::Refused`] if its `create` refuses the spec, and [`CallError::Fault`] with
    /// `BadArguments` if the spec cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::lock`].
    pub async fn open<P: Primitive>(&self, spec: P::Spec) -> Result<Proxy<P>, CallError> {
        self.anonymous().open(spec).await
    }

    /// Sets the name of the object that is opened next. Opening a name twice returns the same object.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named::new(self, Some(name))
    }

    /// Sets the schema id of the queue or the value that is created next:
    /// `manager.schema("job/2").queue::<Job>(100)`.
    #[must_use]
    pub const fn schema<'a>(&'a self, id: &'a str) -> WithSchema<'a> {
        self.anonymous().schema(id)
    }

    /// Sets who may release the holds of the object that is created next:
    /// `manager.release_by(ReleaseBy::Anyone).lock()`.
    #[must_use]
    pub const fn release_by(&self, release_by: ReleaseBy) -> WithReleaseBy<'_> {
        self.anonymous().release_by(release_by)
    }

    const fn anonymous(&self) -> Named<'_> {
        Named::new(self, None)
    }
}

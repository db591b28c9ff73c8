//! The methods of a manager that create an object, or open one by its name: one for each kind.

use std::sync::Arc;

use lockkeeper_actors::{Primitive, data, sync};
use lockkeeper_protocol::operations::{
    BarrierSpec, LatchSpec, QueueSpec, SemaphoreSpec, ValueSpec,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::connection::Connection,
    error::CallError,
    manager::manager::Manager,
    proxy::{
        barrier::Barrier,
        bound::encode,
        condition::Condition,
        event::Event,
        keyed::keyed::{KeyedLock, KeyedSemaphore},
        latch::Latch,
        lock::Lock,
        proxy::Proxy,
        queue::Queue,
        reentrant_lock::ReentrantLock,
        rw_lock::RwLock,
        schema,
        semaphore::{BoundedSemaphore, Semaphore},
        typed::{Typed, fit},
        value::Value,
    },
};

impl Manager {
    /// Makes a lock. Python: `manager.Lock()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] without the manager and [`CallError::Fault`] with
    /// `Limit` when it hosts too many objects.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, the lock may have been made: one without a name that nobody knows, so that
    /// nobody can remove it before the manager ends. [`Self::named`] makes one that can be found
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

    /// Makes a queue that puts never wait at, but for 1,000,000,000 items that are in: what nobody
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
        Named {
            manager: self,
            name: Some(name),
        }
    }

    const fn anonymous(&self) -> Named<'_> {
        Named {
            manager: self,
            name: None,
        }
    }
}

/// A name about to be given to an object, or to find it by.
///
/// Errors of its methods, beyond those of the [`Manager`]'s: [`CallError::Fault`] with `WrongKind`
/// or `WrongSpec` when the name is that of another object, and with `BadName` when it is empty,
/// too long, or begins with `#`.
///
/// Cancel safety of its methods: dropped midway, the object may have been made. To open the name
/// again gives that one.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    manager: &'a Manager,
    name: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// Who has the object of that name, or is to have the next one without a name.
    async fn shard(self) -> Result<&'a Arc<Connection>, CallError> {
        self.manager.reach.shard_of(self.name).await
    }

    /// Opens a lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn lock(self) -> Result<Lock, CallError> {
        Ok(self.open::<sync::Lock>(()).await?.into())
    }

    /// Opens a reentrant lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn reentrant_lock(self) -> Result<ReentrantLock, CallError> {
        Ok(self.open::<sync::ReentrantLock>(()).await?.into())
    }

    /// Opens a condition.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn condition(self) -> Result<Condition, CallError> {
        Ok(self.open::<sync::Condition>(()).await?.into())
    }

    /// Opens an event.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn event(self) -> Result<Event, CallError> {
        Ok(self.open::<sync::Event>(()).await?.into())
    }

    /// Opens a semaphore of that many permits.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn semaphore(self, permits: u32) -> Result<Semaphore, CallError> {
        let permits = permits.into();
        let proxy = self
            .open::<sync::Semaphore>(SemaphoreSpec { permits })
            .await?;
        Ok(proxy.into())
    }

    /// Opens a bounded semaphore of that many permits.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn bounded_semaphore(self, permits: u32) -> Result<BoundedSemaphore, CallError> {
        let permits = permits.into();
        let proxy = self
            .open::<sync::BoundedSemaphore>(SemaphoreSpec { permits })
            .await?;
        Ok(proxy.into())
    }

    /// Opens a barrier of that many parties.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::barrier`].
    pub async fn barrier(self, parties: impl Into<BarrierSpec>) -> Result<Barrier, CallError> {
        Ok(self.open::<sync::Barrier>(parties.into()).await?.into())
    }

    /// Opens a readers-writer lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn rw_lock(self) -> Result<RwLock, CallError> {
        Ok(self.open::<sync::RwLock>(()).await?.into())
    }

    /// Opens a latch that counts down from that many.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn latch(self, count: u32) -> Result<Latch, CallError> {
        let count = count.into();
        Ok(self.open::<sync::Latch>(LatchSpec { count }).await?.into())
    }

    /// Opens a queue with room for that many items of one type. One of another type is
    /// [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::queue`].
    pub async fn queue<T>(self, capacity: u32) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.open_queue(Some(capacity.into())).await
    }

    /// Opens a queue without a bound, of items of one type. One of another type is
    /// [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn unbounded_queue<T>(self) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.open_queue(None).await
    }

    /// Opens a value, or makes it. The value given is what it is made with, so all who open it by
    /// its name give the same, whatever it is by then. One of another type is
    /// [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::value`].
    pub async fn value<T>(self, value: T) -> Result<Value<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        let shard = self.shard().await?;
        let value = fit(shard, encode(&value)?)?;
        let holds = schema::of::<T>();
        let spec = ValueSpec { value, holds };
        let opened = Typed::<data::Value, T>::open(shard, self.name, spec).await?;
        Ok(opened.into())
    }

    async fn open_queue<T>(self, capacity: Option<u64>) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        let holds = schema::of::<T>();
        let spec = QueueSpec { capacity, holds };
        let shard = self.shard().await?;
        let opened = Typed::<data::Queue, T>::open(shard, self.name, spec).await?;
        Ok(opened.into())
    }

    /// Opens a keyed lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn keyed_lock(self) -> Result<KeyedLock, CallError> {
        Ok(self.open::<sync::KeyedLock>(()).await?.into())
    }

    /// Opens a keyed semaphore of that many permits a key.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::keyed_semaphore`].
    pub async fn keyed_semaphore(self, permits: u32) -> Result<KeyedSemaphore, CallError> {
        let permits = permits.into();
        let proxy = self
            .open::<sync::KeyedSemaphore>(SemaphoreSpec { permits })
            .await?;
        Ok(proxy.into())
    }

    /// Opens an object of a kind that was registered with the manager.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn open<P: Primitive>(self, spec: P::Spec) -> Result<Proxy<P>, CallError> {
        Proxy::open(self.shard().await?, self.name, &spec).await
    }
}

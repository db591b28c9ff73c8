//! `Named` and `WithReleaseBy`: an object that is opened by its name, with a choice of who may release its
//! holds.

use std::sync::Arc;

use lockkeeper_actors::{Primitive, data, sync};
use lockkeeper_protocol::operations::{
    BarrierSpec, LatchSpec, QueueSpec, ReleaseBy, SemaphoreSpec, ValueSpec,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::connection::Connection,
    error::CallError,
    manager::manager::Manager,
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
        typed::{Typed, VALUE, pack},
        value::Value,
    },
};

/// The name of an object to open. Its methods open the object with that name, or create it.
///
/// Its methods return the errors of the [`Manager`]'s methods, and [`CallError::Fault`] with `WrongKind` or
/// `WrongSpec` when the name belongs to another object, or with `BadName` when it is empty, too long, or
/// begins with `#`.
///
/// If the future of a method is dropped, the object may have been created. Opening the name again returns the
/// same object.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    manager: &'a Manager,
    name: Option<&'a str>,
}

impl<'a> Named<'a> {
    pub(super) const fn new(manager: &'a Manager, name: Option<&'a str>) -> Self {
        Self { manager, name }
    }

    /// The connection to the shard that has the object with that name, or that creates the next object
    /// without a name.
    async fn shard(self) -> Result<&'a Arc<Connection>, CallError> {
        self.manager.reach.shard_of(self.name).await
    }

    /// Sets who may release the holds of the object:
    /// `manager.named("jobs").release_by(ReleaseBy::Anyone).lock()`. The choice is a part of the object's
    /// spec: opening the name with the other choice is `WrongSpec`.
    #[must_use]
    pub const fn release_by(self, release_by: ReleaseBy) -> WithReleaseBy<'a> {
        WithReleaseBy {
            named: self,
            release_by,
        }
    }

    /// Sets the schema id of the items or the value, in place of the id of their type:
    /// `manager.named("jobs").schema("job/2").queue::<Job>(100)`. All programs that open the name must use
    /// the same id.
    #[must_use]
    pub const fn schema(self, id: &'a str) -> WithSchema<'a> {
        WithSchema {
            named: self,
            schema: Some(id),
        }
    }

    const fn with_schema_of_type(self) -> WithSchema<'a> {
        WithSchema {
            named: self,
            schema: None,
        }
    }

    const fn release_by_holder(self) -> WithReleaseBy<'a> {
        self.release_by(ReleaseBy::Holder)
    }

    /// Opens a lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn lock(self) -> Result<Lock, CallError> {
        self.release_by_holder().lock().await
    }

    /// Opens a reentrant lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn reentrant_lock(self) -> Result<ReentrantLock, CallError> {
        self.release_by_holder().reentrant_lock().await
    }

    /// Opens a condition.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn condition(self) -> Result<Condition, CallError> {
        self.release_by_holder().condition().await
    }

    /// Opens an event.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn event(self) -> Result<Event, CallError> {
        Ok(self.open::<sync::Event>(()).await?.into())
    }

    /// Opens a semaphore of `permits` permits.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn semaphore(self, permits: u32) -> Result<Semaphore, CallError> {
        self.release_by_holder().semaphore(permits).await
    }

    /// Opens a bounded semaphore of `permits` permits.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn bounded_semaphore(self, permits: u32) -> Result<BoundedSemaphore, CallError> {
        self.release_by_holder().bounded_semaphore(permits).await
    }

    /// Opens a barrier of `parties` parties.
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
        self.release_by_holder().rw_lock().await
    }

    /// Opens a latch that counts down from `count`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn latch(self, count: u32) -> Result<Latch, CallError> {
        let count = count.into();
        Ok(self.open::<sync::Latch>(LatchSpec { count }).await?.into())
    }

    /// Opens a queue of items of one type, with room for `capacity` items. A queue with another schema id is
    /// [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::queue`].
    pub async fn queue<T>(self, capacity: u32) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.with_schema_of_type().queue(capacity).await
    }

    /// Opens a queue of items of one type, without a bound. A queue with another schema id is
    /// [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn unbounded_queue<T>(self) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.with_schema_of_type().unbounded_queue().await
    }

    /// Opens a value, or creates it. The argument is the initial value and part of the spec, so all programs
    /// that open the name give the same one, even after the value has changed. A value with another schema id
    /// is [`CallError::Refused`] with `WrongType`.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::value`].
    pub async fn value<T>(self, value: T) -> Result<Value<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.with_schema_of_type().value(value).await
    }

    /// Opens a keyed lock.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety.
    pub async fn keyed_lock(self) -> Result<KeyedLock, CallError> {
        self.release_by_holder().keyed_lock().await
    }

    /// Opens a keyed semaphore of `permits` permits per key.
    ///
    /// # Errors
    ///
    /// See [`Named`], also for the cancel safety, and [`Manager::keyed_semaphore`].
    pub async fn keyed_semaphore(self, permits: u32) -> Result<KeyedSemaphore, CallError> {
        self.release_by_holder().keyed_semaphore(permits).await
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

/// A queue or a value to open, with the schema id that the program has chosen.
///
/// The id describes the items. The default is the name of their type without module paths, such as
/// `Vec<Job>`. Choose an id for programs in other languages, and for types that are generic, renamed or
/// versioned. It has 1 to 4,096 bytes. Proxies pass it on to other processes.
///
/// See [`Named`] for the errors and the cancel safety of its methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let jobs = manager.named("jobs").schema("job/2").queue::<(u32, String)>(100).await?;
/// // A program with another type of the same form.
/// let same = manager.named("jobs").schema("job/2").queue::<(u64, Box<str>)>(100).await?;
/// jobs.put((7, "sweep".to_owned())).await?;
/// assert_eq!(same.get().await?.0, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WithSchema<'a> {
    named: Named<'a>,
    schema: Option<&'a str>,
}

impl<'a> WithSchema<'a> {
    /// Sets the name, as [`Manager::named`] does: `manager.schema("job/2").named("jobs").queue::<Job>(100)`.
    #[must_use]
    pub const fn named(mut self, name: &'a str) -> Self {
        self.named.name = Some(name);
        self
    }

    /// Opens a queue with room for `capacity` items.
    ///
    /// # Errors
    ///
    /// See [`Named`] and [`Manager::queue`].
    pub async fn queue<T>(self, capacity: u32) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.open_queue(Some(capacity.into())).await
    }

    /// Opens a queue without a bound.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn unbounded_queue<T>(self) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.open_queue(None).await
    }

    /// Opens a value, or creates it with `value` as its initial value.
    ///
    /// # Errors
    ///
    /// See [`Named`] and [`Manager::value`].
    pub async fn value<T>(self, value: T) -> Result<Value<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        let Self { named, schema } = self;
        let shard = named.shard().await?;
        let value = pack(shard, &value, VALUE)?;
        let spec = |schema| ValueSpec { value, schema };
        let opened = Typed::<data::Value, T>::open(shard, named.name, schema, spec).await?;
        Ok(opened.into())
    }

    async fn open_queue<T>(self, capacity: Option<u64>) -> Result<Queue<T>, CallError>
    where
        T: Serialize + DeserializeOwned,
    {
        let Self { named, schema } = self;
        let spec = |schema| QueueSpec {
            capacity: capacity.map(i128::from),
            schema,
        };
        let shard = named.shard().await?;
        let opened = Typed::<data::Queue, T>::open(shard, named.name, schema, spec).await?;
        Ok(opened.into())
    }
}

/// An object to open, with the choice of who may release its holds.
///
/// With [`ReleaseBy::Anyone`] every process that opens the object may release the hold of another process by
/// the proxy's `release_any`, as with Python's `Lock` and `Semaphore`. The guard of that hold is then lost.
///
/// See [`Named`] for the errors and the cancel safety of its methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lockkeeper::ReleaseBy;
///
/// let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.release_by(ReleaseBy::Anyone).lock().await?;
/// let guard = lock.acquire().await?;
/// lock.release_any().await?;
/// guard.lost().await;
/// assert!(lock.try_acquire().await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WithReleaseBy<'a> {
    named: Named<'a>,
    release_by: ReleaseBy,
}

impl<'a> WithReleaseBy<'a> {
    /// Sets the name, as [`Manager::named`] does: `manager.release_by(ReleaseBy::Anyone).named("jobs").lock()`.
    #[must_use]
    pub const fn named(mut self, name: &'a str) -> Self {
        self.named.name = Some(name);
        self
    }

    /// Opens a lock.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn lock(self) -> Result<Lock, CallError> {
        let Self { named, release_by } = self;
        Ok(named.open::<sync::Lock>(release_by).await?.into())
    }

    /// Opens a reentrant lock. In Python, only the owner of an `RLock` may release it.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn reentrant_lock(self) -> Result<ReentrantLock, CallError> {
        let Self { named, release_by } = self;
        Ok(named.open::<sync::ReentrantLock>(release_by).await?.into())
    }

    /// Opens a condition.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn condition(self) -> Result<Condition, CallError> {
        let Self { named, release_by } = self;
        Ok(named.open::<sync::Condition>(release_by).await?.into())
    }

    /// Opens a readers-writer lock.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn rw_lock(self) -> Result<RwLock, CallError> {
        let Self { named, release_by } = self;
        Ok(named.open::<sync::RwLock>(release_by).await?.into())
    }

    /// Opens a keyed lock.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn keyed_lock(self) -> Result<KeyedLock, CallError> {
        let Self { named, release_by } = self;
        Ok(named.open::<sync::KeyedLock>(release_by).await?.into())
    }

    /// Opens a semaphore of `permits` permits.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn semaphore(self, permits: u32) -> Result<Semaphore, CallError> {
        let spec = self.spec(permits);
        Ok(self.named.open::<sync::Semaphore>(spec).await?.into())
    }

    /// Opens a bounded semaphore of `permits` permits.
    ///
    /// # Errors
    ///
    /// See [`Named`].
    pub async fn bounded_semaphore(self, permits: u32) -> Result<BoundedSemaphore, CallError> {
        let spec = self.spec(permits);
        let opened = self.named.open::<sync::BoundedSemaphore>(spec);
        Ok(opened.await?.into())
    }

    /// Opens a keyed semaphore of `permits` permits per key.
    ///
    /// # Errors
    ///
    /// See [`Named`] and [`Manager::keyed_semaphore`](crate::Manager::keyed_semaphore).
    pub async fn keyed_semaphore(self, permits: u32) -> Result<KeyedSemaphore, CallError> {
        let spec = self.spec(permits);
        let opened = self.named.open::<sync::KeyedSemaphore>(spec);
        Ok(opened.await?.into())
    }

    fn spec(self, permits: u32) -> SemaphoreSpec {
        SemaphoreSpec {
            permits: permits.into(),
            release_by: self.release_by,
        }
    }
}

//! The proxy of a hosted readers-writer lock.

use std::{fmt, future::Future, ops::Deref, time::Duration};

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::AcquireFor;
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{
        ask::Ask,
        guard::Guard,
        hold::Hold,
        proxy::Proxy,
        rw_guard::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Way},
        token::Token,
        wait::Wait,
    },
};

/// A lock that processes share, with many readers or one writer at a time.
///
/// All calls wait in one queue, in order of arrival: adjacent readers are granted together, and a reader does
/// not overtake a waiting writer, so neither starves. For the same reason a task that reads must not wait to
/// read again: a writer between the two would wait for the first read, and the second read for the writer.
///
/// One reader at a time may be *upgradable*: it reads together with plain readers, and may upgrade to writing
/// without another writer in between ([`Guard::upgrade`]). A writer may downgrade to reading in the same way
/// ([`Guard::downgrade`]).
///
/// It contains no data: it protects data elsewhere, such as in a file or a database. Counterpart of
/// `tokio::sync::RwLock<()>` and `parking_lot`'s `RwLock<()>`; Python's `multiprocessing` has none.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let settings = manager.rw_lock().await?;
/// let readers = (settings.read().await?, settings.read().await?);
/// assert!(settings.try_write().await?.is_none());
/// drop(readers);
///
/// let reader = settings.upgradable_read().await?;
/// let writer = reader.upgrade().await?;
/// assert!(settings.try_read().await?.is_none());
/// let reader = writer.downgrade().await?;
/// assert!(settings.try_read().await?.is_some());
/// # drop(reader);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ReadWriteLock")]
#[doc(alias = "shared_mutex")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RwLock(Proxy<sync::RwLock>);

impl RwLock {
    /// Waits to read, together with other readers.
    pub fn read(&self) -> Wait<RwLockReadGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
    }

    /// Acquires the lock for reading if that is possible at once, and never overtakes a waiter.
    pub fn try_read(&self) -> Wait<Option<RwLockReadGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
    }

    /// Waits to read, together with other readers, with the right to become the writer. One reader at a time has
    /// that right, and further calls for it wait.
    pub fn upgradable_read(&self) -> Wait<RwLockUpgradableReadGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
    }

    /// Acquires the lock for an upgradable read if that is possible at once, and never overtakes a waiter.
    pub fn try_upgradable_read(&self) -> Wait<Option<RwLockUpgradableReadGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
    }

    /// Waits to write exclusively.
    pub fn write(&self) -> Wait<RwLockWriteGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
    }

    /// Acquires the lock for writing if that is possible at once, and never overtakes a waiter.
    pub fn try_write(&self) -> Wait<Option<RwLockWriteGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
    }

    fn acquire_within<W: Way>(
        self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Guard<W>, CallError>> + Send {
        let access = W::ACCESS;
        Ask::new(self.0, AcquireFor { access }, timeout, |answer| {
            let (bound, grant, reply) = answer?;
            let granted = bound.accepted(reply)?;
            Ok(Guard::new(Hold::new(bound, grant), granted, ()))
        })
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}

impl Deref for RwLock {
    type Target = Proxy<sync::RwLock>;

    fn deref(&self) -> &Proxy<sync::RwLock> {
        &self.0
    }
}

impl From<Proxy<sync::RwLock>> for RwLock {
    fn from(proxy: Proxy<sync::RwLock>) -> Self {
        Self(proxy)
    }
}

impl From<Token<sync::RwLock>> for RwLock {
    fn from(token: Token<sync::RwLock>) -> Self {
        Self(token.into())
    }
}

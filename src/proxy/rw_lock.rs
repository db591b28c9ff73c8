//! The proxy of a hosted readers-writer lock.

use std::time::Duration;

use lockkeeper_actors::sync;
use lockkeeper_protocol::{
    ObjectInfo,
    operations::{AcquireFor, CountHolders, ForceUnlock, ReleaseAny, RwLockStatus},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::thread::block_on,
    error::CallError,
    proxy::{
        bound::tried,
        guard::Guard,
        hold::Hold,
        proxy::Proxy,
        rw_guard::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Way},
        token::Token,
    },
};

/// A lock that processes share and that many read, or one writes.
///
/// All stand in one line, in the order of arrival: readers that stand together enter together, and
/// a reader does not overtake a writer that waits, so none of them starves. For the same reason a
/// task that reads must not wait to read again: a writer between the two waits for the first, and
/// the second for the writer.
///
/// One reader at a time may be *upgradable*: it stands beside plain readers, and may become the
/// writer without anybody writing in between ([`Guard::upgrade`]). A writer may become a reader in
/// the same way ([`Guard::downgrade`]).
///
/// It guards what lies elsewhere, in a file or a database, and has no data of its own. Counterpart
/// of `tokio::sync::RwLock<()>` and `parking_lot`'s `RwLock<()>`; Python's `multiprocessing` has
/// none.
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RwLock(Proxy<sync::RwLock>);

impl RwLock {
    /// Waits to read, beside others who read.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] or [`CallError::NoManager`] without a manager and
    /// [`CallError::Gone`] once the lock was removed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held and nobody else's turn is lost. So
    /// `tokio::time::timeout(time, lock.read())` is right.
    pub async fn read(&self) -> Result<RwLockReadGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to read until the time is over, kept by the manager.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard, CallError> {
        self.acquire_within(Some(timeout)).await
    }

    /// Reads if that is possible at once; never overtakes a waiter.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn try_read(&self) -> Result<Option<RwLockReadGuard>, CallError> {
        tried(self.acquire_within(Some(Duration::ZERO)).await)
    }

    /// Waits to read in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn read_owned(self) -> Result<RwLockReadGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to read on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_read(&self) -> Result<RwLockReadGuard, CallError> {
        block_on(self.read())
    }

    /// Waits to read on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::read_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard, CallError> {
        block_on(self.read_timeout(timeout))
    }

    /// Reads on a plain thread if that is possible at once.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_read(&self) -> Result<Option<RwLockReadGuard>, CallError> {
        block_on(self.try_read())
    }

    /// Waits to read, beside others who read, with the right to become the writer: one at a time
    /// has that, and others who want it wait.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn upgradable_read(&self) -> Result<RwLockUpgradableReadGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to read with the right to upgrade until the time is over, kept by the manager.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn upgradable_read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockUpgradableReadGuard, CallError> {
        self.acquire_within(Some(timeout)).await
    }

    /// Reads with the right to upgrade if that is possible at once; never overtakes a waiter.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn try_upgradable_read(
        &self,
    ) -> Result<Option<RwLockUpgradableReadGuard>, CallError> {
        tried(self.acquire_within(Some(Duration::ZERO)).await)
    }

    /// Waits to read with the right to upgrade in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn upgradable_read_owned(self) -> Result<RwLockUpgradableReadGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to read with the right to upgrade on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_upgradable_read(&self) -> Result<RwLockUpgradableReadGuard, CallError> {
        block_on(self.upgradable_read())
    }

    /// Waits to read with the right to upgrade on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::upgradable_read_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_upgradable_read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockUpgradableReadGuard, CallError> {
        block_on(self.upgradable_read_timeout(timeout))
    }

    /// Reads with the right to upgrade on a plain thread if that is possible at once.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_upgradable_read(
        &self,
    ) -> Result<Option<RwLockUpgradableReadGuard>, CallError> {
        block_on(self.try_upgradable_read())
    }

    /// Waits to write, beside nobody.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn write(&self) -> Result<RwLockWriteGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to write until the time is over, kept by the manager.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard, CallError> {
        self.acquire_within(Some(timeout)).await
    }

    /// Writes if that is possible at once; never overtakes a waiter.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn try_write(&self) -> Result<Option<RwLockWriteGuard>, CallError> {
        tried(self.acquire_within(Some(Duration::ZERO)).await)
    }

    /// Waits to write in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::read`].
    pub async fn write_owned(self) -> Result<RwLockWriteGuard, CallError> {
        self.acquire_within(None).await
    }

    /// Waits to write on a plain thread.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_write(&self) -> Result<RwLockWriteGuard, CallError> {
        block_on(self.write())
    }

    /// Waits to write on a plain thread until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::write_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard, CallError> {
        block_on(self.write_timeout(timeout))
    }

    /// Writes on a plain thread if that is possible at once.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_write(&self) -> Result<Option<RwLockWriteGuard>, CallError> {
        block_on(self.try_write())
    }

    /// Releases the oldest hold, of a reader or a writer, whichever process has it, if the lock was
    /// made with [`ReleaseBy::Anyone`](crate::ReleaseBy). Its guard is lost.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the lock is free, and with `Invalid` when only its
    /// holders may release it; else as [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been released. Do not try again: the next holder would lose it.
    pub async fn release_any(&self) -> Result<(), CallError> {
        self.0.attempt(ReleaseAny).await
    }

    /// Takes the lock from all who hold it, whose guards are lost then, and gives it to the next in
    /// line with higher fences. Returns whether anybody held it.
    ///
    /// An administrator's verb: a writer may be in the middle of what the lock protects. It leaves no
    /// mark.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, it may have been done, and nobody knows whether anybody held the lock.
    pub async fn force_unlock(&self) -> Result<bool, CallError> {
        self.0.call(ForceUnlock).await
    }

    /// Tells who is inside and how many wait, which may have changed when it is read.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn status(&self) -> Result<RwLockStatus, CallError> {
        self.0.call(CountHolders).await
    }

    /// Tells who holds it and who waits for it, in order, and what was measured: see
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

    /// Where the lock is.
    #[must_use]
    pub const fn token(&self) -> &Token<sync::RwLock> {
        self.0.token()
    }

    async fn acquire_within<W: Way>(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Guard<W>, CallError> {
        let bound = self.0.bound().await?;
        let access = W::ACCESS;
        let (grant, reply) = bound.call(&AcquireFor { access }, timeout).await?;
        let granted = bound.accepted(reply)?;
        Ok(Guard::new(Hold::new(bound, grant), granted, ()))
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

//! The proxy of a hosted readers-writer lock.

use std::{ops::Deref, time::Duration};

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{
    AcquireFor, CountHolders, ForceUnlock, ReleaseAny, RwLockStatus,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{
        guard::Guard,
        hold::Hold,
        proxy::Proxy,
        rw_guard::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Way},
        token::Token,
        wait::Wait,
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
    /// As [`Wait`].
    pub fn read(&self) -> Wait<RwLockReadGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
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
    pub fn try_read(&self) -> Wait<Option<RwLockReadGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
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
    pub fn upgradable_read(&self) -> Wait<RwLockUpgradableReadGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
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
    pub fn try_upgradable_read(&self) -> Wait<Option<RwLockUpgradableReadGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
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
    pub fn write(&self) -> Wait<RwLockWriteGuard> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
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
    pub fn try_write(&self) -> Wait<Option<RwLockWriteGuard>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
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

    async fn acquire_within<W: Way>(
        self,
        timeout: Option<Duration>,
    ) -> Result<Guard<W>, CallError> {
        let access = W::ACCESS;
        let (bound, grant, reply) = self.0.ask(&AcquireFor { access }, timeout).await?;
        let granted = bound.accepted(reply)?;
        Ok(Guard::new(Hold::new(&bound, grant), granted, ()))
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

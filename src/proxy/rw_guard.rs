//! The guards of a readers-writer lock, one for each mode, and the changes between modes.

use std::time::Duration;

use lockkeeper_protocol::operations::{Access, Downgrade, Granted, Upgrade};

use crate::{
    error::CallError,
    proxy::{
        guard::{Guard, Guarded},
        hold::Hold,
        wait::Wait,
    },
};

/// A guard of an [`RwLock`](crate::RwLock) that is held for reading.
///
/// Concurrent readers have different fences, so a resource should compare only those of writers:
/// each is higher than those of all earlier reads.
#[doc(alias = "OwnedRwLockReadGuard")]
pub type RwLockReadGuard = Guard<Reading>;

/// A guard of an [`RwLock`](crate::RwLock) that is held for reading, with the right to upgrade to
/// writing.
#[doc(alias = "RwLockUpgradableGuard")]
pub type RwLockUpgradableReadGuard = Guard<Upgradable>;

/// A guard of an [`RwLock`](crate::RwLock) that is held for writing.
#[doc(alias = "OwnedRwLockWriteGuard")]
pub type RwLockWriteGuard = Guard<Writing>;

/// The type parameter of an [`RwLockReadGuard`].
#[derive(Clone, Copy, Debug)]
pub enum Reading {}

/// The type parameter of an [`RwLockUpgradableReadGuard`].
#[derive(Clone, Copy, Debug)]
pub enum Upgradable {}

/// The type parameter of an [`RwLockWriteGuard`].
#[derive(Clone, Copy, Debug)]
pub enum Writing {}

impl Guarded for Reading {
    const NAME: &'static str = "rw_lock, to read";
    type Data = ();
}

impl Guarded for Upgradable {
    const NAME: &'static str = "rw_lock, to read and perhaps to write";
    type Data = ();
}

impl Guarded for Writing {
    const NAME: &'static str = "rw_lock, to write";
    type Data = ();
}

/// A mode of the lock.
pub(super) trait Way: Guarded<Data = ()> {
    /// The requested access.
    const ACCESS: Access;
}

impl Way for Reading {
    const ACCESS: Access = Access::Read;
}

impl Way for Upgradable {
    const ACCESS: Access = Access::Upgradable;
}

impl Way for Writing {
    const ACCESS: Access = Access::Write;
}

impl Guard<Upgradable> {
    /// Upgrades to writing after all other readers have left. No other writer is granted in between: the
    /// upgrade overtakes all waiting calls, and no new reader is granted meanwhile.
    ///
    /// After a [timeout](Wait::timeout) the guard is lost, because the call has consumed it. To keep the guard,
    /// use [`try_upgrade().timeout(t)`](Self::try_upgrade). A task that holds another read guard of the lock would
    /// wait for itself.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before, or is lost while the call
    /// waits. After any error, [`CallError::TimedOut`] included, nothing is held.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, nothing is held: the future owns the guard. To keep the guard after a
    /// timeout, call [`Self::try_upgrade`] with a timeout.
    pub fn upgrade(self) -> Wait<RwLockWriteGuard> {
        Wait::new(|timeout| async move {
            let (hold, granted) = self.upgraded(timeout).await?;
            Ok(self.replaced_by(hold, granted))
        })
    }

    /// Upgrades to writing if no other reader holds the lock, at once or before the [timeout](Wait::timeout) if
    /// one is set. Otherwise it returns `Ok(Err(guard))` with the unchanged guard. It overtakes all waiting
    /// calls, as [`Self::upgrade`] does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let lock = manager.rw_lock().await?;
    /// # let reader = lock.read().await?;
    /// let guard = lock.upgradable_read().await?;
    /// match guard.try_upgrade().timeout(Duration::from_millis(10)).await? {
    ///     Ok(_writer) => unreachable!("another reader is inside"),
    ///     Err(guard) => assert!(guard.is_valid()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_upgrade(self) -> Wait<Result<RwLockWriteGuard, Self>> {
        Wait::new(|timeout| async move {
            match self.upgraded(timeout.or(Some(Duration::ZERO))).await {
                Ok((hold, granted)) => Ok(Ok(self.replaced_by(hold, granted))),
                Err(CallError::TimedOut(_)) => Ok(Err(self)),
                Err(error) => Err(error),
            }
        })
    }

    /// Downgrades to a plain reader, so that the next waiter can get the right to upgrade.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before.
    pub fn downgrade(self) -> Wait<RwLockReadGuard> {
        downgraded(self)
    }

    /// The call for the writer's hold. If this future is dropped, the call is withdrawn, and this
    /// hold is unchanged.
    async fn upgraded(&self, timeout: Option<Duration>) -> Result<(Hold, Granted), CallError> {
        let grant = self.hold().proof();
        self.hold().call_within(&Upgrade { grant }, timeout).await
    }
}

impl Guard<Writing> {
    /// Downgrades to reading without another writer in between. The readers at the head of the queue are
    /// granted with it.
    ///
    /// The guard keeps the writer's fence and the mark of a dead holder. A process that dies as a reader
    /// leaves no mark, so downgrade only when the data is consistent.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before, and as
    /// [`RwLock::read`](crate::RwLock::read). After any error nothing is held.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, nothing is held: the future owns the guard.
    pub fn downgrade(self) -> Wait<RwLockReadGuard> {
        downgraded(self)
    }

    /// Downgrades to an upgradable reader; otherwise as [`Self::downgrade`].
    ///
    /// # Errors
    ///
    /// As [`Self::downgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::downgrade`].
    pub fn downgrade_to_upgradable(self) -> Wait<RwLockUpgradableReadGuard> {
        downgraded(self)
    }
}

/// The call that downgrades the hold. If it is dropped, the guard releases the hold.
fn downgraded<From: Way, To: Way>(guard: Guard<From>) -> Wait<Guard<To>> {
    Wait::new(|timeout| async move {
        let (grant, to) = (guard.hold().proof(), To::ACCESS);
        let downgrade = Downgrade { grant, to };
        guard.hold().call(&downgrade, timeout).await?;
        Ok(guard.turned_into())
    })
}

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

/// An [`RwLock`](crate::RwLock), held for reading.
///
/// The fences of readers that are inside together differ, so a resource should compare those of
/// writers alone: each is higher than those of all reads before.
#[doc(alias = "OwnedRwLockReadGuard")]
pub type RwLockReadGuard = Guard<Reading>;

/// An [`RwLock`](crate::RwLock), held for reading by the one reader who may become the writer.
#[doc(alias = "RwLockUpgradableGuard")]
pub type RwLockUpgradableReadGuard = Guard<Upgradable>;

/// An [`RwLock`](crate::RwLock), held for writing.
#[doc(alias = "OwnedRwLockWriteGuard")]
pub type RwLockWriteGuard = Guard<Writing>;

/// What an [`RwLockReadGuard`] is of.
#[derive(Clone, Copy, Debug)]
pub enum Reading {}

/// What an [`RwLockUpgradableReadGuard`] is of.
#[derive(Clone, Copy, Debug)]
pub enum Upgradable {}

/// What an [`RwLockWriteGuard`] is of.
#[derive(Clone, Copy, Debug)]
pub enum Writing {}

impl Guarded for Reading {
    const NAME: &'static str = "rw_lock, to read";
    type Owner = ();
}

impl Guarded for Upgradable {
    const NAME: &'static str = "rw_lock, to read and perhaps to write";
    type Owner = ();
}

impl Guarded for Writing {
    const NAME: &'static str = "rw_lock, to write";
    type Owner = ();
}

/// A way to hold the lock.
pub(super) trait Way: Guarded<Owner = ()> {
    /// What the lock is asked for.
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
    /// Waits until all other readers have left, and becomes the writer. No other writer gets in between: the
    /// upgrade overtakes all waiting calls, and no new reader enters meanwhile.
    ///
    /// After a [timeout](Wait::timeout) the guard is gone: the call has taken it. To keep the guard, use
    /// [`try_upgrade().timeout(t)`](Self::try_upgrade). A task that holds another read guard of the lock waits for
    /// itself.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before, or is lost while the call
    /// waits. After any error, [`CallError::TimedOut`] included, nothing is held.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held: the future owns the guard. To keep the guard when the time is over,
    /// call [`Self::try_upgrade`] with a timeout.
    pub fn upgrade(self) -> Wait<RwLockWriteGuard> {
        Wait::new(|timeout| async move {
            let (hold, granted) = self.upgraded(timeout).await?;
            Ok(self.replaced_by(hold, granted))
        })
    }

    /// Becomes the writer if no other reader is inside, at once or before the [timeout](Wait::timeout) if one
    /// is set. Otherwise it returns `Ok(Err(guard))` with the guard as it was. It overtakes all waiting calls, as
    /// [`Self::upgrade`] does.
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

    /// Gives the right to upgrade to the next in line that wants it, and reads on.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before.
    pub async fn downgrade(self) -> Result<RwLockReadGuard, CallError> {
        downgraded(self).await
    }

    /// The call for the writer's hold. Dropped on the way it is withdrawn, after which this hold is
    /// what it was.
    async fn upgraded(&self, timeout: Option<Duration>) -> Result<(Hold, Granted), CallError> {
        let grant = self.hold().proof();
        self.hold().call_within(&Upgrade { grant }, timeout).await
    }
}

impl Guard<Writing> {
    /// Becomes a reader, and no writer writes in between: the readers at the head of the line enter with it.
    ///
    /// Its fence stays the writer's, and so does the mark of a dead holder. A process that dies as a reader
    /// leaves no mark, so downgrade once the data is whole.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before, and as
    /// [`RwLock::read`](crate::RwLock::read). After an error nothing is held, whatever the error.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held: the guard goes with the future.
    pub async fn downgrade(self) -> Result<RwLockReadGuard, CallError> {
        downgraded(self).await
    }

    /// Becomes an upgradable reader; otherwise as [`Self::downgrade`].
    ///
    /// # Errors
    ///
    /// As [`Self::downgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::downgrade`].
    pub async fn downgrade_to_upgradable(self) -> Result<RwLockUpgradableReadGuard, CallError> {
        downgraded(self).await
    }
}

/// The same hold with others beside it. Dropped on the way, the guard releases it.
async fn downgraded<From: Way, To: Way>(guard: Guard<From>) -> Result<Guard<To>, CallError> {
    let (grant, to) = (guard.hold().proof(), To::ACCESS);
    guard.hold().call(&Downgrade { grant, to }).await?;
    Ok(guard.turned_into())
}

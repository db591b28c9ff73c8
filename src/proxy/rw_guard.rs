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
pub type RwLockReadGuard = Guard<Reading>;

/// An [`RwLock`](crate::RwLock), held for reading by the one reader who may become the writer.
pub type RwLockUpgradableReadGuard = Guard<Upgradable>;

/// An [`RwLock`](crate::RwLock), held for writing.
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
    /// Waits until all who read beside it have left, and becomes the writer, without anybody
    /// writing in between. It goes before all who wait, and lets no new reader in meanwhile.
    ///
    /// With a [timeout](Wait::timeout) that passes, the guard is lost: the call has taken it. To read on then,
    /// use [`try_upgrade().timeout(t)`](Self::try_upgrade), which gives it back. A task that reads beside it by
    /// another guard waits for itself.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before or is lost while
    /// it waits, and as [`RwLock::read`](crate::RwLock::read). After an error nothing is held, whatever the error,
    /// [`CallError::TimedOut`] included: the guard was given away.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held: the guard goes with the future. To keep it when the
    /// time is over, call [`Self::try_upgrade`] with a timeout.
    pub fn upgrade(self) -> Wait<RwLockWriteGuard> {
        Wait::new(|timeout| async move {
            let (hold, granted) = self.upgraded(timeout).await?;
            Ok(self.replaced_by(hold, granted))
        })
    }

    /// Becomes the writer if no other reader is inside, at once or before the [timeout](Wait::timeout) if one
    /// is set. Else it returns the guard as it was, within `Ok`. It overtakes all that wait, as
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
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::upgrade`].
    pub fn try_upgrade(self) -> Wait<Result<RwLockWriteGuard, Self>> {
        Wait::new(|timeout| async move {
            match self.upgraded(timeout.or(Some(Duration::ZERO))).await {
                Ok((hold, granted)) => Ok(Ok(self.replaced_by(hold, granted))),
                Err(CallError::TimedOut(_)) => Ok(Err(self)),
                Err(error) => Err(error),
            }
        })
    }

    /// Gives the right to upgrade to the next who wants it, and reads on.
    ///
    /// # Errors
    ///
    /// As [`Guard::<Writing>::downgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::<Writing>::downgrade`].
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
    /// Becomes a reader, without anybody writing in between: the readers at the head of the line
    /// enter with it.
    ///
    /// Its fence stays the writer's, and what it was marked with. A process that dies as a reader
    /// leaves no mark, so downgrade what is whole.
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

    /// Becomes the reader who may become the writer again, as [`Self::downgrade`] does else.
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

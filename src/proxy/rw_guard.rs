//! The guards of a readers-writer lock, one for each mode, and the changes between modes.

use std::time::Duration;

use lockkeeper_protocol::operations::{Access, Downgrade, Granted, Upgrade};

use crate::{
    client::thread::block_on,
    error::CallError,
    proxy::{
        bound::tried,
        guard::{Guard, Guarded},
        hold::Hold,
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
    /// A task that reads beside it by another guard waits for itself.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before or is lost while
    /// it waits, and as [`RwLock::read`](crate::RwLock::read). After an error nothing is held, whatever the error: the
    /// guard was given away.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held: the guard goes with the future. To keep it when the
    /// time is over, call [`Self::upgrade_timeout`].
    pub async fn upgrade(self) -> Result<RwLockWriteGuard, CallError> {
        let (hold, granted) = self.upgraded(None).await?;
        Ok(self.replaced_by(hold, granted))
    }

    /// The same until the time is over, kept by the manager; then it returns the guard as it was,
    /// within `Ok`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let lock = manager.rw_lock().await?;
    /// let other = lock.read().await?;
    /// let reader = lock.upgradable_read().await?;
    /// match reader.upgrade_timeout(Duration::from_millis(10)).await? {
    ///     Ok(_writer) => unreachable!("another reads"),
    ///     Err(reader) => assert!(reader.is_valid(), "it reads on"),
    /// }
    /// # drop(other);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`]; the end of the time is none.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::upgrade`].
    pub async fn upgrade_timeout(
        self,
        timeout: Duration,
    ) -> Result<Result<RwLockWriteGuard, Self>, CallError> {
        Ok(match tried(self.upgraded(Some(timeout)).await)? {
            Some((hold, granted)) => Ok(self.replaced_by(hold, granted)),
            None => Err(self),
        })
    }

    /// Becomes the writer if nobody reads beside it; else it returns the guard as it was, within
    /// `Ok`. It overtakes all who wait, as [`Self::upgrade`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::upgrade`].
    pub async fn try_upgrade(self) -> Result<Result<RwLockWriteGuard, Self>, CallError> {
        self.upgrade_timeout(Duration::ZERO).await
    }

    /// Waits on a plain thread until it can become the writer. See [`Self::upgrade`].
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_upgrade(self) -> Result<RwLockWriteGuard, CallError> {
        block_on(self.upgrade())
    }

    /// The same until the time is over. See [`Self::upgrade_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade_timeout`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_upgrade_timeout(
        self,
        timeout: Duration,
    ) -> Result<Result<RwLockWriteGuard, Self>, CallError> {
        block_on(self.upgrade_timeout(timeout))
    }

    /// Becomes the writer on a plain thread if nobody reads beside it. See [`Self::try_upgrade`].
    ///
    /// # Errors
    ///
    /// As [`Self::try_upgrade`].
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
    #[track_caller]
    pub fn blocking_try_upgrade(self) -> Result<Result<RwLockWriteGuard, Self>, CallError> {
        block_on(self.try_upgrade())
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

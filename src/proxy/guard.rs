//! `Guard`: the guard of every kind with one holder, and the ticket that passes a hold to another process.

use std::{fmt, future::Future, time::Duration};

use lockkeeper_protocol::{
    Abandoned, Fence, Proof, SignedCall,
    operations::{Granted, MarkConsistent, Release},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::owner::Owner,
    error::CallError,
    proxy::{
        abandoned::AbandonedGuard,
        hold::{Hold, run},
        lock_kind::LockKind,
        wait::Wait,
    },
};

/// A guard of a lock. Dropping the guard releases the lock: the drop sends a one-way message, and never
/// waits or fails.
///
/// The guard of each kind with one holder at a time, [`LockGuard`](crate::LockGuard),
/// [`ReentrantLockGuard`](crate::ReentrantLockGuard) and [`ConditionGuard`](crate::ConditionGuard), of the
/// keys of a keyed kind, [`KeyedLockGuard`](crate::KeyedLockGuard) and
/// [`KeyedSemaphorePermit`](crate::KeyedSemaphorePermit), and of each way to hold a readers-writer lock,
/// [`RwLockReadGuard`](crate::RwLockReadGuard), [`RwLockUpgradableReadGuard`](crate::RwLockUpgradableReadGuard) and
/// [`RwLockWriteGuard`](crate::RwLockWriteGuard).
///
/// A guard belongs to its process and cannot be serialized. [`Self::into_ticket`] makes a [`Ticket`] of it, which
/// another process can adopt or release; the guards of a readers-writer lock have none.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.lock().await?;
/// let guard = lock.acquire().await?;
/// assert!(guard.is_valid() && guard.abandoned().is_none());
/// drop(guard);
///
/// let later = lock.acquire().await?;
/// let fence = later.fence();
/// later.release().await?; // As a drop, and waits until it is done.
/// assert!(lock.acquire().await?.fence() > fence);
/// # Ok(())
/// # }
/// ```
#[must_use = "a dropped guard releases the lock: bind it, as in `let _guard = ..`"]
pub struct Guard<P: Guarded> {
    held: Held,
    /// The holder. Its number is not reused while this guard exists.
    data: P::Data,
}

/// A kind of lock, or a mode of one, that a guard holds.
pub trait Guarded: 'static {
    /// The name of the kind or mode, for `Debug`.
    const NAME: &'static str;
    /// Identifies the holder within its session.
    type Data: Clone + fmt::Debug + Send + Sync + 'static;
}

/// The kinds whose guards can become tickets: every kind with one holder, and the keyed kinds.
pub trait Ticketed: Guarded {
    /// The owner, whose number stays reserved while the ticket exists in the process that made it.
    #[doc(hidden)]
    fn kept(_: &Self::Data) -> Option<Owner> {
        None
    }
}

impl<P: LockKind> Ticketed for P {
    fn kept(data: &P::Data) -> Option<Owner> {
        <P as LockKind>::kept(data)
    }
}

impl<P: LockKind> Guarded for P {
    const NAME: &'static str = P::KIND;
    type Data = P::Data;
}

/// A hold that is released on drop.
struct Held {
    hold: Hold,
    fence: Fence,
    abandoned: Option<Box<Abandoned>>,
    /// Whether the drop has nothing to release.
    is_over: bool,
}

impl Held {
    fn new(hold: Hold, Granted { fence, abandoned }: Granted) -> Self {
        Self {
            hold,
            fence,
            abandoned: abandoned.map(Box::new),
            is_over: false,
        }
    }

    async fn release(mut self, timeout: Option<Duration>) -> Result<(), CallError> {
        let grant = self.hold.proof();
        let released = self.hold.call(&Release { grant }, timeout).await;
        // A release that failed may not have reached the lock. Then the drop releases it, as it does when this
        // future is dropped midway. A second release finds no hold and does nothing.
        self.is_over = released.is_ok();
        released
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_over {
            self.hold.cast(&Release {
                grant: self.hold.proof(),
            });
        }
    }
}

impl<P: Guarded> Guard<P> {
    pub(super) fn new(hold: Hold, granted: Granted, data: P::Data) -> Self {
        let held = Held::new(hold, granted);
        Self { held, data }
    }

    /// Returns the grant.
    pub(super) const fn hold(&self) -> &Hold {
        &self.held.hold
    }

    /// Returns the fence of this hold, which is higher than those of all earlier holds. Further
    /// entries into a reentrant lock have the fence of the first, and a downgraded writer keeps its fence.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.held.fence
    }

    /// Returns which holder died with the lock held, until [`Self::mark_consistent`] is called (POSIX
    /// `EOWNERDEAD`).
    #[doc(alias = "EOWNERDEAD")]
    #[doc(alias = "is_poisoned")]
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.held.abandoned.as_deref()
    }

    /// Returns the guard as an error when an earlier holder died with the lock held and
    /// [`Self::mark_consistent`] was not called since. It follows every form of acquiring:
    ///
    /// ```
    /// # use lockkeeper::LockGuard;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let lock = manager.lock().await?;
    /// let guard = lock.acquire().await?.strict()?;
    /// # drop(guard);
    /// let tried = lock.try_acquire().await?.map(LockGuard::strict).transpose()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the guard, which still holds the lock, and the mark of the dead holder. `?` converts it to a
    /// [`CallError::Abandoned`], which releases the lock; the next guard is marked too.
    pub fn strict(self) -> Result<Self, AbandonedGuard<Self>> {
        let (mark, subject) = (self.held.abandoned.clone(), self.hold().bound().subject());
        AbandonedGuard::sort(self, mark, subject)
    }

    /// Declares that the data protected by the lock is consistent: later guards have no mark.
    #[doc(alias = "clear_poison")]
    #[doc(alias = "pthread_mutex_consistent")]
    pub fn mark_consistent(&mut self) {
        self.held.abandoned = None;
        self.hold().cast(&MarkConsistent {
            grant: self.hold().proof(),
        });
    }

    /// Returns whether the lock is still held, as far as this process knows: its session exists, and no
    /// other process has ended the hold.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold().is_valid()
    }

    /// Waits until the lock is no longer held, and returns the reason. The future borrows nothing, so that work can be
    /// raced against it.
    ///
    /// - [`CallError::Disconnected`]: the session is lost. The text says how: the manager ended, the connection failed,
    ///   or the lease of the session is over.
    /// - [`CallError::Gone`]: the object was removed, or its code panicked.
    /// - [`CallError::Refused`] with `NotHeld`: another process has ended the hold by `force_unlock`, `release_any` or
    ///   the ticket, or this process has dropped or released the guard. The text says which of the two.
    /// - [`CallError::Forked`]: this process is a forked child of the one that holds the lock.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lockkeeper::{CallError, errors::Refusal};
    ///
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let lock = manager.lock().await?;
    /// let guard = lock.acquire().await?;
    /// lock.force_unlock().await?;
    /// let why = guard.lost().await;
    /// assert!(matches!(why, CallError::Refused(Refusal::NotHeld, _)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn lost(&self) -> impl Future<Output = CallError> + Send + use<P> {
        self.hold().lost()
    }

    /// Runs a future while the lock is held: when the hold is [lost](Self::lost), the future is dropped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let lock = manager.lock().await?;
    /// let guard = lock.acquire().await?;
    /// guard.run(tokio::fs::write("/dev/null", "one writer")).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the [reason for the loss](Self::lost) when the hold was lost before the future ended.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the future is dropped, and the lock is still held.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, CallError> {
        run(self.lost(), future).await
    }

    /// Releases the lock and waits until the manager has done so.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold was lost before. With
    /// [`CallError::Fault`], for example when too many calls are in flight, the lock is released
    /// without waiting.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the lock is released.
    #[doc(alias = "unlock")]
    pub fn release(self) -> Wait<()> {
        Wait::new(|timeout| async move {
            let Self { held, data } = self;
            let released = held.release(timeout).await;
            // The owner's number stays reserved until the manager has released the lock: with a new number, a
            // call of the same task would wait for this hold.
            drop(data);
            released
        })
    }

    /// Makes the guard of a new hold that replaces this one, which has nothing left to release.
    pub(super) fn replaced_by<Q>(mut self, hold: Hold, granted: Granted) -> Guard<Q>
    where
        Q: Guarded<Data = P::Data>,
    {
        self.held.is_over = true;
        Guard::new(hold, granted, self.data)
    }

    /// Converts the hold to a guard of another mode.
    pub(super) fn turned_into<Q: Guarded<Data = P::Data>>(self) -> Guard<Q> {
        let Self { held, data } = self;
        Guard { held, data }
    }

    /// Replaces the data.
    pub(super) fn with_data(self, data: P::Data) -> Self {
        Self { data, ..self }
    }

    /// Returns the data.
    pub(super) const fn data(&self) -> &P::Data {
        &self.data
    }
}

impl<P: Ticketed> Guard<P> {
    /// Makes a ticket of the hold: every process that has it may
    /// [`adopt`](crate::proxies::LockOf::adopt) the hold or [`release`](crate::Proxy::release_ticket) it. Until
    /// then the hold still belongs to this process's session, and to its owner if it has one.
    #[must_use = "without the ticket the lock stays held until this process ends"]
    pub fn into_ticket(mut self) -> Ticket {
        self.held.is_over = true;
        Ticket {
            grant: self.hold().sign(),
            fence: self.fence(),
            _owner: P::kept(&self.data),
        }
    }
}

impl<P: Guarded> fmt::Debug for Guard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("kind", &P::NAME)
            .field("fence", &self.held.fence)
            .field("abandoned", &self.held.abandoned)
            .finish_non_exhaustive()
    }
}

/// A hold of a lock that can be sent to another process.
///
/// Every process that has the ticket may release or adopt the hold, so treat it like a password. It has a MAC
/// that cannot be guessed. It is valid until the hold ends.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.lock().await?;
/// let ticket = lock.acquire().await?.into_ticket();
///
/// // The ticket is sent to another process, which becomes the holder.
/// let ticket = serde_json::to_string(&ticket)?;
/// let guard = lock.adopt(serde_json::from_str(&ticket)?).await?;
/// assert!(guard.is_valid());
///
/// // Or it releases the lock.
/// lock.release_ticket(guard.into_ticket()).await?;
/// assert!(!lock.status().await?.is_held);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use = "without the ticket the lock stays held until its session ends"]
pub struct Ticket {
    grant: SignedCall,
    fence: Fence,
    /// The owner that made it from a guard, if that was in this process.
    #[serde(skip)]
    _owner: Option<Owner>,
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.grant.call() == other.grant.call()
    }
}

impl Eq for Ticket {}

impl Ticket {
    /// Returns the fence of the hold.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Names the grant in an operation.
    pub(super) const fn proof(&self) -> Proof {
        Proof::Signed(self.grant)
    }
}

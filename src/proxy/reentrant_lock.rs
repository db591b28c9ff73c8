//! The proxy of a hosted reentrant lock, and the owner that it acts for.

use lockkeeper_actors::sync;
use lockkeeper_protocol::{
    Proof,
    operations::{AcquireAs, AdoptAs},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::owner::Owner,
    proxy::{guard::Guard, lock::LockOf, lock_kind::LockKind},
};

/// A lock that processes share and that its owner may acquire again while it is held.
///
/// Counterpart of Python's `manager.RLock()`. The owner is the current task, the current thread outside tasks,
/// or the [`Owner`] that was passed to [`LockOf::owned_by`]. An owner always belongs to one process; in Python a
/// new process may acquire the lock of a dead one, because thread ids are reused. Each entry has its own guard,
/// and the lock is free once all guards are dropped. See [`LockOf`] for its methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.reentrant_lock().await?;
/// let outer = lock.acquire().await?;
/// let inner = lock.acquire().await?;
/// assert_eq!(lock.status().await?.depth, 2);
///
/// let another = lock.clone();
/// let entered = tokio::spawn(async move { another.try_acquire().await });
/// assert!(entered.await??.is_none(), "it is held by this task");
/// # drop((outer, inner));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RLock")]
#[doc(alias = "ReentrantMutex")]
pub type ReentrantLock = LockOf<sync::ReentrantLock>;

/// One entry of a [`ReentrantLock`].
///
/// See [`Guard`] for its methods.
#[doc(alias = "ReentrantMutexGuard")]
pub type ReentrantLockGuard = Guard<sync::ReentrantLock>;

/// The owner of a reentrant lock's proxy. It is not serialized: in another process the calling task or thread
/// is the owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ActsFor {
    #[serde(skip)]
    owner: Option<Owner>,
}

impl LockKind for sync::ReentrantLock {
    type ProxyState = ActsFor;
    type Data = Owner;
    type Acquire = AcquireAs;
    type Adopt = AdoptAs;

    fn data(ActsFor { owner }: &ActsFor) -> Owner {
        owner.clone().unwrap_or_else(Owner::current)
    }

    fn acquire(owner: &Owner) -> AcquireAs {
        AcquireAs {
            owner: owner.number(),
        }
    }

    fn adopt(owner: &Owner, grant: Proof) -> AdoptAs {
        AdoptAs {
            grant,
            owner: owner.number(),
        }
    }

    fn kept(owner: &Owner) -> Option<Owner> {
        Some(owner.clone())
    }
}

impl LockOf<sync::ReentrantLock> {
    /// Returns a proxy of the same lock with an explicit owner, for calls from any task or thread.
    ///
    /// Several tasks may share an owner. Concurrent branches of one task, as in `join!`, need separate owners
    /// if they must exclude each other.
    ///
    /// ```
    /// use lockkeeper::Owner;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let lock = manager.reentrant_lock().await?;
    /// let [left, right] = [(); 2].map(|()| lock.owned_by(Owner::new()));
    /// let guard = left.acquire().await?;
    /// assert!(right.try_acquire().await?.is_none());
    /// let helper = left.clone();
    /// assert!(tokio::spawn(async move { helper.try_acquire().await }).await??.is_some());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn owned_by(&self, owner: Owner) -> Self {
        Self {
            proxy: self.proxy.clone(),
            state: ActsFor { owner: Some(owner) },
        }
    }
}

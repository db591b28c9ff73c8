//! The proxy of a hosted reentrant lock, and the owner that it acts for.

use lockkeeper_actors::sync;
use lockkeeper_protocol::{
    Proof,
    operations::{AcquireAs, AdoptAs},
};
use serde::{Deserialize, Serialize};

use crate::proxy::{guard::Guard, lock::LockOf, lock_kind::LockKind, owner::Owner};

/// A lock that processes share and that its owner may enter again: by a function that is called
/// with the lock held, and locks it as well.
///
/// Counterpart of Python's `manager.RLock()`. The owner is the current task, on a plain thread the
/// thread, or whom [`LockOf::owned_by`] names; and always one of this process: a dead owner's lock
/// is never entered by the next process, as it is there, where threads' ids are reused. Each entry
/// has a guard of its own; the lock is free once all are dropped. See [`LockOf`] for its methods.
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
pub type ReentrantLock = LockOf<sync::ReentrantLock>;

/// One entry of a [`ReentrantLock`].
pub type ReentrantGuard = Guard<sync::ReentrantLock>;

/// Whom a proxy of a reentrant lock acts for. Where it is sent to, it acts for whoever calls.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ActsFor {
    #[serde(skip)]
    owner: Option<Owner>,
}

impl LockKind for sync::ReentrantLock {
    type Aspect = ActsFor;
    type Owner = Owner;
    type Acquire = AcquireAs;
    type Adopt = AdoptAs;

    fn owner(ActsFor { owner }: &ActsFor) -> Owner {
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
    /// The same lock, acting for an owner, whichever task or thread calls.
    ///
    /// For what spreads over several tasks, and for branches of one task that run at the same time,
    /// as in `join!`, and must not be inside together.
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
            aspect: ActsFor { owner: Some(owner) },
        }
    }
}

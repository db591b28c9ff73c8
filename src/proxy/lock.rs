//! `LockOf`: the proxy of every kind with one holder, and the lock's own methods.

use std::{fmt, future::Future, ops::Deref, time::Duration};

use lockkeeper_actors::sync;
use lockkeeper_protocol::{
    Proof,
    operations::{Acquire, Adopt},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{
        ask::{Ask, Bind},
        guard::{Guard, Ticket},
        hold::Hold,
        lock_kind::LockKind,
        proxy::Proxy,
        token::Token,
        wait::Wait,
    },
};

/// A lock that processes share: at most one guard at a time, granted in the order of arrival.
///
/// See [`LockOf`] for its methods.
///
/// Counterpart of Python's `manager.Lock()`. Unlike in Python, the lock of a killed holder is
/// granted to the next waiter at once, and a killed waiter is never granted it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let lock = manager.lock().await?;
/// let guard = lock.acquire().await?;
/// assert!(lock.try_acquire().await?.is_none());
/// drop(guard);
/// assert!(lock.try_acquire().await?.is_some());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Mutex")]
#[doc(alias = "mutex")]
#[doc(alias = "flock")]
pub type Lock = LockOf<sync::Lock>;

/// A guard of a [`Lock`].
///
/// See [`Guard`] for its methods.
#[doc(alias = "MutexGuard")]
#[doc(alias = "OwnedMutexGuard")]
pub type LockGuard = Guard<sync::Lock>;

impl LockKind for sync::Lock {
    type ProxyState = ();
    type Data = ();
    type Acquire = Acquire;
    type Adopt = Adopt;

    fn data((): &()) {}

    fn acquire((): &()) -> Acquire {
        Acquire
    }

    fn adopt((): &(), grant: Proof) -> Adopt {
        Adopt { grant }
    }
}

/// A proxy of any kind with one holder at a time: [`Lock`],
/// [`ReentrantLock`](crate::ReentrantLock) and [`Condition`](crate::Condition).
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct LockOf<P: LockKind> {
    pub(super) proxy: Proxy<P>,
    pub(super) state: P::ProxyState,
}

impl<P: LockKind> LockOf<P> {
    /// Waits for the lock. Python: `lock.acquire()`, and with [`Wait::timeout`] `lock.acquire(timeout=..)`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `TooDeep` when the owner of a reentrant lock has acquired it
    /// 65,536 times.
    #[doc(alias = "lock")]
    pub fn acquire(&self) -> Wait<Guard<P>> {
        let lock = self.clone();
        Wait::new(|timeout| lock.acquire_within(timeout))
    }

    /// Takes the lock if it is free, and never overtakes a waiter.
    /// Python: `lock.acquire(blocking=False)`.
    #[doc(alias = "try_lock")]
    pub fn try_acquire(&self) -> Wait<Option<Guard<P>>> {
        let lock = self.clone();
        Wait::trying(|timeout| lock.acquire_within(timeout))
    }

    /// Adopts the hold of the ticket. The guard from which the ticket was made is lost.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the hold has ended, and with `StillInside`
    /// while the owner of a reentrant lock has acquired it more than once; otherwise as
    /// [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped before it is sent, for example while it connects, the hold is unchanged, and
    /// only a clone of the ticket can adopt or release it. If it is dropped later, the hold may have been
    /// adopted, and then the lock is released.
    pub fn adopt(&self, ticket: Ticket) -> Wait<Guard<P>> {
        let lock = self.clone();
        Wait::new(move |timeout| async move {
            // The task or thread that polls the call is the owner.
            let data = P::data(&lock.state);
            let adopt = P::adopt(&data, ticket.proof());
            let (bound, grant, reply) = lock.proxy.ask(adopt, timeout).await?;
            let granted = bound.accepted(reply)?;
            Ok(Guard::new(Hold::new(bound, grant), granted, data))
        })
    }

    fn acquire_within(
        self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Guard<P>, CallError>> + Send {
        // The task or thread that first polls the call is the owner.
        let data = P::data(&self.state);
        let acquire = P::acquire(&data);
        Ask::new(self.proxy, acquire, timeout, |answer| {
            let (bound, grant, reply) = answer?;
            let granted = bound.accepted(reply)?;
            Ok(Guard::new(Hold::new(bound, grant), granted, data))
        })
    }
}

impl<P: LockKind> Deref for LockOf<P> {
    type Target = Proxy<P>;

    fn deref(&self) -> &Proxy<P> {
        &self.proxy
    }
}

impl<P: LockKind> Clone for LockOf<P> {
    fn clone(&self) -> Self {
        Self {
            proxy: self.proxy.clone(),
            state: self.state.clone(),
        }
    }
}

impl<P: LockKind> From<Proxy<P>> for LockOf<P> {
    fn from(proxy: Proxy<P>) -> Self {
        Self {
            proxy,
            state: P::ProxyState::default(),
        }
    }
}

impl<P: LockKind> From<Token<P>> for LockOf<P> {
    fn from(token: Token<P>) -> Self {
        Proxy::from(token).into()
    }
}

impl<P: LockKind> fmt::Debug for LockOf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}

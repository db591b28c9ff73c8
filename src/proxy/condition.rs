//! The proxy of a hosted condition, and its guard, which waits and notifies.

use std::sync::Arc;

use lockkeeper_actors::{Primitive, sync};
use lockkeeper_protocol::{
    Proof, Refusal,
    operations::{Acquire, Adopt, CountSleepers, Notify, Sleep, Wake, Woken},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::deadline::Deadline,
    error::CallError,
    proxy::{end::End, guard::Guard, lock::LockOf, lock_kind::LockKind, wait::Wait},
    subject::Subject,
};

/// A lock that processes share, whose holder may wait until another holder notifies it.
///
/// Counterpart of Python's `manager.Condition()`. Its lock is acquired like any other, see [`LockOf`].
/// Unlike Python's it is not reentrant. [`Self::wait`] takes the guard and returns a new one:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # static IS_READY: AtomicBool = AtomicBool::new(false);
/// # fn is_ready() -> bool { IS_READY.load(Ordering::Relaxed) }
/// let manager = lockkeeper::Manager::start().await?;
/// let condition = manager.condition().await?;
/// let waiter = tokio::spawn({
///     let condition = condition.clone();
///     async move {
///         let guard = condition.acquire().await?;
///         let guard = condition.wait_while(guard, || !is_ready()).await?;
///         guard.release().await
///     }
/// });
/// let guard = condition.acquire().await?;
/// # IS_READY.store(true, Ordering::Relaxed);
/// condition.notify_all(&guard).await?;
/// drop(guard);
/// waiter.await??;
/// # Ok(())
/// # }
/// ```
///
/// A call that waits sleeps in a *wait set*. A condition has one without a name, and [`LockOf::wait_set`]
/// returns the same condition with a named one. Python programs create several conditions with one lock for
/// this.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let buffer = manager.condition().await?;
/// let (not_full, not_empty) = (buffer.wait_set("not full"), buffer.wait_set("not empty"));
/// let guard = buffer.acquire().await?;
/// assert_eq!(not_empty.notify_one(&guard).await?, 0, "no call sleeps in that set");
/// # drop((guard, not_full));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Condvar")]
pub type Condition = LockOf<sync::Condition>;

/// A guard of the lock of a [`Condition`].
///
/// See [`Guard`] for its other methods.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// use std::time::Duration;
///
/// let condition = manager.condition().await?;
/// let guard = condition.acquire().await?;
/// // No other process notifies it, so it times out, and the lock is held again.
/// let guard = condition.wait(guard).timeout(Duration::from_millis(10)).await?;
/// assert!(guard.timed_out() && guard.is_valid());
/// # Ok(())
/// # }
/// ```
pub type ConditionGuard = Guard<sync::Condition>;

impl LockKind for sync::Condition {
    type ProxyState = WaitSetName;
    type Data = Wake;
    type Acquire = Acquire;
    type Adopt = Adopt;

    fn data(_: &WaitSetName) -> Wake {
        Wake::Notified
    }

    fn acquire(_: &Wake) -> Acquire {
        Acquire
    }

    fn adopt(_: &Wake, grant: Proof) -> Adopt {
        Adopt { grant }
    }
}

impl ConditionGuard {
    /// Returns whether the [`wait`](Condition::wait) that returned this guard ended by its timeout.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        matches!(self.data(), Wake::TimedOut)
    }

    /// The hold, and how its wait ended.
    fn woken(self, wake: Wake) -> Self {
        self.with_data(wake)
    }
}

/// The wait set of a condition's proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct WaitSetName(Arc<str>);

impl From<String> for WaitSetName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<WaitSetName> for String {
    fn from(WaitSetName(name): WaitSetName) -> Self {
        name.as_ref().into()
    }
}

impl LockOf<sync::Condition> {
    /// Returns the same condition with the wait set of that name.
    ///
    /// A wait set exists while a call sleeps in it. With a name of more than 255 bytes, every wait, notification
    /// and count is refused with `Invalid`.
    #[must_use]
    pub fn wait_set(&self, name: &str) -> Self {
        Self {
            proxy: self.proxy.clone(),
            state: WaitSetName(name.into()),
        }
    }

    /// Releases the lock, sleeps until it is notified, and acquires the lock again.
    /// Python: `condition.wait()`.
    ///
    /// A [timeout](Wait::timeout) limits only the sleep: after it the call waits for the lock without a
    /// limit, and [`Guard::timed_out`] of the new guard is true. The manager decides between a notification
    /// and the timeout once, so a call that timed out has taken no notification. Python:
    /// `condition.wait(timeout)`.
    ///
    /// If a process dies after it was notified, the next sleeper gets its notification, even if the dead process
    /// had the lock again. So a call may be woken although its condition does not hold: use
    /// [`Self::wait_while`], or check in a loop.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the guard is of another lock or was lost,
    /// and as [`Self::acquire`]. After an error the lock is not held.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the lock is not held, and no notification is lost: the next
    /// sleeper of the set gets that of this call.
    pub fn wait(&self, guard: ConditionGuard) -> Wait<ConditionGuard> {
        let condition = self.clone();
        Wait::new(|timeout| async move {
            let deadline = timeout.map_or(Deadline::Never, Deadline::Wakes);
            condition.sleep(guard, deadline).await
        })
    }

    /// Waits while the predicate is true. The predicate runs in this process, with the lock held, before
    /// each sleep. Python: `condition.wait_for`, whose predicate is the opposite.
    ///
    /// With a [timeout](Wait::timeout) the predicate runs once more after the last sleep, and
    /// [`Guard::timed_out`] is true only if the predicate was still true then. With a timeout of zero the call
    /// does not sleep, and returns the guard that it was given. Python: `condition.wait_for(.., timeout)`.
    ///
    /// The call owns its predicate, so a closure moves what it uses: `move || !ready.load(Ordering::Acquire)` with an
    /// `Arc<AtomicBool>`. The predicate must not call `blocking`. A program that awaits something between two sleeps calls
    /// [`Self::wait`] in a loop.
    #[doc(alias = "wait_for")]
    pub fn wait_while(
        &self,
        mut guard: ConditionGuard,
        mut predicate: impl FnMut() -> bool + Send + 'static,
    ) -> Wait<ConditionGuard> {
        let condition = self.clone();
        Wait::new(move |timeout| async move {
            let end = End::after(timeout);
            while predicate() {
                if end.is_over() {
                    return Ok(guard.woken(Wake::TimedOut));
                }
                let deadline = end.left().map_or(Deadline::Never, Deadline::Wakes);
                guard = condition.sleep(guard, deadline).await?;
            }
            Ok(guard.woken(Wake::Notified))
        })
    }

    /// Wakes the call that has slept longest in the wait set, and returns how many were woken: 1, or 0 without
    /// a sleeper. A notification is not stored. Python: `condition.notify()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the guard is of another lock or was lost,
    /// and as [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, the notification may have been sent.
    pub fn notify_one(&self, guard: &ConditionGuard) -> Wait<u64> {
        self.notify(guard, 1)
    }

    /// Wakes up to `most` calls, those that have slept longest in the wait set, and returns how many were
    /// woken. Python: `condition.notify(n)`.
    #[doc(alias = "notify_n")]
    pub fn notify(&self, guard: &ConditionGuard, most: u64) -> Wait<u64> {
        self.notify_up_to(guard, Some(most))
    }

    /// Wakes all calls that sleep in the wait set, and returns how many. Python: `condition.notify_all()`.
    pub fn notify_all(&self, guard: &ConditionGuard) -> Wait<u64> {
        self.notify_up_to(guard, None)
    }

    /// Returns how many calls sleep in the wait set.
    pub fn sleepers(&self) -> Wait<u64> {
        let set = self.state.clone().into();
        self.proxy.attempt(CountSleepers { set })
    }

    async fn sleep(
        &self,
        guard: ConditionGuard,
        deadline: Deadline,
    ) -> Result<ConditionGuard, CallError> {
        self.check(&guard)?;
        let sleep = Sleep {
            grant: guard.hold().proof(),
            set: self.state.clone().into(),
        };
        // If this future is dropped, the call is withdrawn, and the guard releases the lock if it
        // still holds it.
        let (hold, Woken { granted, wake }) = guard.hold().call_within(&sleep, deadline).await?;
        Ok(guard.replaced_by(hold, granted).woken(wake))
    }

    fn notify_up_to(&self, guard: &ConditionGuard, most: Option<u64>) -> Wait<u64> {
        let (checked, bound) = (self.check(guard), Arc::clone(guard.hold().bound()));
        let notify = Notify {
            grant: guard.hold().proof(),
            set: self.state.clone().into(),
            most: most.map(i128::from),
        };
        Wait::new(|timeout| async move {
            checked?;
            let (_, reply) = bound.call(&notify, timeout).await?;
            bound.accepted(reply)
        })
    }

    /// Refuses a guard of another condition, whose grant this one does not know.
    fn check(&self, guard: &ConditionGuard) -> Result<(), CallError> {
        if guard.hold().is_of(self.token()) {
            Ok(())
        } else {
            let about = || Subject::new(sync::Condition::KIND, &self.token().name);
            Err(CallError::from(Refusal::NotHeld).about(about))
        }
    }
}

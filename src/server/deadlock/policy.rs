//! `DeadlockPolicy`: how often a manager searches for deadlocks, and what it does about one.

use std::{fmt, sync::Arc, time::Duration};

use lockkeeper_protocol::Deadlock;
use serde::{Deserialize, Serialize};

/// How a manager searches for deadlocks, and what it does about them.
///
/// A manager with this policy searches for deadlocks across all its objects, and acts on those that two
/// consecutive searches find. It can report them, and it can fail one of the calls with
/// [`CallError::Deadlock`](crate::CallError::Deadlock), so that the others proceed. Without either, it only
/// answers [`Manager::deadlocks`](crate::Manager::deadlocks).
///
/// A caller is a task, or a thread outside of tasks, so two tasks of one process are two callers. A hold
/// belongs to the caller that acquired it, even if its guard was moved to another caller. If the caller that
/// acquired it continues to wait for other objects, pass the hold on as a ticket: the caller that adopts a
/// ticket becomes its holder.
///
/// The branches of one task, as in `join!`, are one caller. If one branch waits for what another one holds,
/// the manager may report a deadlock that does not exist. Spawn such branches as tasks.
///
/// ```
/// use std::time::Duration;
///
/// use lockkeeper::{CallError, Manager, deadlock::DeadlockPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let deadlocks = DeadlockPolicy::new().fail().every(Duration::from_millis(20));
/// let manager = Manager::builder().deadlocks(deadlocks).start().await?;
/// let lock = manager.named("once").lock().await?;
/// let guard = lock.acquire().await?;
/// match lock.acquire().await {
///     Err(CallError::Deadlock(deadlock)) => println!("{deadlock}"),
///     other => panic!("it waits for itself: {other:?}"),
/// }
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DeadlockPolicy {
    pub(super) plan: Plan,
    pub(super) report: Option<Arc<OnDeadlock>>,
}

/// The callback that receives a deadlock.
type OnDeadlock = dyn Fn(Deadlock) + Send + Sync;

/// The part of a policy that is sent to another process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(super) every: Duration,
    pub(super) prints: bool,
    pub(super) fails: bool,
}

/// The default time between two searches.
const EVERY: Duration = Duration::from_secs(1);

/// The least time between two searches.
const MOST_OFTEN: Duration = Duration::from_millis(1);

impl DeadlockPolicy {
    /// Searches each second, and reports deadlocks on request only.
    #[must_use]
    pub const fn new() -> Self {
        let plan = Plan {
            every: EVERY,
            prints: false,
            fails: false,
        };
        Self { plan, report: None }
    }

    /// Sets the time between two searches while calls wait; at least a millisecond. The manager acts on a
    /// deadlock once two searches have found it, so within two such times. If a search takes more than a
    /// twentieth of that time, the manager searches less often.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.plan.every = time.max(MOST_OFTEN);
        self
    }

    /// Writes each deadlock to the standard error of the manager's process, in one line.
    #[must_use]
    pub const fn print(mut self) -> Self {
        self.plan.prints = true;
        self
    }

    /// Calls `report` once for each deadlock, in the manager's process, which must be this process: see
    /// [`ManagerBuilder::start`](crate::builders::ManagerBuilder::start). The call runs on a thread where it
    /// may block.
    #[must_use]
    pub fn on_deadlock(mut self, report: impl Fn(Deadlock) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// Fails one waiting call of each deadlock with [`CallError::Deadlock`]: among the calls whose callers
    /// hold something that others wait for, the one that began to wait last. Its caller keeps its other
    /// holds, and should release them and start again.
    ///
    /// [`CallError::Deadlock`]: crate::CallError::Deadlock
    #[must_use]
    pub const fn fail(mut self) -> Self {
        self.plan.fails = true;
        self
    }

    /// Returns the part of the policy that another process gets, or `None` if the policy has a callback.
    pub(crate) fn portable(&self) -> Option<Plan> {
        self.report.is_none().then_some(self.plan)
    }
}

impl Default for DeadlockPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Plan> for DeadlockPolicy {
    fn from(plan: Plan) -> Self {
        Self { plan, report: None }
    }
}

impl fmt::Debug for DeadlockPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlockPolicy")
            .field("plan", &self.plan)
            .field("reports", &self.report.is_some())
            .finish()
    }
}

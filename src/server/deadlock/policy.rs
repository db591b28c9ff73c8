//! `Deadlocks`: what a manager does about callers that wait for one another, and how often it searches.

use std::{fmt, sync::Arc, time::Duration};

use lockkeeper_protocol::Deadlock;
use serde::{Deserialize, Serialize};

/// What a manager does about callers that wait for one another for ever.
///
/// A manager that was built with one looks for deadlocks over all its objects, and tells of those
/// that have lasted from one look to the next. It can tell of them, and fail one of the calls with
/// [`CallError::Deadlock`](crate::CallError::Deadlock), so that the others go on; with neither, it
/// only answers [`Manager::deadlocks`](crate::Manager::deadlocks).
///
/// Callers are tasks, and threads where there is no task: two tasks of one process wait apart. What
/// is held belongs to the caller that acquired it, also if its guard was moved to another one since;
/// hand it on as a ticket, which belongs to whoever adopts it, if the one that acquired it goes on
/// to wait for other things.
///
/// Branches of one task, as of `join!`, are one caller: where one of them holds what another waits
/// for, a deadlock may be told that is none. Spawn them as tasks.
///
/// ```
/// use std::time::Duration;
///
/// use lockkeeper::{CallError, Manager, deadlock::Deadlocks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let deadlocks = Deadlocks::new().fail().every(Duration::from_millis(20));
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
pub struct Deadlocks {
    pub(super) plan: Plan,
    pub(super) report: Option<Arc<Report>>,
}

/// Hears of a deadlock.
type Report = dyn Fn(Deadlock) + Send + Sync;

/// What goes to another process of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(super) every: Duration,
    pub(super) prints: bool,
    pub(super) fails: bool,
}

/// How often a manager looks, unless it is told.
const EVERY: Duration = Duration::from_secs(1);

/// How often it looks at the most.
const MOST_OFTEN: Duration = Duration::from_millis(1);

impl Deadlocks {
    /// Looks for deadlocks each second, and tells of them when asked.
    #[must_use]
    pub const fn new() -> Self {
        let plan = Plan {
            every: EVERY,
            prints: false,
            fails: false,
        };
        Self { plan, report: None }
    }

    /// Sets how often the manager looks while calls wait: at most each millisecond. A
    /// deadlock is told of, or ended, once it was seen twice; so within two such times. A manager
    /// that is so large that a look takes more than a twentieth of that looks less often.
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

    /// Tells `report` of each deadlock once, in the manager's process, which must be this one: see
    /// [`ManagerBuilder::start`](crate::builders::ManagerBuilder::start). It runs on a thread where it may
    /// block.
    #[must_use]
    pub fn report(mut self, report: impl Fn(Deadlock) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// Fails one waiting call of each deadlock with [`CallError::Deadlock`]: of those whose callers
    /// hold something that others wait for, the one that began to wait last. Its caller keeps what
    /// it holds, and should give it back and begin anew.
    ///
    /// [`CallError::Deadlock`]: crate::CallError::Deadlock
    #[must_use]
    pub const fn fail(mut self) -> Self {
        self.plan.fails = true;
        self
    }

    /// What of it another process is told, unless it has what cannot go there.
    pub(crate) fn portable(&self) -> Option<Plan> {
        self.report.is_none().then_some(self.plan)
    }
}

impl Default for Deadlocks {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Plan> for Deadlocks {
    fn from(plan: Plan) -> Self {
        Self { plan, report: None }
    }
}

impl fmt::Debug for Deadlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlocks")
            .field("plan", &self.plan)
            .field("reports", &self.report.is_some())
            .finish()
    }
}

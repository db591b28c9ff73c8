//! `Owner`: the identity of a holder of a reentrant lock. The current task, the current thread, or an
//! explicit owner.
//!
//! Owner numbers are assigned by this process. Ids of tasks and threads are looked up but never sent:
//! tokio guarantees that a task id is unique only while the task runs, and thread ids are reused.
//!
//! Invariant: two owners of this process never have the same number.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use lockkeeper_sys::PerProcess;
use tokio::task;

/// The holder of a [`ReentrantLock`](crate::ReentrantLock), which may acquire it again.
///
/// By default the owner is the current tokio task. Outside of tasks, as on a plain thread or in the main future of
/// a runtime, it is the current thread. A program can make an owner and pass clones of it to tasks and threads of
/// this process, which then act as the same owner.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// use lockkeeper::Owner;
///
/// let lock = manager.reentrant_lock().await?;
/// let owner = Owner::new();
/// let guard = lock.owned_by(owner.clone()).acquire().await?;
/// // Another task acquires as the same owner.
/// let inside = lock.owned_by(owner);
/// assert!(tokio::spawn(inside.try_acquire()).await??.is_some());
/// assert!(lock.try_acquire().await?.is_none(), "this task is another owner");
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Owner(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    number: u64,
    /// The task, if the owner is a task.
    task: Option<task::Id>,
}

/// The tasks that are owners, while they hold or wait for something.
static TASKS: PerProcess<Mutex<HashMap<task::Id, Weak<Identity>>>> = PerProcess::new();

thread_local! {
    static THREAD: Owner = Owner::new();
}

/// The tasks that are owners. No code under the mutex panics between two changes.
fn tasks() -> MutexGuard<'static, HashMap<task::Id, Weak<Identity>>> {
    let tasks = TASKS.get_or_init(Mutex::default);
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    /// Makes a new owner.
    #[must_use]
    pub fn new() -> Self {
        Self::of(None)
    }

    /// Returns the default owner of the caller: its task, or else its thread.
    #[must_use]
    pub fn current() -> Self {
        let Some(task) = task::try_id() else {
            // A thread that is about to end has no thread-local owner any more.
            return THREAD.try_with(Self::clone).unwrap_or_default();
        };
        let mut tasks = tasks();
        if let Some(identity) = tasks.get(&task).and_then(Weak::upgrade) {
            return Self(identity);
        }
        let owner = Self::of(Some(task));
        tasks.insert(task, Arc::downgrade(&owner.0));
        owner
    }

    /// Returns the owner's number in the session of this process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    fn of(task: Option<task::Id>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Identity { number, task }))
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Owner {}

impl Drop for Identity {
    fn drop(&mut self) {
        let Some(task) = self.task else { return };
        let mut tasks = tasks();
        // The task may have become an owner again since.
        if tasks
            .get(&task)
            .is_some_and(|owner| owner.strong_count() == 0)
        {
            tasks.remove(&task);
        }
    }
}

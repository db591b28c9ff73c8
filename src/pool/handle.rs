//! `TaskHandle`: the handle of a spawned task.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, future::BoxFuture};
use lockkeeper_protocol::{operations::TaskFault, panic_message};

use lockkeeper_sys::OnlyHere;

use crate::{
    background::background,
    error::CallError,
    pool::{
        submit::{Entry, apply_killable},
        switch::KillSwitch,
        task::Task,
    },
    task_error::TaskError,
};

/// Turns a panic in the code of a task's arguments or output into an error.
pub(crate) fn guarded<R>(
    work: impl Future<Output = Result<R, TaskError>> + Send + 'static,
) -> BoxFuture<'static, Result<R, TaskError>> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .map(|outcome| {
            outcome.unwrap_or_else(|panic| {
                let why = panic_message(panic);
                Err(TaskFault::Unreadable(format!("panic in between: {why}")).into())
            })
        })
        .boxed()
}

/// The future output of a spawned task. If the handle is dropped, the task continues. In a forked child its
/// output is [`CallError::Forked`].
///
/// ```no_run
/// # use lockkeeper::{Pool, Task, TaskError};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Square(u64);
/// # impl Task for Square {
/// #     const NAME: &'static str = "square";
/// #     type Output = u64;
/// #     async fn run(self) -> u64 { self.0 * self.0 }
/// # }
/// use std::time::Duration;
///
/// # async fn square(pool: Pool) -> Result<Option<u64>, TaskError> {
/// let mut handle = pool.spawn(Square(3));
/// match tokio::time::timeout(Duration::from_secs(1), &mut handle).await {
///     Ok(output) => Ok(Some(output?)),
///     Err(_) => {
///         handle.cancel();
///         Ok(None)
///     }
/// }
/// # }
/// ```
#[doc(alias = "AsyncResult")]
#[doc(alias = "JoinHandle")]
pub struct TaskHandle<R> {
    work: OnlyHere<tokio::task::JoinHandle<Result<R, TaskError>>>,
    switch: KillSwitch,
}

impl<R: Send + 'static> TaskHandle<R> {
    /// Submits a task, and waits for its outcome in the background.
    pub(super) fn begin<T: Task<Output = R>>(entry: Entry, task: T) -> Self {
        let switch = KillSwitch::new(entry.queue.clone());
        let mut work = guarded(apply_killable(entry, task, switch.clone()));
        // The first poll submits the task, so it precedes later calls and the close of the pool.
        let begun = {
            let _runtime = background().enter();
            work.poll_unpin(&mut Context::from_waker(Waker::noop()))
        };
        let work = background().spawn(async {
            match begun {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => work.await,
            }
        });
        Self {
            work: OnlyHere::new(work),
            switch,
        }
    }
}

impl<R> TaskHandle<R> {
    /// Withdraws the task: if no worker has taken it, it does not run. See [`Self::kill`] for one that runs.
    #[doc(alias = "abort")]
    pub fn cancel(self) {
        if let Some(task) = self.work.get() {
            task.abort();
        }
    }

    /// Kills the task. Its outcome is then [`TaskFault::Killed`](crate::errors::TaskFault::Killed), unless the task has
    /// finished in the meantime. A second kill, and one after the outcome, have no effect.
    ///
    /// A task that no worker has taken is withdrawn. If a worker runs the task, the pool ends that process with SIGKILL,
    /// with the processes that it has started. What the worker held comes back before the outcome is known, marked as
    /// [abandoned](crate::guards::Abandoned), and another worker takes its place. The task is not run again, also with
    /// [retries](crate::Retry). No other task is affected: a worker is killed only once it has no other task, which
    /// takes some milliseconds if it was given several short ones.
    #[doc(alias = "terminate")]
    pub fn kill(&self) {
        if self.work.get().is_some() {
            self.switch.kill();
        }
    }

    /// Returns whether the task has an outcome.
    #[doc(alias = "ready")]
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.work.get().is_none_or(|task| task.is_finished())
    }
}

impl<R> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = self.work.get_mut() else {
            let what = "the handle of the task".to_owned();
            return Poll::Ready(Err(CallError::Forked { what }.into()));
        };
        Pin::new(task).poll(context).map(|joined| {
            // The task was not cancelled, because `cancel` consumes the handle.
            joined.unwrap_or_else(|error| Err(TaskFault::Unreadable(error.to_string()).into()))
        })
    }
}

impl<R> fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

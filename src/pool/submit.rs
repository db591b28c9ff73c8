//! Submits chunks of tasks to the queue as calls, and decodes their outcomes.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{self, Either},
};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::{
    Fault,
    operations::{Chunk, Submit, TaskFault, TaskRule, outcome_bytes},
};
use lockkeeper_sys::Origin;
use tokio::task::JoinHandle;

use crate::{
    background::background,
    error::CallError,
    pool::{
        chunk::{self, Outcome},
        deaths::Deaths,
        forked::only_here,
        retry::micros,
        room::Room,
        switch::KillSwitch,
        task::Task,
        tasks,
    },
    proxy::proxy::Proxy,
    task_error::TaskError,
    telemetry::pool,
};

/// The queue of a pool, as the submitters of tasks use it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    pub(super) queue: Proxy<TaskQueue>,
    pub(super) room: Arc<Room>,
    pub(super) deaths: Deaths,
    /// The time limit and the retries of each task, unless the task has a limit of its own.
    pub(super) rule: Option<TaskRule>,
}

impl Entry {
    /// Runs a future of the pool. A forked child can neither begin nor continue it.
    pub(super) async fn here<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        only_here(self.origin, work).await
    }

    /// Returns the time limit and the retries of a task.
    ///
    /// # Errors
    ///
    /// Returns an error for a limit of zero.
    #[inline]
    pub(super) fn rule_of<T: Task>(&self, task: &T) -> Result<Option<TaskRule>, CallError> {
        match task.time_limit() {
            None => Ok(self.rule),
            Some(limit) => {
                let limit = checked_limit(limit).map_err(Fault::BadArguments)?;
                Ok(Some(TaskRule {
                    limit: Some(limit),
                    retry: self.rule.and_then(|rule| rule.retry),
                }))
            }
        }
    }
}

/// Returns the microseconds of a time limit.
///
/// # Errors
///
/// Returns a text for a limit below one microsecond.
pub(super) fn checked_limit(limit: Duration) -> Result<u64, String> {
    match micros(limit) {
        0 => Err(format!(
            "the time limit of a task is at least one microsecond, not {limit:?}"
        )),
        micros => Ok(micros),
    }
}

/// Runs a task once the pool has room for it.
pub(super) async fn apply<T: Task>(
    entry: Entry,
    task: T,
    switch: Option<KillSwitch>,
) -> Outcome<T> {
    let pool = entry.clone();
    let outcome = pool.here(async { Ok(apply_here(entry, task, switch).await) });
    let outcome = outcome.await.map_err(TaskError::from).flatten();
    outcome.map_err(|error| error.of(T::NAME, None))
}

/// Runs a task that its handle may kill.
pub(super) async fn apply_killable<T: Task>(
    entry: Entry,
    task: T,
    switch: KillSwitch,
) -> Outcome<T> {
    let withdrawn = switch.clone();
    let applied = pin!(apply(entry, task, Some(switch)));
    // A task that is killed while it waits for room is not submitted any more.
    match future::select(applied, pin!(withdrawn.withdrawn())).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), _)) => Err(TaskError::from(TaskFault::Killed).of(T::NAME, None)),
    }
}

async fn apply_here<T: Task>(entry: Entry, task: T, switch: Option<KillSwitch>) -> Outcome<T> {
    let room = Arc::clone(&entry.room);
    let turn = room.turn().await;
    let Submitted { bytes, work } = submit::<T>(entry, &[task], None, switch);
    let work = work.map(|ran| ran.outcomes);
    let permit = room.take(bytes).await;
    let mut outcomes = match permit {
        None => {
            let work = begin(work);
            drop(turn);
            work.await
        }
        Some(permit) => {
            // The room is released as soon as the task ends, even if its future is not polled.
            let work = begin(work);
            drop(turn);
            let work = async move {
                let outcomes = work.await;
                drop(permit);
                outcomes
            };
            AbortOnDrop(background().spawn(work))
                .await
                .unwrap_or_default()
        }
    };
    outcomes.pop().unwrap_or_else(missing)
}

/// The error of a task without an outcome. Workers report an outcome for each task.
fn missing<R>() -> Result<R, TaskError> {
    Err(TaskFault::Unreadable("the outcome is missing".to_owned()).into())
}

/// A background task that is aborted with its future.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(context).map(Result::ok)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Submits a chunk at once, so that workers run it while the next ones are encoded.
pub(super) fn begin<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let mut work = Box::pin(work);
    // The stream that receives the future polls it again, and registers its waker then.
    match work.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => future::ready(outcome).left_future(),
        Poll::Pending => work.right_future(),
    }
}

/// What a chunk gave.
pub(super) struct Ran<R> {
    /// An outcome for each task.
    pub(super) outcomes: Vec<R>,
    /// The bytes that the queue counts for the outcomes; zero if they did not come from the queue.
    pub(super) kept: usize,
}

/// A chunk of tasks in flight.
pub(super) struct Submitted<F> {
    /// The bytes of its arguments.
    pub(super) bytes: usize,
    /// Runs the chunk.
    pub(super) work: F,
}

/// Encodes a chunk of tasks, which runs once the work is polled. A task that cannot be encoded fails alone. The
/// limit of the series includes the outcome.
pub(super) fn submit<T: Task>(
    entry: Entry,
    tasks: &[T],
    series: Option<u64>,
    switch: Option<KillSwitch>,
) -> Submitted<impl Future<Output = Ran<Outcome<T>>> + Send + use<T>> {
    let (chunk, failed) = if tasks::tasks().has(T::NAME) {
        chunk::pack_each(tasks)
    } else {
        let fault = TaskFault::NotRegistered(T::NAME.to_owned());
        let failed = (0..tasks.len()).map(|place| (place, fault.clone()));
        (chunk::empty::<T>(), failed.collect())
    };
    let bytes = chunk.arguments.0.len();
    let count = tasks.len() - failed.len();
    // A chunk of several tasks has no rule: such tasks are submitted one by one.
    let rule = match tasks {
        [task] => entry.rule_of(task),
        _ => Ok(None),
    };
    let work = async move {
        let Ran { outcomes, kept } = run::<T>(entry, chunk, count, rule, series, switch).await;
        let outcomes = with_failed(outcomes, failed);
        pool::tasks_ended(T::NAME, outcomes.iter());
        Ran { outcomes, kept }
    };
    Submitted { bytes, work }
}

/// Inserts the errors of tasks that could not be encoded among the outcomes of the others.
fn with_failed<R>(
    outcomes: Vec<Result<R, TaskError>>,
    failed: Vec<(usize, TaskFault)>,
) -> Vec<Result<R, TaskError>> {
    if failed.is_empty() {
        return outcomes;
    }
    let mut all = Vec::with_capacity(outcomes.len() + failed.len());
    let mut outcomes = outcomes.into_iter();
    for (place, fault) in failed {
        let before = place.saturating_sub(all.len());
        all.extend(outcomes.by_ref().take(before));
        all.push(Err(fault.into()));
    }
    all.extend(outcomes);
    all
}

/// Runs a chunk of `count` tasks.
async fn run<T: Task>(
    entry: Entry,
    chunk: Chunk,
    count: usize,
    rule: Result<Option<TaskRule>, CallError>,
    series: Option<u64>,
    switch: Option<KillSwitch>,
) -> Ran<Outcome<T>> {
    let mut kept = 0;
    if count == 0 {
        let outcomes = Vec::new();
        return Ran { outcomes, kept };
    }
    let Entry {
        origin: _,
        queue,
        room,
        deaths,
        rule: _,
    } = entry;
    let outcome = async {
        let bytes = chunk.arguments.0.len();
        chunk::check::<T>(bytes)?;
        room.check(bytes).map_err(CallError::from)?;
        let submit = Submit {
            chunk,
            rule: rule?,
            series,
        };
        let outcome = match switch {
            Some(switch) => {
                queue
                    .call_numbered(submit, |call| switch.is_sent(call))
                    .await
            }
            None => queue.call(submit).await,
        };
        let mut outcome = outcome.map_err(|error| deaths.error(error))?;
        kept = outcome_bytes(outcome.as_ref().map_err(AsRef::as_ref));
        deaths.explain(&mut outcome).await;
        outcome.map_err(chunk::failed::<T>)
    };
    let outcomes = match outcome.await {
        Ok(row) => chunk::unpack::<T>(&row, count),
        Err::<_, TaskError>(error) => chunk::fail_all(count, &error),
    };
    Ran { outcomes, kept }
}

//! Submits chunks of tasks to the queue as calls, and decodes their outcomes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, future};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Chunk, Submit, TaskFault};
use lockkeeper_sys::Origin;
use tokio::task::JoinHandle;

use crate::{
    background::background,
    error::{CallError, TaskError},
    pool::{
        chunk::{self, Outcome},
        deaths::Deaths,
        forked::only_here,
        room::Room,
        task::Task,
        tasks,
    },
    proxy::proxy::Proxy,
    telemetry::pool,
};

/// The queue of a pool, for those who submit tasks.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    pub(super) queue: Proxy<TaskQueue>,
    pub(super) room: Arc<Room>,
    pub(super) deaths: Deaths,
    /// How often a chunk is run again when its worker dies.
    pub(super) retries: u32,
}

impl Entry {
    /// Does something with the pool that a forked child can neither begin nor go on with.
    pub(super) async fn here<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        only_here(self.origin, work).await
    }
}

/// Has a task run, once the pool has room for it.
pub(super) async fn apply<T: Task>(entry: Entry, task: T) -> Outcome<T> {
    let pool = entry.clone();
    let outcome = pool.here(async { Ok(apply_here(entry, task).await) });
    outcome.await?
}

async fn apply_here<T: Task>(entry: Entry, task: T) -> Outcome<T> {
    let room = Arc::clone(&entry.room);
    let turn = room.turn().await;
    let Submitted { bytes, work } = submit::<T>(entry, &[task]);
    let permit = room.take(bytes).await;
    let mut outcomes = match permit {
        None => {
            let work = begin(work);
            drop(turn);
            work.await
        }
        Some(permit) => {
            // The room is free again as soon as the task has ended, whether or not it is asked for.
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

/// What is told of a task without an outcome, which no worker lets happen.
fn missing<R>() -> Result<R, TaskError> {
    Err(TaskFault::Unreadable("the outcome is missing".to_owned()).into())
}

/// Work in the background that ends with its future.
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

/// Has a chunk submitted at once: workers run it while those behind it are packed.
pub(super) fn begin<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let mut work = Box::pin(work);
    // It is polled again, and then woken, where it is put in.
    match work.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => future::ready(outcome).left_future(),
        Poll::Pending => work.right_future(),
    }
}

/// A chunk of tasks on its way.
pub(super) struct Submitted<F> {
    /// How many bytes its arguments have.
    pub(super) bytes: usize,
    /// Has it run, and gives an outcome for each task.
    pub(super) work: F,
}

/// Packs a chunk of tasks, to be run once the work is polled. A task that cannot be packed fails alone.
pub(super) fn submit<T: Task>(
    entry: Entry,
    tasks: &[T],
) -> Submitted<impl Future<Output = Vec<Outcome<T>>> + Send + use<T>> {
    let (chunk, failed) = if tasks::tasks().has(T::NAME) {
        chunk::pack_each(tasks)
    } else {
        let fault = TaskFault::NotRegistered(T::NAME.to_owned());
        let failed = (0..tasks.len()).map(|place| (place, fault.clone()));
        (chunk::empty::<T>(), failed.collect())
    };
    let bytes = chunk.arguments.0.len();
    let count = tasks.len() - failed.len();
    let work = async move {
        let outcomes = with_failed(run::<T>(entry, chunk, count).await, failed);
        pool::tasks_ended(T::NAME, outcomes.iter().map(Result::as_ref));
        outcomes
    };
    Submitted { bytes, work }
}

/// Adds the tasks that could not be packed to the outcomes of the others, each in its place.
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

/// Has a chunk of so many tasks run.
async fn run<T: Task>(entry: Entry, chunk: Chunk, count: usize) -> Vec<Outcome<T>> {
    if count == 0 {
        return Vec::new();
    }
    let Entry {
        origin: _,
        queue,
        room,
        deaths,
        retries,
    } = entry;
    let outcome = async {
        let bytes = chunk.arguments.0.len();
        chunk::check::<T>(bytes)?;
        room.check(bytes).map_err(CallError::from)?;
        let outcome = queue.call(Submit { chunk, retries }).await;
        let mut outcome = outcome.map_err(|error| deaths.error(error))?;
        deaths.explain(&mut outcome).await;
        Ok(outcome?)
    };
    match outcome.await {
        Ok(row) => chunk::unpack::<T>(&row, count),
        Err::<_, TaskError>(error) => chunk::fail_all(count, &error),
    }
}

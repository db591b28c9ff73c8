//! Submits chunks of tasks to the queue as calls, and decodes their outcomes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, future};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Submit, TaskFault};

use tokio::task::JoinHandle;

use crate::{
    background::background,
    error::{CallError, TaskError},
    pool::{
        chunk::{self, Outcome},
        room::Room,
        task::Task,
        tasks,
    },
    proxy::proxy::Proxy,
    telemetry::pool,
};

/// Has a task run, once the pool has room for it.
pub(super) async fn apply<T: Task>(
    queue: Proxy<TaskQueue>,
    room: Arc<Room>,
    retries: u32,
    task: T,
) -> Outcome<T> {
    let lost = || TaskFault::Unreadable("the outcome is missing".to_owned());
    let turn = room.turn().await;
    let Submitted { bytes, work } = submit::<T>(queue, &room, retries, &[task]);
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
    outcomes.pop().unwrap_or_else(|| Err(lost().into()))
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

/// Packs a chunk of tasks, to be run once the work is polled.
pub(super) fn submit<T: Task>(
    queue: Proxy<TaskQueue>,
    room: &Room,
    retries: u32,
    tasks: &[T],
) -> Submitted<impl Future<Output = Vec<Outcome<T>>> + Send + use<T>> {
    let count = tasks.len();
    let chunk = if tasks::tasks().has(T::NAME) {
        chunk::pack(tasks)
    } else {
        Err(TaskFault::NotRegistered(T::NAME.to_owned()))
    };
    let bytes = chunk.as_ref().map_or(0, |chunk| chunk.arguments.0.len());
    let checked = room.check(bytes);
    let work = async move {
        let outcome = async {
            let chunk = chunk?;
            checked.map_err(CallError::from)?;
            Ok(queue.call(Submit { chunk, retries }).await??)
        };
        let outcomes = match outcome.await {
            Ok(row) => chunk::unpack::<T>(&row, count),
            Err::<_, TaskError>(error) => chunk::fail_all(count, &error),
        };
        pool::tasks_ended(T::NAME, outcomes.iter().map(Result::as_ref));
        outcomes
    };
    Submitted { bytes, work }
}

//! Submits chunks of tasks to the queue as calls, and decodes their outcomes.

use std::future::Future;

use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::{Submit, TaskFault};

use crate::{
    error::TaskError,
    pool::{
        chunk::{self, Outcome},
        deaths::Deaths,
        task::Task,
        tasks,
    },
    proxy::proxy::Proxy,
    telemetry::pool,
};

/// The queue of a pool, for those who submit tasks.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) queue: Proxy<TaskQueue>,
    pub(super) deaths: Deaths,
    /// How often a chunk is run again when its worker dies.
    pub(super) retries: u32,
}

/// Has a task run.
pub(super) async fn apply<T: Task>(entry: Entry, task: T) -> Outcome<T> {
    let lost = || TaskFault::Unreadable("the outcome is missing".to_owned());
    let mut outcomes = submit::<T>(entry, &[task]).work.await;
    outcomes.pop().unwrap_or_else(|| Err(lost().into()))
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
    entry: Entry,
    tasks: &[T],
) -> Submitted<impl Future<Output = Vec<Outcome<T>>> + Send + use<T>> {
    let count = tasks.len();
    let chunk = if tasks::tasks().has(T::NAME) {
        chunk::pack(tasks)
    } else {
        Err(TaskFault::NotRegistered(T::NAME.to_owned()))
    };
    let bytes = chunk.as_ref().map_or(0, |chunk| chunk.arguments.0.len());
    let work = async move {
        let Entry {
            queue,
            deaths,
            retries,
        } = entry;
        let outcome = async {
            let chunk = chunk?;
            let outcome = queue.call(Submit { chunk, retries }).await;
            let mut outcome = outcome.map_err(|error| deaths.error(error))?;
            deaths.explain(&mut outcome).await;
            Ok(outcome?)
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

//! How tasks get into the queue and their outcomes out of it.

use lockkeeper_actors::{
    codec::{self, Blob},
    data::{Submit, TaskFault, TaskQueue},
};

use crate::{
    Proxy, program,
    task::{Task, TaskError},
};

/// How many bytes the arguments of a chunk have at the most, so that they fit a message, both to
/// the queue and from there.
const MOST_JOB_BYTES: usize = (64 << 20) - (64 << 10);

/// What an argument takes beside its encoding, at the most.
const ARGUMENT_BYTES: usize = 8;

/// The outcome of one task.
pub(super) type Outcome<T> = Result<<T as Task>::Output, TaskError>;

pub(super) async fn apply<T: Task>(queue: Proxy<TaskQueue>, retries: u32, task: T) -> Outcome<T> {
    let lost = || TaskFault::Unreadable("the outcome is missing".to_owned());
    let mut outcomes = submit(queue, retries, vec![task]).await;
    outcomes.pop().unwrap_or_else(|| Err(lost().into()))
}

/// Has a chunk of tasks run and returns an outcome for each.
pub(super) async fn submit<T: Task>(
    queue: Proxy<TaskQueue>,
    retries: u32,
    chunk: Vec<T>,
) -> Vec<Outcome<T>> {
    let count = chunk.len();
    let outcomes = match call(queue, retries, chunk).await {
        Ok(outcomes) if outcomes.len() == count => outcomes,
        Ok(outcomes) => {
            let why = format!("{} outcomes of {count} tasks", outcomes.len());
            return (0..count)
                .map(|_| Err(TaskFault::Unreadable(why.clone()).into()))
                .collect();
        }
        Err(error) => return (0..count).map(|_| Err(error.clone())).collect(),
    };
    let read = |outcome: Result<Blob, TaskFault>| {
        let Blob(output) = outcome?;
        codec::decode(&output).map_err(|error| {
            TaskFault::Unreadable(format!("output of {:?}: {error}", T::NAME)).into()
        })
    };
    outcomes.into_iter().map(read).collect()
}

async fn call<T: Task>(
    queue: Proxy<TaskQueue>,
    retries: u32,
    chunk: Vec<T>,
) -> Result<Vec<Result<Blob, TaskFault>>, TaskError> {
    if !program::tasks().has(T::NAME) {
        return Err(TaskFault::NotRegistered(T::NAME.to_owned()).into());
    }
    let mut arguments = Vec::with_capacity(chunk.len());
    for task in chunk {
        let encoded = codec::encode(&task).map_err(|error| {
            TaskFault::Unreadable(format!("arguments of {:?}: {error}", T::NAME))
        })?;
        arguments.push(Blob(encoded));
    }
    let bytes: usize = arguments
        .iter()
        .map(|Blob(encoded)| encoded.len() + ARGUMENT_BYTES)
        .sum();
    if bytes > MOST_JOB_BYTES {
        let why = format!(
            "arguments of {:?}: {bytes} bytes are more than fit, \
             those of a chunk have at most {MOST_JOB_BYTES} together",
            T::NAME
        );
        return Err(TaskFault::Unreadable(why).into());
    }
    let submit = Submit {
        task: T::NAME.to_owned(),
        arguments,
        retries,
    };
    Ok(queue.call(submit).await??)
}

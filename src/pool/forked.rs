//! The errors that a forked child gets from the pool of its parent. The child neither continues nor drops the
//! operations of the parent.

use std::{future::Future, mem, task::Poll};

use futures::{Stream, StreamExt, stream};
use lockkeeper_sys::{OnlyHere, Origin};

use crate::{
    error::CallError,
    pool::{chunk::Outcome, task::Task},
    task_error::TaskError,
};

pub(super) fn forked() -> CallError {
    CallError::Forked {
        what: "the pool".to_owned(),
    }
}

/// Runs a future with a pool, and fails outside of the process that created the pool.
pub(super) async fn only_here<T>(
    origin: Origin,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    if !origin.is_here() {
        return Err(forked());
    }
    let done = OnlyHere::future(work).await;
    done.unwrap_or_else(|| Err(forked()))
}

/// Yields the outcomes of a pool, each with the index of its task, in the process that created it, and one error in a
/// forked child. Each error names its task.
pub(super) fn outcomes_here<T, S>(
    origin: Origin,
    outcomes: S,
) -> impl Stream<Item = (usize, Outcome<T>)> + use<T, S>
where
    T: Task,
    S: Stream<Item = (usize, Outcome<T>)>,
{
    let mut outcomes = OnlyHere::new(Box::pin(outcomes));
    let mut is_over = false;
    stream::poll_fn(
        move |task| match outcomes.get_mut().filter(|_| origin.is_here()) {
            Some(outcomes) => {
                let next = outcomes.poll_next_unpin(task);
                next.map(|next| {
                    let (index, outcome) = next?;
                    let named = |error: TaskError| error.of(T::NAME, Some(index));
                    Some((index, outcome.map_err(named)))
                })
            }
            None if mem::replace(&mut is_over, true) => Poll::Ready(None),
            None => Poll::Ready(Some((0, Err(TaskError::from(forked()).of(T::NAME, None))))),
        },
    )
}

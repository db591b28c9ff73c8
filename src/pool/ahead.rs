//! The window of a stream: how many chunks of tasks are submitted before their outcomes are taken.
//!
//! Workers take many short tasks at a time, so many tasks must be in flight; large arguments must not
//! fill the memory. So the window is limited by a number of tasks and by a number of bytes.

use std::{
    future::Future,
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, FuturesOrdered, FuturesUnordered},
};

use crate::pool::{
    room::Share,
    source::{Chunks, Given, poll_again},
    submit::{Submitted, begin},
};

/// How many tasks a worker are on their way, unless they have too many bytes.
const TASKS: usize = 256;

/// How many chunks a worker are on their way, however large they are.
const LEAST_CHUNKS: usize = 4;

/// How many bytes of arguments are on their way at the most, beyond those chunks.
const MOST_BYTES: usize = 16 << 20;

/// How many chunks are on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    least: usize,
    most: usize,
}

impl Window {
    /// The window of so many workers, and chunks of so many tasks.
    pub(super) fn of(workers: usize, chunk: usize) -> Self {
        let least = LEAST_CHUNKS.saturating_mul(workers);
        Self {
            least,
            most: least.max(TASKS.saturating_mul(workers) / chunk),
        }
    }

    pub(super) fn has_room(self, chunks: usize, share: &Share) -> bool {
        if chunks == 0 {
            return true;
        }
        let is_within = chunks < self.least || (chunks < self.most && share.bytes() < MOST_BYTES);
        is_within && share.has_room()
    }
}

/// The order of outcomes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// That of the tasks.
    Given,
    /// That in which they come.
    Finished,
}

/// Has chunks run, as many ahead as the window has room for.
pub(super) fn ahead<I, S, F>(
    mut chunks: Chunks<I>,
    submit: S,
    window: Window,
    mut share: Share,
    order: Order,
) -> impl Stream<Item = F::Output> + use<I, S, F>
where
    I: Iterator,
    S: Fn(&[I::Item]) -> Submitted<F>,
    F: Future,
{
    let mut in_flight = match order {
        Order::Given => InFlight::Ordered(FuturesOrdered::new()),
        Order::Finished => InFlight::Unordered(FuturesUnordered::new()),
    };
    stream::poll_fn(move |context| {
        chunks.begin_turn();
        let mut is_turn_over = false;
        while window.has_room(in_flight.len(), &share) {
            match chunks.next() {
                Given::Next(chunk) => {
                    let Submitted { bytes, work } = submit(&chunk);
                    share.add(bytes);
                    in_flight.push(begin(work.map(move |outcome| (bytes, outcome))));
                }
                Given::TurnIsOver => {
                    is_turn_over = true;
                    break;
                }
                Given::End => break,
            }
        }
        match in_flight.poll_next(context) {
            Poll::Ready(Some((bytes, outcome))) => {
                share.remove(bytes);
                Poll::Ready(Some(outcome))
            }
            Poll::Ready(None) | Poll::Pending if is_turn_over => poll_again(context),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
}

/// Chunks that are on their way.
enum InFlight<F: Future> {
    Ordered(FuturesOrdered<F>),
    Unordered(FuturesUnordered<F>),
}

impl<F: Future> InFlight<F> {
    fn len(&self) -> usize {
        match self {
            Self::Ordered(futures) => futures.len(),
            Self::Unordered(futures) => futures.len(),
        }
    }

    fn push(&mut self, future: F) {
        match self {
            Self::Ordered(futures) => futures.push_back(future),
            Self::Unordered(futures) => futures.push(future),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        match self {
            Self::Ordered(futures) => futures.poll_next_unpin(context),
            Self::Unordered(futures) => futures.poll_next_unpin(context),
        }
    }
}

//! The window of a stream: how many chunks of tasks it submits before their outcomes are taken.
//!
//! Workers take many short tasks at a time, so many tasks must be in flight, but large arguments must not
//! fill the memory. The window is therefore limited by a number of tasks and by a number of bytes.

use std::{
    future::Future,
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, FuturesOrdered, FuturesUnordered},
};

use crate::pool::{
    limited::LimitedSeries,
    room::Share,
    source::{Chunks, Given, poll_again},
    submit::{Ran, Submitted, begin},
};

/// The most tasks per worker in flight, unless their arguments reach the limit of bytes.
const TASKS: usize = 256;

/// The chunks per worker that may always be in flight, regardless of their size.
const LEAST_CHUNKS: usize = 4;

/// The most bytes of arguments in flight, beyond those chunks.
const MOST_BYTES: usize = 16 << 20;

/// The limits on chunks in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    least: usize,
    most: usize,
}

impl Window {
    /// The window for that many workers, with `chunk` tasks per chunk.
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
    /// The order of the tasks.
    Given,
    /// The order in which outcomes arrive.
    Finished,
}

/// Runs chunks, with as many in flight as the window allows. Yields the outcomes of a chunk with the index of its
/// first task.
pub(super) fn ahead<I, S, F, R>(
    mut chunks: Chunks<I>,
    submit: S,
    window: Window,
    mut queue: LimitedSeries,
    order: Order,
) -> impl Stream<Item = (usize, Vec<R>)> + use<I, S, F, R>
where
    I: Iterator,
    S: Fn(&[I::Item], u64) -> Submitted<F>,
    F: Future<Output = Ran<R>>,
{
    let mut in_flight = match order {
        Order::Given => InFlight::Ordered(FuturesOrdered::new()),
        Order::Finished => InFlight::Unordered(FuturesUnordered::new()),
    };
    let mut taken = 0;
    stream::poll_fn(move |context| {
        chunks.begin_turn();
        let mut is_turn_over = false;
        while window.has_room(in_flight.len(), &queue.share) {
            match chunks.next() {
                Given::Next(chunk) => {
                    let Submitted { bytes, work } = submit(&chunk, queue.begin());
                    queue.share.add(bytes);
                    let arrivals = queue.share.arrivals();
                    let first = taken;
                    taken += chunk.len();
                    in_flight.push(begin(work.map(move |ran| {
                        arrivals.add(ran.kept);
                        (first, bytes, ran)
                    })));
                }
                Given::TurnIsOver => {
                    is_turn_over = true;
                    break;
                }
                Given::End => break,
            }
        }
        match in_flight.poll_next(context) {
            Poll::Ready(Some((first, bytes, Ran { outcomes, kept }))) => {
                queue.share.remove(bytes);
                queue.give_out(kept);
                Poll::Ready(Some((first, outcomes)))
            }
            Poll::Ready(None) | Poll::Pending if is_turn_over => poll_again(context),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                queue.release();
                Poll::Pending
            }
        }
    })
}

/// The chunks in flight.
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

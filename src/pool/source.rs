//! The iterator that a stream takes its tasks from.
//!
//! Invariant: an iterator that takes long for each task keeps a poll no longer than for the task that goes
//! beyond the time of a turn. In between the stream gives out outcomes, and the runtime runs others.

use std::{
    iter,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long tasks are taken in one turn.
const TURN: Duration = Duration::from_millis(1);

/// What an iterator gives in a turn.
pub(super) enum Given<T> {
    /// The next one.
    Next(T),
    /// Nothing, since the turn is over. There may be more in the next one.
    TurnIsOver,
    /// Nothing any more.
    End,
}

/// An iterator that is asked in turns.
pub(super) struct Source<I: Iterator> {
    tasks: iter::Fuse<I>,
    turn: Instant,
    is_over: bool,
}

impl<I: Iterator> Source<I> {
    pub(super) fn new(tasks: I) -> Self {
        Self {
            tasks: tasks.fuse(),
            turn: Instant::now(),
            is_over: false,
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.turn = Instant::now();
        self.is_over = false;
    }

    pub(super) fn next(&mut self) -> Given<I::Item> {
        if self.is_over {
            return Given::TurnIsOver;
        }
        let next = self.tasks.next();
        self.is_over = self.turn.elapsed() >= TURN;
        next.map_or(Given::End, Given::Next)
    }
}

/// Has the task polled again once the runtime has looked after all others, and after its streams.
pub(super) fn poll_again<T>(context: &mut Context<'_>) -> Poll<T> {
    let mut others_first = std::pin::pin!(tokio::task::yield_now());
    match others_first.as_mut().poll(context) {
        Poll::Ready(()) => context.waker().wake_by_ref(),
        Poll::Pending => {}
    }
    Poll::Pending
}

/// Tasks of an iterator, so many at a time.
pub(super) struct Chunks<I: Iterator> {
    source: Source<I>,
    size: usize,
    /// Those of the next chunk.
    chunk: Vec<I::Item>,
}

impl<I: Iterator> Chunks<I> {
    pub(super) fn new(tasks: I, size: usize) -> Self {
        Self {
            source: Source::new(tasks),
            size,
            chunk: Vec::new(),
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.source.begin_turn();
    }

    pub(super) fn next(&mut self) -> Given<Vec<I::Item>> {
        while self.chunk.len() < self.size {
            match self.source.next() {
                Given::Next(task) => self.chunk.push(task),
                Given::TurnIsOver => return Given::TurnIsOver,
                Given::End if self.chunk.is_empty() => return Given::End,
                Given::End => break,
            }
        }
        Given::Next(std::mem::take(&mut self.chunk))
    }
}

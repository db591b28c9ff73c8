//! The iterator that a stream takes its tasks from.
//!
//! Invariant: an iterator that takes long for each task keeps a poll no longer than for the task that goes
//! beyond the time of a turn, and one that becomes slow within a turn for [`MOST_UNTIMED`] of them. In between
//! the stream gives out outcomes, and the runtime runs others.

use std::{
    iter,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long tasks are taken in one turn.
const TURN: Duration = Duration::from_millis(1);

/// How many tasks are taken at the most before the time is read again. To read it takes a sixth of all the time
/// that a short task of a chunk takes.
const MOST_UNTIMED: u32 = 8;

/// While so many tasks together take less than this, twice as many are taken before the time is read again.
const SHORT: Duration = Duration::from_micros(10);

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
    /// How much of the turn was over when the time was read last.
    read: Duration,
    /// How many tasks are taken from then on before it is read again, and how many of them are left.
    untimed: u32,
    left: u32,
}

impl<I: Iterator> Source<I> {
    pub(super) fn new(tasks: I) -> Self {
        Self {
            tasks: tasks.fuse(),
            turn: Instant::now(),
            is_over: false,
            read: Duration::ZERO,
            untimed: 1,
            left: 1,
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.turn = Instant::now();
        self.is_over = false;
        self.read = Duration::ZERO;
        (self.untimed, self.left) = (1, 1);
    }

    /// How many tasks there are at least.
    fn least(&self) -> usize {
        self.tasks.size_hint().0
    }

    pub(super) fn next(&mut self) -> Given<I::Item> {
        if self.is_over {
            return Given::TurnIsOver;
        }
        let next = self.tasks.next();
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.read_time();
        }
        next.map_or(Given::End, Given::Next)
    }

    fn read_time(&mut self) {
        let elapsed = self.turn.elapsed();
        self.is_over = elapsed >= TURN;
        self.untimed = if elapsed.saturating_sub(self.read) < SHORT {
            self.untimed.saturating_mul(2).min(MOST_UNTIMED)
        } else {
            1
        };
        self.left = self.untimed;
        self.read = elapsed;
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
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(self.source.least().min(self.size));
        }
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Takes what there is in one turn.
    fn turn<I: Iterator>(source: &mut Source<I>) -> Vec<I::Item> {
        source.begin_turn();
        let mut taken = Vec::new();
        while let Given::Next(task) = source.next() {
            taken.push(task);
        }
        taken
    }

    #[test]
    fn iterator_that_becomes_slow_within_a_turn_ends_it_soon() {
        const FAST: u32 = 100;
        let tasks = (0_u32..).inspect(|number| {
            if *number >= FAST {
                thread::sleep(TURN);
            }
        });
        let mut source = Source::new(tasks);
        let mut taken = Vec::new();
        while taken.last().is_none_or(|last| *last < FAST) {
            taken.extend(turn(&mut source));
        }
        let slow = taken.len() - usize::try_from(FAST).unwrap();
        assert!(slow <= usize::try_from(MOST_UNTIMED).unwrap(), "{slow}");
        assert_eq!(turn(&mut source).len(), 1);
    }

    #[test]
    fn chunks_have_all_tasks_in_order_whatever_the_iterator_says_of_their_number() {
        let of = |tasks: &mut dyn Iterator<Item = u32>| {
            let mut chunks = Chunks::new(tasks, 4);
            let mut all = Vec::new();
            loop {
                chunks.begin_turn();
                match chunks.next() {
                    Given::Next(chunk) => all.push(chunk),
                    Given::TurnIsOver => {}
                    Given::End => return all,
                }
            }
        };
        let expected = [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]];
        assert_eq!(of(&mut (0..9)), expected);
        assert_eq!(of(&mut (0..90).filter(|number| *number < 9)), expected);
    }
}

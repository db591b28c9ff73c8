//! The iterator from which a stream takes its tasks.
//!
//! Invariant: a slow iterator exceeds the time of a turn by at most one task, or by [`MOST_UNTIMED`] tasks if
//! it becomes slow within a turn. Between turns the stream yields outcomes, and the runtime runs other tasks.

use std::{
    iter,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The time during which one turn takes tasks.
const TURN: Duration = Duration::from_millis(1);

/// The most tasks between two reads of the clock. A read takes a sixth of the total time of a short task in a
/// chunk.
const MOST_UNTIMED: u32 = 8;

/// If the tasks between two reads took less than this, twice as many are taken before the next read.
const SHORT: Duration = Duration::from_micros(10);

/// The result of asking the iterator.
pub(super) enum Given<T> {
    Next(T),
    /// The turn is over. The next one may have more tasks.
    TurnIsOver,
    /// The iterator has ended.
    End,
}

/// An iterator that is read in turns.
pub(super) struct Source<I: Iterator> {
    tasks: iter::Fuse<I>,
    turn: Instant,
    is_over: bool,
    /// The time since the begin of the turn at the last read of the clock.
    read: Duration,
    /// The number of tasks between two reads of the clock, and how many of them are left.
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

    /// A lower bound on the number of tasks.
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

/// Yields `Pending` and schedules another poll, after the runtime has polled its other tasks and streams.
pub(super) fn poll_again<T>(context: &mut Context<'_>) -> Poll<T> {
    let mut others_first = std::pin::pin!(tokio::task::yield_now());
    match others_first.as_mut().poll(context) {
        Poll::Ready(()) => context.waker().wake_by_ref(),
        Poll::Pending => {}
    }
    Poll::Pending
}

/// The tasks of an iterator in chunks of fixed size.
pub(super) struct Chunks<I: Iterator> {
    source: Source<I>,
    size: usize,
    /// Whether a task is a chunk by itself.
    is_single: fn(&I::Item) -> bool,
    /// The tasks of the next chunk.
    chunk: Vec<I::Item>,
    /// A single task behind them.
    single: Option<I::Item>,
}

impl<I: Iterator> Chunks<I> {
    pub(super) fn new(tasks: I, size: usize, is_single: fn(&I::Item) -> bool) -> Self {
        Self {
            source: Source::new(tasks),
            size,
            is_single,
            chunk: Vec::new(),
            single: None,
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.source.begin_turn();
    }

    pub(super) fn next(&mut self) -> Given<Vec<I::Item>> {
        if let Some(single) = self.single.take() {
            return Given::Next(vec![single]);
        }
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(self.source.least().min(self.size));
        }
        while self.chunk.len() < self.size {
            match self.source.next() {
                Given::Next(task) if (self.is_single)(&task) => {
                    if self.chunk.is_empty() {
                        return Given::Next(vec![task]);
                    }
                    self.single = Some(task);
                    break;
                }
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

    /// Takes the available tasks of one turn.
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

    fn chunks_of(
        tasks: &mut dyn Iterator<Item = u32>,
        is_single: fn(&u32) -> bool,
    ) -> Vec<Vec<u32>> {
        let mut chunks = Chunks::new(tasks, 4, is_single);
        let mut all = Vec::new();
        loop {
            chunks.begin_turn();
            match chunks.next() {
                Given::Next(chunk) => all.push(chunk),
                Given::TurnIsOver => {}
                Given::End => return all,
            }
        }
    }

    #[test]
    fn single_tasks_are_chunks_by_themselves_in_order() {
        let chunks = chunks_of(&mut (0..9), |number| [0, 3, 4].contains(number));
        assert_eq!(
            chunks,
            [vec![0], vec![1, 2], vec![3], vec![4], vec![5, 6, 7, 8]]
        );
    }

    #[test]
    fn chunks_have_all_tasks_in_order_whatever_the_iterator_says_of_their_number() {
        let of = |tasks: &mut dyn Iterator<Item = u32>| chunks_of(tasks, |_| false);
        let expected = [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]];
        assert_eq!(of(&mut (0..9)), expected);
        assert_eq!(of(&mut (0..90).filter(|number| *number < 9)), expected);
    }
}

//! A series of tasks that run one by one, as a stream of their outcomes.
//!
//! Outcomes of short tasks arrive in batches, and the stream submits tasks in batches too: whenever it has no
//! outcome at hand, it submits as many tasks as the window allows.
//!
//! Invariant: each task that was taken from the iterator has one outcome, even if the pool ends. Dropping the
//! stream withdraws the tasks that no worker has taken.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, future::BoxFuture, stream};
use lockkeeper_protocol::operations::{Collect, Ended, Feed, Leave, Row, TaskFault};
use rustc_hash::FxHashMap;

use crate::{
    error::{CallError, TaskError},
    pool::{
        ahead::{Order, Window},
        chunk::{self, Outcome},
        room::Share,
        source::{Given, Source, poll_again},
        submit::Entry,
        task::Task,
        tasks,
    },
    telemetry::pool,
};

/// The bytes of arguments after which a message takes no more tasks.
const MOST_BYTES_AT_A_TIME: usize = 1 << 20;

/// Runs tasks, with as many in flight as the window allows.
pub(super) fn series<T: Task, I: Iterator<Item = T>>(
    entry: Entry,
    tasks: I,
    window: Window,
    share: Share,
    order: Order,
) -> impl Stream<Item = Outcome<T>> + use<T, I> {
    let mut series = Series {
        feeder: Feeder {
            entry,
            number: None,
        },
        tasks: Source::new(tasks),
        window,
        outcomes: match order {
            Order::Given => Outcomes::Ordered {
                next: 0,
                line: VecDeque::new(),
            },
            Order::Finished => Outcomes::Unordered(VecDeque::new()),
        },
        taken: 0,
        yielded: 0,
        share,
        on_their_way: FxHashMap::default(),
        collecting: None,
    };
    stream::poll_fn(move |context| series.poll_next(context))
}

struct Series<T: Task, I: Iterator> {
    feeder: Feeder,
    tasks: Source<I>,
    window: Window,
    outcomes: Outcomes<T>,
    /// The number of tasks that were taken from the iterator.
    taken: usize,
    /// The number of outcomes that were yielded.
    yielded: usize,
    /// The bytes of arguments of the tasks in flight.
    share: Share,
    /// The tasks in flight, by their numbers: the index and the bytes of each.
    on_their_way: FxHashMap<u64, (usize, usize)>,
    collecting: Option<BoxFuture<'static, Result<Vec<Ended>, TaskError>>>,
}

impl<T: Task, I: Iterator<Item = T>> Series<T, I> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Outcome<T>>> {
        loop {
            if let Some((bytes, outcome)) = self.outcomes.pop() {
                self.yielded += 1;
                self.share.remove(bytes);
                return Poll::Ready(Some(outcome));
            }
            let is_turn_over = self.feed();
            if self.outcomes.is_next_there() {
                // A task that cannot be encoded has its outcome at once.
                continue;
            }
            if self.on_their_way.is_empty() {
                return if is_turn_over {
                    poll_again(context)
                } else {
                    Poll::Ready(None)
                };
            }
            let feeder = &self.feeder;
            let collecting = self.collecting.get_or_insert_with(|| feeder.collect());
            match collecting.poll_unpin(context) {
                Poll::Ready(ended) => {
                    self.collecting = None;
                    self.take_in(ended);
                }
                Poll::Pending if is_turn_over => return poll_again(context),
                Poll::Pending => return Poll::Pending,
            }
            if is_turn_over && !self.outcomes.is_next_there() {
                return poll_again(context);
            }
        }
    }

    /// Takes tasks while the window has room, and submits them. Returns whether the iterator may have more,
    /// which it takes too long to produce in this turn.
    fn feed(&mut self) -> bool {
        let mut batch = Batch::default();
        let mut is_turn_over = false;
        self.tasks.begin_turn();
        while self.window.has_room(self.taken - self.yielded, &self.share) {
            let task = match self.tasks.next() {
                Given::Next(task) => task,
                Given::TurnIsOver => {
                    is_turn_over = true;
                    break;
                }
                Given::End => break,
            };
            let place = self.taken;
            self.taken += 1;
            let start = batch.row.len();
            match self.pack(&task, &mut batch.row) {
                Ok(length) => {
                    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
                    if let Err(fault) = self.share.check(bytes) {
                        batch.row.truncate(start);
                        self.end([(place, 0, Err(CallError::from(fault).into()))]);
                        continue;
                    }
                    self.share.add(bytes);
                    let before = batch.row.len() - bytes;
                    if before > 0 && batch.row.len() > MOST_BYTES_AT_A_TIME {
                        // A message has room for one large task, but not for the tasks before it as well.
                        let large = batch.row.split_off(before);
                        self.hand_in(mem::take(&mut batch));
                        batch.row = large;
                    }
                    batch.lengths.push(length);
                    batch.places.push((place, bytes));
                    if batch.row.len() > MOST_BYTES_AT_A_TIME
                        || batch.places.len() == Row::MOST_TASKS
                    {
                        self.hand_in(mem::take(&mut batch));
                    }
                }
                Err(fault) => self.end([(place, 0, Err(fault.into()))]),
            }
        }
        self.hand_in(batch);
        is_turn_over
    }

    /// Appends a task to a row, and returns its bytes.
    fn pack(&self, task: &T, row: &mut Vec<u8>) -> Result<u32, TaskFault> {
        if self.feeder.number.is_none() && !tasks::tasks().has(T::NAME) {
            return Err(TaskFault::NotRegistered(T::NAME.to_owned()));
        }
        chunk::pack_one(task, row)
    }

    fn hand_in(&mut self, batch: Batch) {
        if let Some(first) = self.feeder.number_tasks(batch.places.len()) {
            self.on_their_way.extend((first..).zip(batch.places));
            let row = Row::new(batch.row.into(), batch.lengths);
            self.feeder.feed(first, T::NAME, row);
        }
    }

    /// Handles the outcomes of tasks. An error of the call becomes the outcome of all tasks in flight.
    fn take_in(&mut self, ended: Result<Vec<Ended>, TaskError>) {
        let outcomes: Vec<_> = match ended {
            Ok(ended) => ended
                .into_iter()
                .filter_map(|Ended { number, outcome }| {
                    let (place, bytes) = self.on_their_way.remove(&number)?;
                    let outcome = outcome.map_err(TaskError::from);
                    Some((
                        place,
                        bytes,
                        outcome.and_then(|row| chunk::unpack_one::<T>(&row)),
                    ))
                })
                .collect(),
            Err(error) => {
                let all = self.on_their_way.drain();
                all.map(|(_, (place, bytes))| (place, bytes, Err(error.clone())))
                    .collect()
            }
        };
        self.end(outcomes);
    }

    fn end(
        &mut self,
        outcomes: impl AsRef<[(usize, usize, Outcome<T>)]>
        + IntoIterator<Item = (usize, usize, Outcome<T>)>,
    ) {
        let each = outcomes.as_ref().iter();
        pool::tasks_ended(T::NAME, each.map(|(_, _, outcome)| outcome.as_ref()));
        for (place, bytes, outcome) in outcomes {
            self.outcomes.put(place, bytes, outcome);
        }
    }
}

/// Tasks that are submitted together.
#[derive(Default)]
struct Batch {
    row: Vec<u8>,
    lengths: Vec<u32>,
    /// The index and the bytes of each task.
    places: Vec<(usize, usize)>,
}

/// Outcomes that were not yielded yet, each with the bytes of its task.
enum Outcomes<T: Task> {
    /// In the order of the tasks, starting with the next one. Missing outcomes are `None`.
    Ordered {
        next: usize,
        line: VecDeque<Option<(usize, Outcome<T>)>>,
    },
    /// In the order of arrival.
    Unordered(VecDeque<(usize, Outcome<T>)>),
}

impl<T: Task> Outcomes<T> {
    fn put(&mut self, place: usize, bytes: usize, outcome: Outcome<T>) {
        match self {
            Self::Ordered { next, line } => {
                let ahead = place.saturating_sub(*next);
                if line.len() <= ahead {
                    line.resize_with(ahead + 1, || None);
                }
                if let Some(place) = line.get_mut(ahead) {
                    *place = Some((bytes, outcome));
                }
            }
            Self::Unordered(line) => line.push_back((bytes, outcome)),
        }
    }

    fn is_next_there(&self) -> bool {
        match self {
            Self::Ordered { line, .. } => line.front().is_some_and(Option::is_some),
            Self::Unordered(line) => !line.is_empty(),
        }
    }

    fn pop(&mut self) -> Option<(usize, Outcome<T>)> {
        if !self.is_next_there() {
            return None;
        }
        match self {
            Self::Ordered { next, line } => {
                *next += 1;
                line.pop_front().flatten()
            }
            Self::Unordered(line) => line.pop_front(),
        }
    }
}

/// The series as the queue knows it. Its drop leaves the series.
struct Feeder {
    entry: Entry,
    /// The number of the series, once it has a task.
    number: Option<u64>,
}

impl Feeder {
    /// Assigns numbers to `count` tasks, and returns the first; `None` if there are none.
    fn number_tasks(&mut self, count: usize) -> Option<u64> {
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        let queue = &self.entry.queue;
        self.number.get_or_insert_with(|| queue.reserve(1));
        Some(queue.reserve(count))
    }

    fn feed(&self, first: u64, task: &str, row: Row) {
        self.entry.queue.cast(Feed {
            series: self.number.unwrap_or_default(),
            first,
            task: task.to_owned(),
            row,
            retries: self.entry.retries,
        });
    }

    fn collect(&self) -> BoxFuture<'static, Result<Vec<Ended>, TaskError>> {
        let (entry, series) = (self.entry.clone(), self.number.unwrap_or_default());
        let collected = async move {
            let ended = entry.queue.call(Collect { series }).await;
            let mut ended = ended.map_err(|error| entry.deaths.error(error))?;
            for Ended { outcome, .. } in &mut ended {
                entry.deaths.explain(outcome).await;
            }
            Ok(ended)
        };
        collected.boxed()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if let Some(series) = self.number {
            self.entry.queue.cast(Leave { series });
        }
    }
}

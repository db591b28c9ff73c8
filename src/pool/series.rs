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
use lockkeeper_protocol::operations::{
    Collect, Ended, Feed, Row, TaskFault, TaskRule, outcome_bytes,
};
use rustc_hash::FxHashMap;

use crate::{
    error::CallError,
    pool::{
        ahead::{Order, Window},
        chunk::{self, Outcome},
        limited::LimitedSeries,
        room::Share,
        source::{Given, Source, poll_again},
        submit::Entry,
        task::Task,
        tasks,
    },
    task_error::TaskError,
    telemetry::pool,
};

/// The bytes of arguments after which a message takes no more tasks.
const MOST_BYTES_AT_A_TIME: usize = 1 << 20;

/// Runs tasks, with as many in flight as the window allows. Yields each outcome with the index of its task.
pub(super) fn series<T: Task, I: Iterator<Item = T>>(
    entry: Entry,
    tasks: I,
    window: Window,
    share: Share,
    order: Order,
) -> impl Stream<Item = (usize, Outcome<T>)> + use<T, I> {
    let mut series = Series {
        queue: LimitedSeries::new(entry, share),
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
        on_their_way: FxHashMap::default(),
        collecting: None,
    };
    stream::poll_fn(move |context| series.poll_next(context))
}

struct Series<T: Task, I: Iterator> {
    queue: LimitedSeries,
    tasks: Source<I>,
    window: Window,
    outcomes: Outcomes<T>,
    /// The number of tasks that were taken from the iterator.
    taken: usize,
    /// The number of outcomes that were yielded.
    yielded: usize,
    /// The tasks in flight, by their numbers: the index and the bytes of each.
    on_their_way: FxHashMap<u64, (usize, usize)>,
    collecting: Option<BoxFuture<'static, Result<Vec<Ended>, TaskError>>>,
}

impl<T: Task, I: Iterator<Item = T>> Series<T, I> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Outcome<T>)>> {
        loop {
            if let Some((place, held)) = self.outcomes.pop() {
                let Held {
                    arguments,
                    kept,
                    outcome,
                } = held;
                self.yielded += 1;
                self.queue.share.remove(arguments);
                self.queue.give_out(kept);
                return Poll::Ready(Some((place, outcome)));
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
            self.queue.release();
            let queue = &self.queue;
            let collecting = self.collecting.get_or_insert_with(|| collect(queue));
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
        while self
            .window
            .has_room(self.taken - self.yielded, &self.queue.share)
        {
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
            let rule = match self.queue.entry.rule_of(&task) {
                Ok(rule) => rule,
                Err(error) => {
                    self.fail(place, error);
                    continue;
                }
            };
            if batch.rule != rule {
                self.hand_in(mem::take(&mut batch));
                batch.rule = rule;
            }
            let start = batch.row.len();
            match self.pack(&task, &mut batch.row) {
                Ok(length) => {
                    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
                    if let Err(fault) = self.queue.share.check(bytes) {
                        batch.row.truncate(start);
                        self.fail(place, CallError::from(fault));
                        continue;
                    }
                    self.queue.share.add(bytes);
                    let before = batch.row.len() - bytes;
                    if before > 0 && batch.row.len() > MOST_BYTES_AT_A_TIME {
                        // A message has room for one large task, but not for the tasks before it as well.
                        let large = batch.row.split_off(before);
                        self.hand_in(mem::take(&mut batch));
                        batch.rule = rule;
                        batch.row = large;
                    }
                    batch.lengths.push(length);
                    batch.places.push((place, bytes));
                    if batch.row.len() > MOST_BYTES_AT_A_TIME
                        || batch.places.len() == Row::MOST_TASKS
                    {
                        self.hand_in(mem::take(&mut batch));
                        batch.rule = rule;
                    }
                }
                Err(fault) => self.fail(place, fault),
            }
        }
        self.hand_in(batch);
        is_turn_over
    }

    /// Appends a task to a row, and returns its bytes.
    fn pack(&self, task: &T, row: &mut Vec<u8>) -> Result<u32, TaskFault> {
        if !self.queue.is_begun() && !tasks::tasks().has(T::NAME) {
            return Err(TaskFault::NotRegistered(T::NAME.to_owned()));
        }
        chunk::pack_one(task, row)
    }

    fn hand_in(&mut self, batch: Batch) {
        let count = u64::try_from(batch.places.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return;
        }
        let series = self.queue.begin();
        let queue = &self.queue.entry.queue;
        let first = queue.reserve(count);
        self.on_their_way.extend((first..).zip(batch.places));
        queue.cast(Feed {
            series,
            first,
            task: T::NAME.to_owned(),
            row: Row::new(batch.row.into(), batch.lengths),
            rule: batch.rule,
        });
    }

    /// Handles the outcomes of tasks. An error of the call becomes the outcome of all tasks in flight.
    fn take_in(&mut self, ended: Result<Vec<Ended>, TaskError>) {
        let arrivals = self.queue.share.arrivals();
        let outcomes: Vec<_> = match ended {
            Ok(ended) => ended
                .into_iter()
                .filter_map(|Ended { number, outcome }| {
                    let (place, arguments) = self.on_their_way.remove(&number)?;
                    let kept = outcome_bytes(outcome.as_ref().map_err(AsRef::as_ref));
                    arrivals.add(kept);
                    let outcome = outcome.map_err(chunk::failed::<T>);
                    let held = Held {
                        arguments,
                        kept,
                        outcome: outcome.and_then(|row| chunk::unpack_one::<T>(&row)),
                    };
                    Some((place, held))
                })
                .collect(),
            Err(error) => {
                let all = self.on_their_way.drain();
                all.map(|(_, (place, arguments))| {
                    let outcome = Err(error.clone());
                    (place, Held::unqueued(arguments, outcome))
                })
                .collect()
            }
        };
        self.end(outcomes);
    }

    /// Ends a task that was not submitted.
    fn fail(&mut self, place: usize, error: impl Into<TaskError>) {
        self.end([(place, Held::unqueued(0, Err(error.into())))]);
    }

    fn end(
        &mut self,
        outcomes: impl AsRef<[(usize, Held<T>)]> + IntoIterator<Item = (usize, Held<T>)>,
    ) {
        let each = outcomes.as_ref().iter();
        pool::tasks_ended(T::NAME, each.map(|(_, held)| &held.outcome));
        for (place, held) in outcomes {
            self.outcomes.put(place, held);
        }
    }
}

/// Tasks that are submitted together.
#[derive(Default)]
struct Batch {
    /// The rule that they have in common.
    rule: Option<TaskRule>,
    row: Vec<u8>,
    lengths: Vec<u32>,
    /// The index and the bytes of each task.
    places: Vec<(usize, usize)>,
}

/// An outcome that was not yielded yet.
struct Held<T: Task> {
    /// The bytes of the task's arguments.
    arguments: usize,
    /// The bytes that the queue counts for the outcome; zero if the outcome did not come from the queue.
    kept: usize,
    outcome: Outcome<T>,
}

impl<T: Task> Held<T> {
    const fn unqueued(arguments: usize, outcome: Outcome<T>) -> Self {
        Self {
            arguments,
            kept: 0,
            outcome,
        }
    }
}

/// Outcomes that were not yielded yet.
enum Outcomes<T: Task> {
    /// In the order of the tasks, starting with the next one. Missing outcomes are `None`.
    Ordered {
        next: usize,
        line: VecDeque<Option<Held<T>>>,
    },
    /// In the order of arrival.
    Unordered(VecDeque<(usize, Held<T>)>),
}

impl<T: Task> Outcomes<T> {
    fn put(&mut self, place: usize, held: Held<T>) {
        match self {
            Self::Ordered { next, line } => {
                let ahead = place.saturating_sub(*next);
                if line.len() <= ahead {
                    line.resize_with(ahead + 1, || None);
                }
                if let Some(place) = line.get_mut(ahead) {
                    *place = Some(held);
                }
            }
            Self::Unordered(line) => line.push_back((place, held)),
        }
    }

    fn is_next_there(&self) -> bool {
        match self {
            Self::Ordered { line, .. } => line.front().is_some_and(Option::is_some),
            Self::Unordered(line) => !line.is_empty(),
        }
    }

    /// Takes the next outcome, with the index of its task.
    fn pop(&mut self) -> Option<(usize, Held<T>)> {
        if !self.is_next_there() {
            return None;
        }
        match self {
            Self::Ordered { next, line } => {
                let place = *next;
                *next += 1;
                Some((place, line.pop_front().flatten()?))
            }
            Self::Unordered(line) => line.pop_front(),
        }
    }
}

/// Collects outcomes of a series that has had a task.
fn collect(series: &LimitedSeries) -> BoxFuture<'static, Result<Vec<Ended>, TaskError>> {
    let (entry, series) = (series.entry.clone(), series.number());
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

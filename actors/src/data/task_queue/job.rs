//! The jobs of the task queue: a single chunk, or a run of tasks of one series.
//!
//! Tasks of a series that were submitted together share one entry until some of them are delivered,
//! finished or returned, so most tasks need no step of their own.

use std::rc::Rc;

use lockkeeper_protocol::{
    CallId, JobId,
    operations::{Chunk, ChunkOutcome, Feed, Row, TaskName, TaskRule},
};

use crate::{
    kind::{
        budget::{CALL_BYTES, StoredBytes},
        call::Call,
    },
    waiting::call_table::Parked,
};

/// A chunk, or tasks of a series with consecutive ids, with all data to run them again: their worker may end,
/// or may never see that it has them.
#[derive(Debug)]
pub(super) struct Pending {
    /// The id of the chunk, or of the first task.
    pub(super) id: JobId,
    pub(super) submitter: Submitter,
    /// The name, which all tasks of one submission share.
    pub(super) task: TaskName,
    pub(super) row: Row,
    pub(super) stored: StoredBytes,
    pub(super) rule: Option<Rc<TaskRule>>,
    /// The number of attempts that have failed.
    pub(super) attempts: u32,
    /// Whether the submitter has killed it. Then it is not given out any more.
    pub(super) is_killed: bool,
    /// The number of tasks of its series that were submitted before it.
    pub(super) position: u64,
    /// The turn that the backlog gave it.
    pub(super) turn: Turn,
}

/// The position of a waiting job among all waiting jobs: the least is first.
pub(super) type Turn = i64;

/// The receiver of a job's outcome.
#[derive(Debug)]
pub(super) enum Submitter {
    /// The call that submitted the chunk, and the series whose limit includes the outcome.
    Caller {
        call: Call<ChunkOutcome>,
        series: Option<CallId>,
    },
    /// The series of the tasks, and the submitter's number of the first task.
    Series { series: CallId, first: u64 },
}

/// The bytes that a job counts: its arguments, the name of its task, and the queue's own data.
pub(super) const fn bytes_of(task: &str, arguments: usize) -> usize {
    arguments + task.len() + CALL_BYTES
}

impl Pending {
    /// A chunk, with its series and its position in it, if that has a limit.
    pub(super) fn chunk(
        chunk: Chunk,
        rule: Option<TaskRule>,
        call: Call<ChunkOutcome>,
        place: Option<(CallId, u64)>,
        stored: StoredBytes,
    ) -> Self {
        let (series, position) = place.unzip();
        Self {
            id: call.id().into(),
            submitter: Submitter::Caller { call, series },
            task: chunk.task.into(),
            row: Row::of_one(chunk.arguments),
            stored,
            rule: rule.map(Rc::new),
            attempts: 0,
            is_killed: false,
            position: position.unwrap_or_default(),
            turn: 0,
        }
    }

    /// Tasks of a series, with the id of the first one and its position in the series.
    pub(super) fn tasks(
        feed: Feed,
        series: CallId,
        (id, position): (JobId, u64),
        stored: StoredBytes,
    ) -> Self {
        let first = feed.first;
        Self {
            id,
            submitter: Submitter::Series { series, first },
            task: feed.task.into(),
            row: feed.row,
            stored,
            rule: feed.rule.map(Rc::new),
            attempts: 0,
            is_killed: false,
            position,
            turn: 0,
        }
    }

    /// The time limit of each task, in nanoseconds.
    pub(super) fn limit(&self) -> Option<u64> {
        let micros = self.rule.as_ref()?.limit?;
        Some(micros.saturating_mul(1000))
    }

    pub(super) fn call(&self) -> Option<&Call<ChunkOutcome>> {
        match &self.submitter {
            Submitter::Caller { call, .. } => Some(call),
            Submitter::Series { .. } => None,
        }
    }

    /// The series whose limit includes its outcome.
    pub(super) const fn series(&self) -> Option<CallId> {
        match &self.submitter {
            Submitter::Caller { series, .. } => *series,
            Submitter::Series { series, .. } => Some(*series),
        }
    }

    /// The receiver of its outcome: the call that submitted it, or the series.
    pub(super) fn told(&self) -> CallId {
        match &self.submitter {
            Submitter::Caller { call, .. } => call.id(),
            Submitter::Series { series, .. } => *series,
        }
    }

    /// Takes the first task of a series. Returns the series, the number of the task and its counted bytes.
    pub(super) fn pop_front(&mut self) -> Option<(CallId, u64, StoredBytes)> {
        let Submitter::Series { series, first } = &mut self.submitter else {
            return None;
        };
        let (series, number) = (*series, *first);
        *first = first.wrapping_add(1);
        let bytes = self.row.bytes();
        drop(self.row.pop_front());
        let stored = self.stored.split(bytes - self.row.bytes());
        self.id = self.id.plus(1);
        self.position = self.position.wrapping_add(1);
        Some((series, number, stored))
    }

    /// Splits off the first tasks of a series: at least one, and at most `most` tasks or `most_bytes` bytes.
    /// The second part is what is left, if anything. A chunk is never split.
    pub(super) fn split(self, most: usize, most_bytes: usize) -> (Self, Option<Self>) {
        let count = self.row.fit(most, most_bytes).max(1);
        self.split_at(count)
    }

    /// Splits off the first `count` tasks, regardless of their bytes.
    pub(super) fn split_at(self, count: usize) -> (Self, Option<Self>) {
        let Submitter::Series { series, first } = self.submitter else {
            return (self, None);
        };
        let mut rest = self;
        let row = rest.row.split_front(count);
        let count = row.len();
        let stored = rest.stored.split(row.bytes());
        let front = Self {
            id: rest.id,
            submitter: Submitter::Series { series, first },
            task: rest.task.clone(),
            row,
            stored,
            rule: rest.rule.clone(),
            attempts: rest.attempts,
            is_killed: rest.is_killed,
            position: rest.position,
            turn: rest.turn,
        };
        rest.id = rest.id.plus(count);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        rest.position = rest.position.wrapping_add(count);
        // The submitter chooses the numbers, so they may overflow.
        let first = first.wrapping_add(count);
        rest.submitter = Submitter::Series { series, first };
        (front, (!rest.row.is_empty()).then_some(rest))
    }
}

impl Parked for Pending {
    fn id(&self) -> CallId {
        self.id.into()
    }
}

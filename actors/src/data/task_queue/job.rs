//! The jobs of the task queue: a single chunk, or a run of tasks of one series.
//!
//! Tasks of a series that were submitted together share one entry until some of them are delivered,
//! finished or returned, so most tasks need no step of their own.

use lockkeeper_protocol::{
    CallId, JobId,
    operations::{ChunkOutcome, Row, TaskName},
};

use crate::{
    kind::{budget::Stored, call::Call},
    waiting::call_table::Parked,
};

/// A chunk, or some tasks of a series whose ids count up, with all that it takes to run them: their
/// worker may end, or may never see that it has them.
#[derive(Debug)]
pub(super) struct Pending {
    /// That of the chunk, or of the first of the tasks.
    pub(super) id: JobId,
    pub(super) submitter: Submitter,
    /// The tasks that were submitted together share their name.
    pub(super) task: TaskName,
    pub(super) row: Row,
    pub(super) stored: Stored,
    pub(super) retries: u32,
    /// How many workers have died of it.
    pub(super) deaths: u32,
}

/// Who is told what became of a job.
#[derive(Debug)]
pub(super) enum Submitter {
    /// The call that submitted the chunk.
    Caller(Call<ChunkOutcome>),
    /// The series that the tasks belong to, and what its submitter calls the first of them.
    Series { series: CallId, first: u64 },
}

impl Pending {
    pub(super) fn call(&self) -> Option<&Call<ChunkOutcome>> {
        match &self.submitter {
            Submitter::Caller(call) => Some(call),
            Submitter::Series { .. } => None,
        }
    }

    /// Who is told of its outcome: the call that submitted it, or the series.
    pub(super) fn told(&self) -> CallId {
        match &self.submitter {
            Submitter::Caller(call) => call.id(),
            Submitter::Series { series, .. } => *series,
        }
    }

    /// Takes the first task of a series. Gives the series, the number of the task and what is stored of it.
    pub(super) fn pop_front(&mut self) -> Option<(CallId, u64, Stored)> {
        let Submitter::Series { series, first } = &mut self.submitter else {
            return None;
        };
        let (series, number) = (*series, *first);
        *first = first.wrapping_add(1);
        let bytes = self.row.bytes();
        drop(self.row.pop_front());
        let stored = self.stored.split(bytes - self.row.bytes());
        self.id = self.id.plus(1);
        Some((series, number, stored))
    }

    /// Takes the first tasks of a series: so many, but at least one, and more only if they fit in so
    /// many bytes. The rest is left, if there is any; a chunk is whole.
    pub(super) fn split(self, most: usize, most_bytes: usize) -> (Self, Option<Self>) {
        let count = self.row.fit(most, most_bytes).max(1);
        self.split_at(count)
    }

    /// The same, whatever bytes they have.
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
            retries: rest.retries,
            deaths: rest.deaths,
        };
        rest.id = rest.id.plus(count);
        // The numbers are the submitter's, which may have chosen ones that do not suffice.
        let first = first.wrapping_add(u64::try_from(count).unwrap_or(u64::MAX));
        rest.submitter = Submitter::Series { series, first };
        (front, (!rest.row.is_empty()).then_some(rest))
    }
}

impl Parked for Pending {
    fn id(&self) -> CallId {
        self.id.into()
    }
}

//! The jobs of the task queue: a single chunk, or a run of tasks of one series.
//!
//! Tasks of a series that were submitted together share one entry until some of them are delivered,
//! finished or returned, so most tasks need no step of their own.

use lockkeeper_protocol::{
    CallId,
    operations::{ChunkOutcome, Row},
};

use crate::{kind::call::Call, waiting::call_table::Parked};

/// A chunk, or some tasks of a series whose ids count up, with all that it takes to run them: their
/// worker may end, or may never see that it has them.
#[derive(Debug)]
pub(super) struct Pending {
    /// That of the chunk, or of the first of the tasks.
    pub(super) id: CallId,
    pub(super) submitter: Submitter,
    pub(super) task: String,
    pub(super) row: Row,
    pub(super) retries: u32,
    /// How many workers have died of it.
    pub(super) deaths: u32,
}

/// Who is told what became of a job.
#[derive(Debug)]
pub(super) enum Submitter {
    /// The call that submitted the chunk.
    Caller(Call<ChunkOutcome>),
    /// The series that the tasks belong to.
    Series(CallId),
}

impl Pending {
    pub(super) fn call(&self) -> Option<&Call<ChunkOutcome>> {
        match &self.submitter {
            Submitter::Caller(call) => Some(call),
            Submitter::Series(_) => None,
        }
    }

    /// Takes the first tasks of a series: so many, but at least one, and more only if they fit in so
    /// many bytes. The rest is left, if there is any; a chunk is whole.
    pub(super) fn split(self, most: usize, most_bytes: usize) -> (Self, Option<Self>) {
        let Submitter::Series(series) = self.submitter else {
            return (self, None);
        };
        let mut rest = self;
        let mut row = rest.row.split_front(most, most_bytes);
        if row.is_empty() {
            row = rest.row.split_front(1, usize::MAX);
        }
        let first = Self {
            id: rest.id,
            submitter: Submitter::Series(series),
            task: rest.task.clone(),
            row,
            retries: rest.retries,
            deaths: rest.deaths,
        };
        rest.id = rest.id.plus(first.row.len());
        (first, (!rest.row.is_empty()).then_some(rest))
    }
}

impl Parked for Pending {
    fn id(&self) -> CallId {
        self.id
    }
}

/// What a worker was given at once, without what it has finished.
#[derive(Debug)]
pub(super) struct Taken {
    /// The call for work that it answered.
    pub(super) by: CallId,
    /// The first, and how many there are.
    pub(super) id: CallId,
    pub(super) count: usize,
    /// Empty once nobody waits for the outcome: the worker may be running it all the same.
    pub(super) job: Option<Pending>,
}

impl Taken {
    /// Which one of them a job is.
    pub(super) fn place_of(&self, job: CallId) -> Option<usize> {
        let place = usize::try_from(job.seq().checked_sub(self.id.seq())?).ok()?;
        (place < self.count && self.id.plus(place) == job).then_some(place)
    }

    /// Parts the first ones from the others, of which there are some.
    pub(super) fn split(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.job.map(|job| job.split(count, usize::MAX)).unzip();
        let first = Self {
            by: self.by,
            id: self.id,
            count,
            job: first,
        };
        let rest = Self {
            by: self.by,
            id: self.id.plus(count),
            count: self.count.saturating_sub(count),
            job: rest.flatten(),
        };
        (first, rest)
    }
}

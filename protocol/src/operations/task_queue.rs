//! The operations of the task queue of a pool: arguments, replies and the status.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use crate::{
    codec::{blob::Blob, short::short_list},
    ids::JobId,
    operation::Operation,
    operations::{
        task_outcome::{ChunkOutcome, JobOutcome, TaskFault},
        task_row::Row,
        task_rule::TaskRule,
    },
};

/// Submits a chunk of tasks, and waits for its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// The tasks to run.
    pub chunk: Chunk,
    /// The time limit and the retries of a single task, if it has any. A chunk of several tasks has none.
    pub rule: Option<TaskRule>,
    /// The number of a series. If that has a limit, the chunk is one of its tasks; see [`LimitSeries`].
    pub series: Option<u64>,
}

/// Submits tasks of a series, each of which runs by itself.
///
/// A series is many tasks of one submitter, which collects their outcomes as they arrive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    /// The number of the series, which the session does not reuse.
    pub series: u64,
    /// The submitter's number for the first task. The other tasks have consecutive numbers.
    pub first: u64,
    /// The name of the tasks.
    pub task: String,
    /// The arguments of each task, encoded as those of a chunk of one task.
    pub row: Row,
    /// The time limit and the retries of each task, if they have any.
    pub rule: Option<TaskRule>,
}

/// Begins a series and limits the outcomes that are kept for it.
///
/// An outcome is kept until its submitter has released it, also after it was collected. The queue gives out the
/// tasks of the series in order of submission. At the limit it gives out only a task whose position in the series,
/// counted from 0, is at most the number of released outcomes, so that a submitter that needs the outcomes in order
/// gets the next one. A closed queue runs all tasks regardless.
#[derive(Debug, Serialize, Deserialize)]
pub struct LimitSeries {
    /// The number of the series, which the session does not reuse.
    pub series: u64,
    /// The bytes of outcomes from which no further task is given to a worker, as
    /// [`outcome_bytes`](crate::operations::outcome_bytes) counts them.
    pub most: u64,
}

/// Releases outcomes of a series with a limit.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleaseOutcomes {
    /// The number of the series.
    pub series: u64,
    /// The bytes of the outcomes, as [`outcome_bytes`](crate::operations::outcome_bytes) counts
    /// them.
    pub bytes: u64,
    /// The number of the outcomes.
    pub count: u64,
}

/// Waits for outcomes of a series, and takes all that have arrived. Another call for the same series, or its
/// [`Leave`], ends the wait with [`Fault::Withdrawn`](crate::Fault::Withdrawn).
#[derive(Debug, Serialize, Deserialize)]
pub struct Collect {
    /// The number of the series.
    pub series: u64,
}

/// The outcome of a task of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The number of the task.
    pub number: u64,
    /// The outcome, encoded as that of a chunk of one task.
    pub outcome: ChunkOutcome,
}

/// Ends a series. Tasks that no worker has taken do not run. The calls that submitted chunks among them fail with
/// [`Fault::Withdrawn`](crate::Fault::Withdrawn).
#[derive(Debug, Serialize, Deserialize)]
pub struct Leave {
    /// The number of the series.
    pub series: u64,
}

/// Tasks that run together. Only their submitter and their worker decode them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The name of the task.
    pub task: String,
    /// The arguments of each task.
    pub arguments: Blob,
}

/// Reports a finished job, and asks for work. The answer is empty if there will be no more work.
///
/// A worker without a job waits until there is one. A worker with jobs is answered at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Next {
    /// The job that the worker has finished.
    pub finished: Option<Finished>,
    /// The most jobs that it takes, at least one.
    pub most: u32,
}

/// Reports a finished job, without asking for work.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The id of the job.
    pub job: JobId,
    /// The outcome of the job.
    pub outcome: JobOutcome,
}

/// Reports several finished jobs in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reports(
    /// The reports, at most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ Reports::MOST }, _, Finished, _>")]
    pub Vec<Finished>,
);

impl Reports {
    /// The most reports of one call: more than a session reads from a report pipe in one turn.
    pub const MOST: usize = 1 << 16;
}

/// Returns jobs that have not begun, so that other workers can run them.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandBack {
    /// The jobs in the order in which they were received, at most [`Self::MOST`].
    #[serde(deserialize_with = "short_list::<{ HandBack::MOST }, _, JobId, _>")]
    pub jobs: Vec<JobId>,
}

impl HandBack {
    /// The most jobs of one call, because each is found and returned by itself.
    pub const MOST: usize = 1 << 12;
}

/// Closes the queue to further tasks. Submitted tasks still run, unless there is a reason not to.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseTasks {
    /// The fault of all unfinished tasks; `None` lets them finish.
    pub reason: Option<TaskFault>,
}

/// Closes the queue, and gives back each task that no worker runs: it ends with [`TaskFault::NotRun`], now or once its
/// worker hands it back. A task that waits for another attempt ends with [`TaskFault::Terminated`], and no further
/// attempt is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DrainTasks;

/// Fails the tasks that wait for a worker, because there is no worker. Later tasks are accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailTasks {
    /// The fault of these tasks.
    pub reason: TaskFault,
}

/// Tells the process id of a worker. A worker whose process is unknown is not killed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enlist {
    /// The process id, as the pool sees it.
    pub pid: u32,
}

/// Kills a task that a call of this session has submitted.
///
/// A task that no worker has taken is withdrawn. If a worker runs it, the queue asks for the end of the worker
/// ([`Tend`]). In both cases its outcome is [`TaskFault::Killed`], unless it already has one.
#[derive(Debug, Serialize, Deserialize)]
pub struct KillTask {
    /// The number of the call.
    pub call: u64,
}

/// Does what is due by now: gives out tasks whose pause before a retry is over, and finds the workers whose tasks
/// are over their limits or killed.
///
/// The queue has no clock between calls, so the supervisor of the workers calls when something becomes due. The
/// call waits until there are workers to kill, or something becomes due before the caller would call by itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tend {
    /// The time at which the caller calls again in any case, as [`Due::at`] gave it.
    pub returns_at: Option<u64>,
}

/// The answer to [`Tend`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tended {
    /// The process ids of the workers to kill.
    pub kill: Vec<u32>,
    /// When the next thing is due.
    pub next: Option<Due>,
}

/// The time at which something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The time by the clock of the manager, in microseconds.
    pub at: u64,
    /// The time until then, in microseconds.
    pub micros: u64,
}

/// Asks which task each worker runs, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ListRunning;

/// A task that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The process id of the worker; 0 if it is unknown.
    pub pid: u32,
    /// The name of the task; `None` if its submitter does not wait for it any more.
    pub task: Option<TaskName>,
    /// The time since it began, in microseconds.
    pub micros: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetTaskQueueStatus;

/// The name of a task, shared by all jobs that were submitted together.
pub type TaskName = Arc<str>;

/// The work of a worker: one chunk, or tasks of a series that each run by itself.
///
/// It is sent as a list of three elements. The attempt follows as a fourth one if it is not the first.
#[derive(Debug)]
pub struct Job {
    /// The id of the chunk, or of the first task. The other tasks have consecutive ids.
    pub id: JobId,
    /// The name of the task.
    pub task: TaskName,
    /// The arguments of each task.
    pub row: Row,
    /// The number of this attempt, from 1.
    pub attempt: u32,
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_again = self.attempt > 1;
        let mut elements = serializer.serialize_tuple(3 + usize::from(is_again))?;
        elements.serialize_element(&self.id)?;
        elements.serialize_element(&self.task)?;
        elements.serialize_element(&self.row)?;
        if is_again {
            elements.serialize_element(&self.attempt)?;
        }
        elements.end()
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(JobVisitor)
    }
}

struct JobVisitor;

impl<'de> Visitor<'de> for JobVisitor {
    type Value = Job;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job of three or four elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Job, A::Error> {
        let missing = |place| move || A::Error::invalid_length(place, &Self);
        Ok(Job {
            id: elements.next_element()?.ok_or_else(missing(0))?,
            task: elements.next_element()?.ok_or_else(missing(1))?,
            row: elements.next_element()?.ok_or_else(missing(2))?,
            attempt: elements.next_element()?.unwrap_or(1),
        })
    }
}

impl Job {
    /// Splits the job into single tasks, each with its id and its encoded arguments.
    pub fn each(self) -> impl Iterator<Item = (JobId, Blob)> {
        let Self { id, mut row, .. } = self;
        (0..).map_while(move |place| Some((id.plus(place), row.pop_front()?)))
    }
}

/// The state of the queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskQueueStatus {
    /// The number of tasks that wait for a worker.
    pub waiting: u64,
    /// The number of tasks that workers have, including those whose submitter is gone. Each worker runs the
    /// first of its tasks.
    pub running: u64,
    /// The number of workers that wait for a task.
    pub idle: u64,
}

impl Operation for Submit {
    const NAME: &'static str = "submit";
    type Reply = ChunkOutcome;
}

impl Operation for Feed {
    const NAME: &'static str = "feed";
    type Reply = ();
}

impl Operation for Collect {
    const NAME: &'static str = "collect";
    type Reply = Vec<Ended>;
}

impl Operation for Leave {
    const NAME: &'static str = "leave";
    type Reply = ();
}

impl Operation for LimitSeries {
    const NAME: &'static str = "limit";
    type Reply = ();
}

impl Operation for ReleaseOutcomes {
    const NAME: &'static str = "release";
    type Reply = ();
}

impl Operation for Next {
    const NAME: &'static str = "next";
    type Reply = Option<Vec<Job>>;
}

impl Operation for Finished {
    const NAME: &'static str = "finished";
    type Reply = ();
}

impl Operation for Reports {
    const NAME: &'static str = "reports";
    type Reply = ();
}

impl Operation for HandBack {
    const NAME: &'static str = "hand_back";
    type Reply = ();
}

impl Operation for CloseTasks {
    const NAME: &'static str = "close";
    type Reply = ();
}

impl Operation for DrainTasks {
    const NAME: &'static str = "drain";
    type Reply = ();
}

impl Operation for FailTasks {
    const NAME: &'static str = "fail";
    type Reply = ();
}

impl Operation for GetTaskQueueStatus {
    const NAME: &'static str = "status";
    type Reply = TaskQueueStatus;
}

impl Operation for Enlist {
    const NAME: &'static str = "enlist";
    type Reply = ();
}

impl Operation for KillTask {
    const NAME: &'static str = "kill";
    type Reply = ();
}

impl Operation for Tend {
    const NAME: &'static str = "tend";
    type Reply = Tended;
}

impl Operation for ListRunning {
    const NAME: &'static str = "running";
    type Reply = Vec<Running>;
}

//! `JobBuffer`: the tasks that a worker has received but not begun.
//!
//! A worker requests as many tasks as it runs in a short time, and requests the next ones before it begins
//! these. It reports each finished task before it begins another, so the queue knows which task was running
//! when a worker dies. It writes these reports to the report pipe, which the session reads at the next
//! request or at the worker's end. Long tasks are requested one at a time.
//!
//! Invariant: no task in the buffer has begun. When the current task runs long, a thread returns the
//! buffer to the queue and flushes the report pipe, even if the task blocks its own thread.

use std::{
    collections::VecDeque,
    future, mem,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::{
    JobId,
    codec::Blob,
    operations::{Finished, GetTaskQueueStatus, HandBack, Job, Next, Reports},
};
use lockkeeper_sys::Private;
use tokio::sync::Notify;

use crate::{
    background::background, client::side_channel::ReportPipeWriter, error::CallError,
    process::stop, proxy::proxy::Proxy,
};

/// The time for which one batch of jobs is to keep a worker busy.
const A_MOMENT: Duration = Duration::from_micros(200);

/// The most jobs of one batch.
const MOST_JOBS: u32 = 64;

/// The time of a task after which the buffer is returned to the queue.
const PATIENCE: Duration = Duration::from_millis(2);

/// A larger outcome, in bytes, may be refused for lack of room. It is reported by a call, because a cast has
/// no answer.
const LARGE_BYTES: usize = 1 << 15;

/// The jobs that a worker was given and has not begun.
pub(super) struct JobBuffer {
    queue: Proxy<TaskQueue>,
    state: Mutex<State>,
    /// Notified when the buffer has jobs that may have to be returned.
    filled: Notify,
}

/// A unit of work: a chunk, or a task of a series.
#[derive(Debug)]
pub(super) struct Todo {
    pub(super) id: JobId,
    pub(super) task: Arc<str>,
    pub(super) arguments: Blob,
    /// The number of this attempt, from 1.
    pub(super) attempt: u32,
}

fn each(job: Job) -> impl Iterator<Item = Todo> {
    let (task, attempt) = (Arc::clone(&job.task), job.attempt);
    job.each().map(move |(id, arguments)| Todo {
        id,
        task: Arc::clone(&task),
        arguments,
        attempt,
    })
}

/// The answer to a request for work; `None` if there will be no more.
type Work = Result<Option<Vec<Job>>, CallError>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Todo>,
    /// The pipe for reports that another request will follow, if this worker has one.
    report_pipe: Option<ReportPipeWriter>,
    /// Whether the pipe may contain reports that the manager has not been told to read.
    is_untold: bool,
    /// The request for the next batch.
    more: Option<BoxFuture<'static, Work>>,
    /// The number of jobs that were begun.
    begun: u64,
    /// Whether the background task measures how long the current task takes.
    is_watched: bool,
}

impl State {
    /// Writes a report into the report pipe. Returns whether it fitted.
    fn lay(&mut self, report: &Finished) -> bool {
        let bytes = report.outcome.bytes();
        let report_pipe = self
            .report_pipe
            .as_mut()
            .filter(|_| ReportPipeWriter::may_take(bytes));
        let is_laid = report_pipe.is_some_and(|report_pipe| report_pipe.put(report));
        self.is_untold |= is_laid;
        is_laid
    }
}

/// The measured speed of a worker.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time at which the worker got its current batch, and the size of that batch.
    given: (Instant, u32),
    /// The number of jobs that it requests.
    most: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            given: (Instant::now(), 0),
            most: 1,
        }
    }

    /// Records that the current batch is done.
    fn is_done(&mut self) {
        let (since, jobs) = self.given;
        if jobs > 0 {
            let each = since.elapsed() / jobs;
            let fit = A_MOMENT.as_nanos() / each.as_nanos().max(1);
            let fit = u32::try_from(fit).unwrap_or(u32::MAX);
            // A single short task may be an exception, so the number grows by at most a factor of four.
            self.most = fit.min(self.most.saturating_mul(4)).clamp(1, MOST_JOBS);
        }
        self.given.1 = 0;
    }

    fn is_given(&mut self, jobs: usize) {
        self.given = (Instant::now(), u32::try_from(jobs).unwrap_or(u32::MAX));
    }
}

impl JobBuffer {
    pub(super) async fn new(queue: Proxy<TaskQueue>, pipe: Option<Private<OwnedFd>>) -> Arc<Self> {
        let report_pipe = match pipe {
            Some(pipe) => queue.report_pipe::<Reports>(pipe).await,
            None => None,
        };
        let state = State {
            report_pipe,
            ..State::default()
        };
        let buffer = Arc::new(Self {
            queue,
            state: state.into(),
            filled: Notify::new(),
        });
        drop(background().spawn(watch(Arc::clone(&buffer))));
        buffer
    }

    /// Reports a job, and takes the next one. Returns `None` if there will be no more.
    pub(super) async fn next(
        &self,
        mut finished: Option<Finished>,
        pace: &mut Pace,
    ) -> Result<Option<Todo>, CallError> {
        let has_large = finished.as_ref().is_some_and(is_large);
        // A series may be at its limit of outcomes, so the queue has to decide anew about its jobs. If the pool is
        // drained, the queue gives them back to their submitters.
        if has_large || stop::is_asked() {
            self.hand_back();
        }
        let (next, more) = self.take(&mut finished);
        if let Some(job) = next {
            self.report(finished).await?;
            return Ok(Some(job));
        }
        pace.is_done();
        if has_large {
            pace.most = 1;
        }
        let mut jobs = Vec::new();
        if let Some(more) = more {
            self.report(finished.take()).await?;
            jobs = match more.await {
                Ok(more) => more.unwrap_or_default(),
                Err(error) if error.lacks_room() => Vec::new(),
                Err(error) => return Err(error),
            };
        }
        // The queue gives no jobs until it knows that some were returned.
        loop {
            let todo: VecDeque<Todo> = jobs.into_iter().flat_map(each).collect();
            let given = todo.len();
            if let Some(job) = self.fill(todo, pace.most) {
                pace.is_given(given);
                return Ok(Some(job));
            }
            let next = Next {
                finished: finished.take(),
                most: pace.most,
            };
            let Some(given) = self.queue.call_patiently(&next).await? else {
                return Ok(None);
            };
            jobs = given;
        }
    }

    /// Takes the next job, or the request for the next batch if there is none. In the same step it writes the
    /// report on the last job into the report pipe, if it fits, because the next job may take long.
    fn take(
        &self,
        finished: &mut Option<Finished>,
    ) -> (Option<Todo>, Option<BoxFuture<'static, Work>>) {
        let mut state = self.lock();
        if state.jobs.is_empty() {
            return (None, state.more.take());
        }
        drop(finished.take_if(|report| state.lay(report)));
        state.begun += 1;
        (state.jobs.pop_front(), None)
    }

    /// Reports a job before the next one begins. Bytes that the socket has taken reach the queue even if this
    /// process dies. While the socket is full, the answer to another call confirms it. If the connection has
    /// ended, that call fails, and the next job does not begin: the queue has given it to another worker.
    async fn report(&self, finished: Option<Finished>) -> Result<(), CallError> {
        if let Some(finished) = finished {
            if is_large(&finished) {
                return self.queue.call_patiently(&finished).await;
            }
            self.queue.cast(finished);
            if !self.queue.has_sent_all() {
                self.queue.call_patiently(&GetTaskQueueStatus).await?;
            }
        }
        Ok(())
    }

    /// Begins the first of the jobs, stores the others, and requests the next batch, all in one step, so that
    /// the first job is not returned.
    fn fill(&self, mut jobs: VecDeque<Todo>, most: u32) -> Option<Todo> {
        let first = jobs.pop_front()?;
        let mut state = self.lock();
        state.begun += 1;
        state.jobs = jobs;
        if most > 1 {
            let (queue, finished) = (self.queue.clone(), None);
            let mut more = async move { queue.call(Next { finished, most }).await }.boxed();
            state.is_untold = false;
            // The first poll sends the request.
            let context = &mut Context::from_waker(Waker::noop());
            state.more = Some(match more.poll_unpin(context) {
                Poll::Ready(work) => future::ready(work).boxed(),
                Poll::Pending => more,
            });
        }
        let is_filled = !state.jobs.is_empty() || state.more.is_some();
        if is_filled && !mem::replace(&mut state.is_watched, true) {
            self.filled.notify_one();
        }
        Some(first)
    }

    /// Returns all jobs that have not begun, and tells the manager to read the report pipe.
    pub(super) fn hand_back(&self) {
        self.hand_back_of(&mut self.lock());
    }

    fn hand_back_of(&self, state: &mut State) {
        let jobs = mem::take(&mut state.jobs);
        // The drop withdraws the request, so the queue takes back the jobs of its answer.
        drop(state.more.take());
        let is_untold = mem::take(&mut state.is_untold);
        if !jobs.is_empty() || is_untold {
            let jobs = jobs.into_iter().map(|job| job.id).collect();
            self.queue.cast(HandBack { jobs });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all jobs to the queue if no job has begun since the count was `last`. In either case it tells
    /// the manager of reports in the pipe. Returns the count while the watch has to continue.
    fn look(&self, last: Option<u64>) -> Option<u64> {
        let mut state = self.lock();
        if last != Some(state.begun) {
            // Several short jobs in a row may take long, too.
            if mem::take(&mut state.is_untold) {
                self.queue.cast(HandBack { jobs: Vec::new() });
            }
            return Some(state.begun);
        }
        // The next `put` starts another watch.
        state.is_watched = false;
        self.hand_back_of(&mut state);
        None
    }
}

fn is_large(finished: &Finished) -> bool {
    finished.outcome.bytes() > LARGE_BYTES
}

/// Watches how long tasks take while the buffer has jobs to return.
async fn watch(buffer: Arc<JobBuffer>) {
    loop {
        buffer.filled.notified().await;
        let mut begun = None;
        loop {
            begun = buffer.look(begun);
            if begun.is_none() {
                break;
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

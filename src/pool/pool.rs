//! `Pool`: runs tasks in worker processes of the same program.
//!
//! A pool hosts a manager on a thread of its own. The manager has no path: the pool gives it the streams to
//! its workers. [`TaskQueue`] is the protocol between the pool and its workers. Each submitted chunk is a
//! call, so dropping its future withdraws it. The end of a worker's session returns the worker's chunks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use actix::Addr;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lockkeeper_protocol::operations::{CloseTasks, GetTaskQueueStatus, ListRunning};
use lockkeeper_sys::OnlyHere;
use tokio::sync::oneshot;

use crate::{
    background::drop_elsewhere,
    error::CallError,
    pool::{
        ahead::{Order, Window, ahead},
        forked::{forked, outcomes_here},
        handle::TaskHandle,
        limited::LimitedSeries,
        room::Share,
        series::series,
        source::Chunks,
        status::{PoolStatus, RunningTask},
        submit::{Entry, apply, submit},
        supervisor::{Join, Missing, Pids, PoolSupervisor},
        task::Task,
    },
    task_error::TaskError,
};

/// A number of worker processes that run tasks. Counterpart of Python's `multiprocessing.Pool`.
///
/// Unlike in Python, a killed worker fails only the task that it ran, and is replaced; nothing hangs. If the
/// pool is dropped, or if this process ends, its tasks fail and its workers are killed.
///
/// A pool belongs to the process that created it. In a forked child its calls fail with
/// [`CallError::Forked`], and its drop does nothing.
///
/// ```no_run
/// # use lockkeeper::{Pool, Task};
/// # async fn run<T: Task>(tasks: Vec<T>) -> Result<Vec<T::Output>, Box<dyn std::error::Error>> {
/// let pool = Pool::builder(4).start().await?;
/// let outputs = pool.try_map(tasks).await?;
/// pool.join().await?;
/// # Ok(outputs)
/// # }
/// ```
#[doc(alias = "ProcessPoolExecutor")]
#[doc(alias = "Process")]
#[derive(Debug)]
pub struct Pool {
    pub(super) entry: Entry,
    pub(super) supervisor: OnlyHere<Addr<PoolSupervisor>>,
    pub(super) workers: usize,
    pub(super) chunk: usize,
    /// A forked child does not drop it: the channel would wake the parent's thread, and that thread's number
    /// may belong to a thread of the child.
    pub(super) stop: OnlyHere<Mutex<Option<Stop>>>,
}

/// The handle that stops the thread of a pool.
pub(super) type Stop = (oneshot::Sender<()>, JoinHandle<()>);

/// The error if the supervisor has ended.
pub(super) const THREAD_ENDED: &str = "the pool's thread has ended";

impl Pool {
    /// Runs one task. Python: `pool.apply(f, args)`.
    ///
    /// # Errors
    ///
    /// Returns an error when the task panicked, ran longer than its limit or is not registered, when its worker died,
    /// and when the pool is closed, terminated or cannot start workers.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before a worker took the task, the task does not run. If it is dropped later,
    /// the task runs to its end and its output is lost.
    pub async fn apply<T: Task>(&self, task: T) -> Result<T::Output, TaskError> {
        apply(self.entry.clone(), task, None).await
    }

    /// Runs one task, even if the handle is dropped. Python: `pool.apply_async(f, args)`.
    #[doc(alias = "apply_async")]
    #[doc(alias = "submit")]
    pub fn spawn<T: Task>(&self, task: T) -> TaskHandle<T::Output> {
        TaskHandle::begin(self.entry.clone(), task)
    }

    /// Runs tasks and collects all their outcomes in order. [`Self::try_map`] ends at the first error.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::apply`]; it applies to each task.
    pub async fn map<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Vec<Result<T::Output, TaskError>> {
        self.imap(tasks).collect().await
    }

    /// Runs tasks and collects their outputs in order. Python: `pool.starmap(f, args)`.
    ///
    /// # Errors
    ///
    /// Returns the error of the first task in order that has no output; see [`Self::apply`]. Tasks that no
    /// worker has taken by then do not run.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::apply`]; it applies to each task.
    #[doc(alias = "starmap")]
    pub async fn try_map<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<T::Output>, TaskError> {
        self.imap(tasks).try_collect().await
    }

    /// Runs tasks as the stream is polled and yields their outcomes in order. It takes at most 256 tasks per
    /// worker, or 16 MiB of arguments, ahead of the outcomes, but always four chunks per worker.
    /// [`PoolBuilder::stored_bytes`](crate::builders::PoolBuilder::stored_bytes) limits the outcomes that were not read. Python: `pool.imap(f, args)`.
    ///
    /// The iterator is called while the stream is polled. A slow iterator blocks its thread, but it delays
    /// outcomes and other tasks of the runtime by no more than one call, or by eight calls when it becomes
    /// slow.
    ///
    /// The crate `futures` has the methods to read a stream:
    ///
    /// ```no_run
    /// # use lockkeeper::{Blocking, BlockingTask, Pool};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Square(u64);
    /// # impl BlockingTask for Square {
    /// #     const NAME: &'static str = "square";
    /// #     type Output = u64;
    /// #     fn run(self) -> u64 { self.0 * self.0 }
    /// # }
    /// use futures::StreamExt;
    ///
    /// # async fn sum(pool: Pool) -> Result<u64, lockkeeper::TaskError> {
    /// let mut squares = pool.imap((1..).map(|number| Blocking(Square(number))));
    /// let mut sum = 0;
    /// while let Some(square) = squares.next().await {
    ///     sum += square?;
    ///     # if sum > 100 { break }
    /// }
    /// # Ok(sum)
    /// # }
    /// ```
    pub fn imap<T, I>(
        &self,
        tasks: I,
    ) -> impl Stream<Item = Result<T::Output, TaskError>> + use<T, I>
    where
        T: Task,
        I: IntoIterator<Item = T>,
    {
        self.ahead(tasks, Order::Given).map(|(_, outcome)| outcome)
    }

    /// Runs tasks as the stream is polled and yields their outcomes as they arrive, each with the index of its task. Python:
    /// `pool.imap_unordered(f, args)`.
    pub fn imap_unordered<T, I>(
        &self,
        tasks: I,
    ) -> impl Stream<Item = (usize, Result<T::Output, TaskError>)> + use<T, I>
    where
        T: Task,
        I: IntoIterator<Item = T>,
    {
        self.ahead(tasks, Order::Finished)
    }

    /// Stops accepting tasks. Tasks that were submitted before still run.
    ///
    /// # Errors
    ///
    /// Returns an error when the pool cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pool may have been closed. A second close has no effect.
    pub async fn close(&self) -> Result<(), CallError> {
        let close = async {
            // Tasks that wait for room were submitted before, so they go first.
            let _turn = self.entry.room.turn().await;
            self.entry.queue.call(CloseTasks { reason: None }).await
        };
        self.entry.here(close).await
    }

    /// Closes the pool and waits until its tasks have run and its workers have ended.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::close`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pool is terminated.
    pub async fn join(self) -> Result<(), CallError> {
        self.close().await?;
        self.emptied().await
    }

    /// Waits until the workers have ended.
    pub(super) async fn emptied(&self) -> Result<(), CallError> {
        let joined = async { Ok(self.supervisor()?.send(Join).await) };
        let joined = self.entry.here(joined).await?;
        joined.map_err(|_| self.thread_ended())
    }

    /// Makes the error if the supervisor has ended.
    pub(super) fn thread_ended(&self) -> CallError {
        CallError::Disconnected {
            address: self.entry.queue.token().address.clone(),
            why: THREAD_ENDED.to_owned(),
        }
    }

    pub(super) fn supervisor(&self) -> Result<&Addr<PoolSupervisor>, CallError> {
        self.supervisor.get().ok_or_else(forked)
    }

    /// Kills the workers at once. Unfinished tasks fail with
    /// [`TaskFault::Terminated`](crate::errors::TaskFault::Terminated).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pool is terminated.
    pub async fn terminate(self) {
        let entry = self.entry.clone();
        let end = async {
            drop_elsewhere(self).await;
            Ok(())
        };
        // A forked child has nothing to end.
        let _ = entry.here(end).await;
    }

    /// Returns the process ids of the live workers.
    ///
    /// # Cancel safety
    ///
    /// This call changes nothing, so its future may be dropped.
    pub async fn pids(&self) -> Vec<u32> {
        let pids = async { Ok(self.supervisor()?.send(Pids).await.unwrap_or_default()) };
        self.entry.here(pids).await.unwrap_or_default()
    }

    /// Returns the numbers of waiting and running tasks, of idle workers and of empty places, and which worker runs
    /// which task since when. They may have changed by the time the caller reads them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::close`].
    ///
    /// # Cancel safety
    ///
    /// This call changes nothing, so its future may be dropped.
    pub async fn status(&self) -> Result<PoolStatus, CallError> {
        let status = async {
            let tasks = self.entry.queue.call(GetTaskQueueStatus).await?;
            let running = self.entry.queue.call(ListRunning).await?;
            let empty = self.supervisor()?.send(Missing).await.unwrap_or_default();
            Ok((tasks, running, empty))
        };
        let (tasks, running, empty) = self.entry.here(status).await?;
        Ok(PoolStatus {
            waiting: tasks.waiting,
            running: tasks.running,
            idle: tasks.idle,
            missing_workers: u64::try_from(empty).unwrap_or(u64::MAX),
            tasks: running.into_iter().map(RunningTask::from).collect(),
        })
    }

    /// Runs chunks of tasks, some ahead of the outcomes that were taken.
    fn ahead<T, I>(
        &self,
        tasks: I,
        order: Order,
    ) -> impl Stream<Item = (usize, Result<T::Output, TaskError>)> + use<T, I>
    where
        T: Task,
        I: IntoIterator<Item = T>,
    {
        let (entry, size) = (self.entry.clone(), self.chunk);
        let window = Window::of(self.workers, size);
        let tasks = tasks.into_iter();
        let share = Share::new(Arc::clone(&entry.room));
        // The limit and the retries of a task are its own.
        let outcomes = if size == 1 || entry.rule.is_some() {
            series(entry.clone(), tasks, window, share, order).left_stream()
        } else {
            let queue = LimitedSeries::new(entry.clone(), share);
            let entry = entry.clone();
            let submit =
                move |chunk: &[T], series| submit(entry.clone(), chunk, Some(series), None);
            let chunks = Chunks::new(tasks, size, |task: &T| task.time_limit().is_some());
            let outcomes = ahead(chunks, submit, window, queue, order);
            let each = |(first, outcomes): (usize, Vec<_>)| stream::iter((first..).zip(outcomes));
            outcomes.flat_map(each).right_stream()
        };
        outcomes_here::<T, _>(entry.origin, outcomes)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Some(stop) = self.stop.get() else {
            return;
        };
        let stop = stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = stop {
            self.entry.deaths.pool_is_over();
            // The channel is closed if the pool's thread has ended.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

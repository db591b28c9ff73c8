//! `Pool`: runs tasks in worker processes of the same program.
//!
//! A pool hosts a manager on a thread of its own. The manager has no path: the pool gives it the streams to
//! its workers. [`TaskQueue`] is the protocol between the pool and its workers. Each submitted chunk is a
//! call, so dropping its future withdraws it. The end of a worker's session returns the worker's chunks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use actix::Addr;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lockkeeper_protocol::operations::{CloseTasks, GetTaskQueueStatus};
use lockkeeper_sys::{OnlyHere, Origin};
use tokio::sync::{mpsc, oneshot};

use crate::{
    address::Address,
    background::drop_elsewhere,
    client::connection::Connection,
    error::{CallError, StartError, TaskError, lack},
    limits::Limits,
    pool::{
        ahead::{Order, Window, ahead},
        chunk::MOST_TASKS,
        deaths::Deaths,
        forked::{forked, outcomes_here},
        handle::TaskHandle,
        initializer::{Initializer, InitializerOutput},
        limited::LimitedSeries,
        place::Setup,
        room::{Room, Share, USUAL_BYTES},
        series::series,
        source::Chunks,
        status::PoolStatus,
        submit::{Entry, apply, submit},
        supervisor::{Join, Missing, Pids, PoolSupervisor, Start},
        task::Task,
        thread::launch,
    },
    proxy::proxy::Proxy,
    server::{claim::address_claim::AddressClaim, server::Server},
    transport::handed::connect_own,
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
/// let pool = Pool::builder(4).retries(1).start().await?;
/// let outputs = pool.map(tasks).await?;
/// pool.join().await?;
/// # Ok(outputs)
/// # }
/// ```
#[doc(alias = "ProcessPoolExecutor")]
#[doc(alias = "Process")]
#[derive(Debug)]
pub struct Pool {
    pub(super) entry: Entry,
    supervisor: OnlyHere<Addr<PoolSupervisor>>,
    workers: usize,
    chunk: usize,
    /// A forked child does not drop it: the channel would wake the parent's thread, and that thread's number
    /// may belong to a thread of the child.
    pub(super) stop: OnlyHere<Mutex<Option<Stop>>>,
}

/// The handle that stops the thread of a pool.
pub(super) type Stop = (oneshot::Sender<()>, JoinHandle<()>);

/// The settings of a pool that is not started yet.
///
/// ```no_run
/// # async fn start() -> Result<(), lockkeeper::StartError> {
/// // Eight workers, each replaced after 1,000 tasks. A task whose worker dies runs once more.
/// let pool = lockkeeper::Pool::builder(8).retries(1).max_tasks_per_child(1000).start().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PoolBuilder {
    workers: usize,
    chunk: usize,
    stored_bytes: usize,
    retries: u32,
    max_tasks_per_child: Option<u32>,
    initializer: Result<Option<Initializer>, StartError>,
}

impl PoolBuilder {
    /// Sets how many tasks the stream methods, such as `map`, pass to a worker at a time: 1 by default, and
    /// about a million at most. 0 means 1.
    ///
    /// The tasks of a chunk run one after the other, so none may wait for a later one. If a worker dies, its whole
    /// chunk fails, so use chunks for many short tasks.
    #[doc(alias = "chunksize")]
    #[must_use]
    pub fn chunk_size(mut self, tasks: usize) -> Self {
        self.chunk = tasks.clamp(1, MOST_TASKS);
        self
    }

    /// Sets how many bytes of arguments and outcomes the pool keeps: 1 GiB by default, and at least 128 KiB.
    /// Half of it is for the arguments of single tasks ([`Pool::apply`], [`Pool::spawn`]), of which those below
    /// 64 KiB do not count. A quarter is for the arguments of streams, and a quarter for their outcomes.
    /// Tasks beyond the limit of arguments wait in the submitter, in order. A task that exceeds a whole half fails
    /// with [`Fault::Limit`](crate::errors::Fault::Limit). While the outcomes of a stream reach its part, which is
    /// half of what other streams have left, workers begin no further task of it. After [`Pool::close`] all
    /// submitted tasks run, and their outcomes are kept regardless of the limit.
    #[must_use]
    pub const fn stored_bytes(mut self, bytes: usize) -> Self {
        self.stored_bytes = bytes;
        self
    }

    /// Sets how often a chunk is run again when its worker dies: 0 by default, because its tasks may have had
    /// effects.
    #[must_use]
    pub const fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// Replaces each worker after it has run that many tasks; 0 means 1.
    #[doc(alias = "maxtasksperchild")]
    #[must_use]
    pub fn max_tasks_per_child(mut self, tasks: u32) -> Self {
        self.max_tasks_per_child = Some(tasks.max(1));
        self
    }

    /// Runs a registered task in each worker before its first task. If it panics or returns an error, the pool
    /// does not start.
    #[must_use]
    pub fn initializer<T: Task<Output: InitializerOutput>>(mut self, task: T) -> Self {
        let unusable = |fault| StartError::Unusable(format!("the initializer: {fault}"));
        self.initializer = Initializer::new(task).map(Some).map_err(unusable);
        self
    }

    /// Starts the pool and waits until its workers are ready.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Unusable`] for a pool without workers, [`StartError::NotAProgram`] unless
    /// [`program`](crate::program) was called at the start of main, and [`StartError::Child`] when a worker
    /// does not get ready, with the error of an initializer that fails.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pool is terminated and no worker is left.
    pub async fn start(self) -> Result<Pool, StartError> {
        let started = OnlyHere::future(self.start_here()).await;
        started.unwrap_or_else(|| Err(StartError::Call(forked())))
    }

    async fn start_here(self) -> Result<Pool, StartError> {
        if self.workers == 0 {
            return Err(StartError::Unusable(
                "a pool has at least one worker, not 0".to_owned(),
            ));
        }
        let initializer = self.initializer?;
        let (claim, listener) = AddressClaim::acquire(&Address::unused_in_memory())?;
        let address = claim.address().clone();
        let limits = Limits {
            calls_in_flight: usize::MAX,
            // Unread bytes are outcomes that this process has asked for, so there is no time limit.
            unread_time: Duration::MAX,
            // `Room` limits the waiting tasks, and outcomes must not be lost.
            stored_bytes: usize::MAX,
            ..Limits::default()
        };
        let (tell_left, left) = mpsc::unbounded_channel();
        let server = Server::of_pool(claim, listener, limits, tell_left);
        let deaths = Deaths::default();
        let (supervisor, stop) = launch(server, left, deaths.clone()).await?;
        let socket = connect_own(&address).map_err(|error| StartError::System(lack(&error)))?;
        let connection = Connection::over(socket, &address).await?;
        let queue = Proxy::open(&connection, None, &()).await?;
        let pool = Pool {
            entry: Entry {
                origin: Origin::here(),
                queue: queue.clone(),
                room: Arc::new(Room::new(self.stored_bytes)),
                deaths,
                retries: self.retries,
            },
            supervisor: OnlyHere::new(supervisor),
            workers: self.workers,
            chunk: self.chunk,
            stop: OnlyHere::new(Mutex::new(Some(stop))),
        };
        let start = Start {
            setup: Setup::new(queue, initializer, self.max_tasks_per_child),
            workers: self.workers,
        };
        let started = pool.supervisor()?.send(start).await;
        started.map_err(|_| StartError::System(THREAD_ENDED.to_owned()))??;
        Ok(pool)
    }
}

/// The error if the supervisor has ended.
pub(super) const THREAD_ENDED: &str = "the pool's thread has ended";

impl Pool {
    /// Starts a pool of `workers` worker processes, and waits until they are ready.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`PoolBuilder::start`].
    ///
    /// # Cancel safety
    ///
    /// See [`PoolBuilder::start`].
    pub async fn new(workers: usize) -> Result<Self, StartError> {
        Self::builder(workers).start().await
    }

    /// Creates the builder of a pool with `workers` worker processes. Each runs one task at a time, so tasks that wait
    /// for one another, as at a barrier, need a worker each.
    #[must_use]
    pub const fn builder(workers: usize) -> PoolBuilder {
        PoolBuilder {
            workers,
            chunk: 1,
            stored_bytes: USUAL_BYTES,
            retries: 0,
            max_tasks_per_child: None,
            initializer: Ok(None),
        }
    }

    /// Runs one task. Python: `pool.apply(f, args)`.
    ///
    /// # Errors
    ///
    /// Returns [`TaskError::Failed`] when the task panicked, its worker died, or it is not registered, and
    /// when the pool is closed, terminated or cannot start workers.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before a worker took the task, the task does not run. If it is dropped later,
    /// the task runs to its end and its output is lost.
    pub async fn apply<T: Task>(&self, task: T) -> Result<T::Output, TaskError> {
        apply(self.entry.clone(), task).await
    }

    /// Runs one task, even if the handle is dropped. Python: `pool.apply_async(f, args)`.
    #[doc(alias = "apply_async")]
    #[doc(alias = "submit")]
    pub fn spawn<T: Task>(&self, task: T) -> TaskHandle<T::Output> {
        TaskHandle::begin(apply(self.entry.clone(), task))
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
    pub async fn map<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<T::Output>, TaskError> {
        self.imap(tasks).try_collect().await
    }

    /// Runs tasks as the stream is polled and yields their outcomes in order. It takes at most 256 tasks per
    /// worker, or 16 MiB of arguments, ahead of the outcomes, but always four chunks per worker.
    /// [`PoolBuilder::stored_bytes`] limits the outcomes that were not read. Python: `pool.imap(f, args)`.
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
        self.ahead(tasks, Order::Given)
    }

    /// Runs tasks as the stream is polled and yields their outcomes as they arrive. Python:
    /// `pool.imap_unordered(f, args)`.
    pub fn imap_unordered<T, I>(
        &self,
        tasks: I,
    ) -> impl Stream<Item = Result<T::Output, TaskError>> + use<T, I>
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
        joined.map_err(|_| CallError::Disconnected {
            address: self.entry.queue.token().address.clone(),
            why: THREAD_ENDED.to_owned(),
        })
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

    /// Returns the numbers of waiting and running tasks, of idle workers and of empty places. They may have
    /// changed by the time the caller reads them.
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
            let empty = self.supervisor()?.send(Missing).await.unwrap_or_default();
            Ok((tasks, empty))
        };
        let (tasks, empty) = self.entry.here(status).await?;
        Ok(PoolStatus {
            waiting: tasks.waiting,
            running: tasks.running,
            idle: tasks.idle,
            missing_workers: u64::try_from(empty).unwrap_or(u64::MAX),
        })
    }

    /// Runs chunks of tasks, some ahead of the outcomes that were taken.
    fn ahead<T, I>(
        &self,
        tasks: I,
        order: Order,
    ) -> impl Stream<Item = Result<T::Output, TaskError>> + use<T, I>
    where
        T: Task,
        I: IntoIterator<Item = T>,
    {
        let (entry, size) = (self.entry.clone(), self.chunk);
        let window = Window::of(self.workers, size);
        let tasks = tasks.into_iter();
        let share = Share::new(Arc::clone(&entry.room));
        let outcomes = if size == 1 {
            series(entry.clone(), tasks, window, share, order).left_stream()
        } else {
            let queue = LimitedSeries::new(entry.clone(), share);
            let entry = entry.clone();
            let submit = move |chunk: &[T], series| submit(entry.clone(), chunk, Some(series));
            let outcomes = ahead(Chunks::new(tasks, size), submit, window, queue, order);
            outcomes.flat_map(stream::iter).right_stream()
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

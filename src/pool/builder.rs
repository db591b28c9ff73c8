//! `PoolBuilder`: the settings of a pool, and its start.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use lockkeeper_protocol::operations::TaskRule;
use lockkeeper_sys::{OnlyHere, Origin};
use tokio::sync::mpsc;

use crate::{
    address::Address,
    client::connection::Connection,
    error::{StartError, lack},
    limits::Limits,
    pool::{
        chunk::MOST_TASKS,
        deaths::Deaths,
        forked::forked,
        initializer::{Initializer, InitializerOutput},
        place::Setup,
        pool::{Pool, THREAD_ENDED},
        retry::Retry,
        room::{Room, USUAL_BYTES},
        submit::{Entry, checked_limit},
        supervisor::Start,
        task::Task,
        thread::launch,
    },
    proxy::proxy::Proxy,
    server::{claim::address_claim::AddressClaim, server::Server},
    transport::handed::connect_own,
};

/// The settings of a pool that is not started yet.
///
/// ```no_run
/// # async fn start() -> Result<(), lockkeeper::StartError> {
/// use std::time::Duration;
///
/// use lockkeeper::{Pool, Retry};
///
/// // Eight workers, each replaced after 1,000 tasks. A task may run for a minute, and runs once more if its worker dies.
/// let pool = Pool::builder(8)
///     .max_tasks_per_child(1000)
///     .time_limit(Duration::from_secs(60))
///     .retry(Retry::attempts(2))
///     .start()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PoolBuilder {
    workers: usize,
    chunk: usize,
    stored_bytes: usize,
    time_limit: Option<Duration>,
    retry: Option<Retry>,
    max_tasks_per_child: Option<u32>,
    initializer: Result<Option<Initializer>, StartError>,
}

impl PoolBuilder {
    /// Sets how many tasks the stream methods, such as `map`, pass to a worker at a time: 1 by default, and
    /// about a million at most. 0 means 1.
    ///
    /// The tasks of a chunk run one after the other, so none may wait for a later one. If a worker dies, its whole
    /// chunk fails, so use chunks for many short tasks. Tasks with a [time limit](Self::time_limit) or with
    /// [retries](Self::retry) are passed one by one, so that each fails alone.
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

    /// Limits how long each task may run; by default a task may run for ever. [`Task::time_limit`] sets the limit of a
    /// single task.
    ///
    /// The time counts from when the worker is given the task and has none before it, and not while the task waits. At
    /// its end the worker is killed as by [`TaskHandle::kill`](crate::TaskHandle::kill), to a few milliseconds, and the task fails with
    /// [`TaskFault::TimeLimit`](crate::errors::TaskFault::TimeLimit). It is not run again. The limit also ends a task
    /// whose submitter does not wait for it any more, and one in a worker that is stopped or has closed its
    /// descriptors. A limit of zero keeps the pool from starting.
    #[doc(alias = "timeout")]
    #[must_use]
    pub const fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Runs tasks again that have failed; by default none, because a failed task may have had effects.
    #[doc(alias = "retries")]
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
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
        let unusable = |fault| StartError::InvalidSettings(format!("the initializer: {fault}"));
        self.initializer = Initializer::new(task).map(Some).map_err(unusable);
        self
    }

    /// Starts the pool and waits until its workers are ready.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::InvalidSettings`] for a pool without workers, [`StartError::ProgramNotCalled`] unless
    /// [`program`](crate::program) was called at the start of main, and [`StartError::ChildFailed`] when a worker
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
            return Err(StartError::InvalidSettings(
                "a pool has at least one worker, not 0".to_owned(),
            ));
        }
        let rule = self.rule()?;
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
                rule,
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

impl PoolBuilder {
    /// The time limit and the retries of each task, if there are any.
    fn rule(&self) -> Result<Option<TaskRule>, StartError> {
        let limit = self.time_limit.map(checked_limit).transpose();
        let rule = TaskRule {
            limit: limit.map_err(StartError::InvalidSettings)?,
            retry: self.retry.map(|Retry(rule)| rule),
        };
        Ok((rule != TaskRule::default()).then_some(rule))
    }
}

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
            time_limit: None,
            retry: None,
            max_tasks_per_child: None,
            initializer: Ok(None),
        }
    }
}

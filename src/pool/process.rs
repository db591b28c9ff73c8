//! `Process`: one process for one task.
//!
//! A task of the background runtime owns the child. The handle sends it orders, and learns from it how the process
//! has ended. So the end is noticed at once, and the outcome is read while the process runs, whatever the owner of the
//! handle does.
//!
//! Invariant: the process ends with its handle, and with the process that started it.

use std::{ffi::OsString, fmt, time::Duration};

use lockkeeper_protocol::{
    codec::Blob,
    operations::{JobOutcome, TaskFault, WorkerExit},
};
use lockkeeper_sys::OnlyHere;
use tokio::sync::{mpsc, watch};

use crate::{
    background::background,
    error::{CallError, StartError},
    pool::{
        chunk::{self, Outcome},
        place::exit,
        process_work::ROLE,
        task::Task,
        tasks,
    },
    process::{
        child::Child,
        output::{OutputTo, Pipes, ProcessOutput, Surroundings},
    },
    task_error::TaskError,
};

/// A process that runs one task. Counterpart of Python's `multiprocessing.Process`.
///
/// The process is a fresh one of the same program, as a worker of a [`Pool`](crate::Pool) is, and ends with this
/// process. Its exit code is 0 if the task has returned, and 101 if it has panicked.
///
/// If the `Process` is dropped, the process is killed; the drop does not wait for its end. A `Process` belongs to the
/// process that started it. In a forked child its calls fail with [`CallError::Forked`], and its drop does nothing.
///
/// ```no_run
/// use lockkeeper::{Process, Task};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet(String);
///
/// impl Task for Greet {
///     const NAME: &'static str = "greet";
///     type Output = u32;
///
///     async fn run(self) -> u32 {
///         println!("hello {}", self.0);
///         std::process::id()
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     lockkeeper::program().task::<Greet>().run(async {
///         let process = Process::spawn(Greet("bob".to_owned())).await?;
///         let pid = process.pid();
///         assert_eq!(process.join().await?, pid);
///         Ok(())
///     })
/// }
/// ```
pub struct Process<R> {
    pid: u32,
    watched: OnlyHere<Watched<R>>,
    pipes: Pipes,
}

/// The side of the handle.
struct Watched<R> {
    orders: mpsc::UnboundedSender<Order>,
    end: watch::Receiver<Option<End>>,
    /// The name of the task.
    task: &'static str,
    /// Decodes the output of the task.
    read: fn(&Blob) -> Result<R, TaskError>,
}

/// What the owner of a handle asks for. To drop the channel is to ask for the death of the process.
#[derive(Clone, Copy, Debug)]
enum Order {
    Terminate,
    Kill,
}

/// The end of a process.
#[derive(Clone, Debug)]
struct End {
    exit: WorkerExit,
    outcome: Option<JobOutcome>,
    /// How long the task ran, if it is known.
    ran: Option<Duration>,
}

/// The settings of a process that is not started yet.
///
/// ```no_run
/// use lockkeeper::{Process, Task, builders::OutputTo};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Greet(String);
/// # impl Task for Greet {
/// #     const NAME: &'static str = "greet";
/// #     type Output = ();
/// #     async fn run(self) { println!("hello {}", self.0) }
/// # }
/// use tokio::io::AsyncReadExt;
///
/// # async fn greet() -> Result<(), Box<dyn std::error::Error>> {
/// let greet = Process::builder(Greet("bob".to_owned()));
/// let mut process = greet.stdout(OutputTo::Pipe).env("LANG", "C").spawn().await?;
/// let mut text = String::new();
/// if let Some(mut stdout) = process.take_stdout() {
///     stdout.read_to_string(&mut text).await?;
/// }
/// process.join().await?;
/// assert_eq!(text, "hello bob\n");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ProcessBuilder<T> {
    task: T,
    surroundings: Surroundings,
}

impl<T: Task> ProcessBuilder<T> {
    /// Sets where the standard output goes: to that of this process by default.
    #[must_use]
    pub const fn stdout(mut self, to: OutputTo) -> Self {
        self.surroundings.stdout = to;
        self
    }

    /// Sets where the standard error goes: to that of this process by default.
    #[must_use]
    pub const fn stderr(mut self, to: OutputTo) -> Self {
        self.surroundings.stderr = to;
        self
    }

    /// Sets a variable in the environment of the process, which otherwise is that of this process.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let variable = (name.into(), value.into());
        self.surroundings.variables.push(variable);
        self
    }

    /// Starts the process, and waits until it begins the task.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::InvalidSettings`] for a task that is not registered or cannot be encoded,
    /// [`StartError::ProgramNotCalled`] unless [`program`](crate::program) was called at the start of main,
    /// [`StartError::System`] when the system lacks the resources, and [`StartError::ChildFailed`] when the process ends
    /// before it begins the task.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no process is left.
    pub async fn spawn(self) -> Result<Process<T::Output>, StartError> {
        let started = OnlyHere::future(self.spawn_here()).await;
        started.unwrap_or_else(|| Err(StartError::Call(forked())))
    }

    async fn spawn_here(self) -> Result<Process<T::Output>, StartError> {
        let Self { task, surroundings } = self;
        let unusable = |fault: TaskFault| StartError::InvalidSettings(fault.to_string());
        if !tasks::tasks().has(T::NAME) {
            return Err(unusable(TaskFault::NotRegistered(T::NAME.to_owned())));
        }
        let task = chunk::pack(&[task]).map_err(unusable)?;
        let mut child = Child::start_until_ready(&surroundings, ROLE, &task, &[]).await?;
        let pipes = child.take_pipes();
        let pid = child.first_pid;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, end) = watch::channel(None);
        drop(background().spawn(watch_over(child, ordered, tell)));
        let watched = OnlyHere::new(Watched {
            orders,
            end,
            task: T::NAME,
            read: read::<T>,
        });
        Ok(Process {
            pid,
            watched,
            pipes,
        })
    }
}

fn read<T: Task>(row: &Blob) -> Outcome<T> {
    chunk::unpack_one::<T>(row)
}

/// Owns a process until it has ended.
async fn watch_over(
    mut child: Child,
    mut orders: mpsc::UnboundedReceiver<Order>,
    tell: watch::Sender<Option<End>>,
) {
    let ending = loop {
        tokio::select! {
            ending = child.ended() => break ending,
            order = orders.recv() => match order {
                Some(Order::Terminate) => child.ask_to_stop(),
                Some(Order::Kill) | None => break child.end_now().await,
            },
        }
    };
    tell.send_replace(Some(End {
        exit: exit(&ending),
        outcome: ending.work.outcome,
        ran: ending.ran,
    }));
}

fn forked() -> CallError {
    CallError::Forked {
        what: "the process".to_owned(),
    }
}

impl<R> Process<R> {
    /// Starts a process that runs a task, and waits until it begins the task. Python: `Process(target=f,
    /// args=args).start()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ProcessBuilder::spawn`].
    ///
    /// # Cancel safety
    ///
    /// See [`ProcessBuilder::spawn`].
    pub async fn spawn<T: Task<Output = R>>(task: T) -> Result<Self, StartError> {
        Self::builder(task).spawn().await
    }

    /// Creates the builder of a process that runs a task.
    #[must_use]
    pub fn builder<T: Task<Output = R>>(task: T) -> ProcessBuilder<T> {
        ProcessBuilder {
            task,
            surroundings: Surroundings::default(),
        }
    }

    /// Returns the process id. Once the process has ended, the system may give the id to another process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether the process runs, as far as this process knows. Python: `is_alive()`.
    ///
    /// In a forked child it returns false.
    #[doc(alias = "is_alive")]
    #[must_use]
    pub fn is_running(&self) -> bool {
        let watched = self.watched.get();
        watched.is_some_and(|watched| watched.end.borrow().is_none())
    }

    /// Waits until the process has ended, and returns its exit status. It may be called again, and by several callers
    /// at a time. Python: `exitcode`, and `join` with a timeout.
    ///
    /// The status is unknown if the program reaps its children itself, or ignores SIGCHLD.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Forked`] in a forked child.
    ///
    /// # Cancel safety
    ///
    /// This call changes nothing, so its future may be dropped.
    #[doc(alias = "exitcode")]
    pub async fn wait(&self) -> Result<WorkerExit, CallError> {
        self.ended().await.map(|end| end.exit)
    }

    /// Waits until the process has ended, and returns the outcome of its task.
    ///
    /// A stream of output that was not taken is closed first, so that the process does not wait for a reader.
    ///
    /// # Errors
    ///
    /// Returns an error when the task panicked or its output could not be encoded, and when the process ended before
    /// the task returned: then its fault is [`TaskFault::WorkerDied`], with the exit status.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process is killed. To wait for a limited time, use [`Self::wait`].
    pub async fn join(mut self) -> Result<R, TaskError> {
        drop(std::mem::take(&mut self.pipes));
        let End { exit, outcome, ran } = self.ended().await?;
        let watched = self.watched.get().ok_or_else(forked)?;
        let outcome = match outcome {
            Some(JobOutcome::Done(row) | JobOutcome::Transient(row)) => (watched.read)(&row),
            Some(JobOutcome::Failed(fault)) => Err(fault.into()),
            None => Err(TaskFault::WorkerDied { exit }.into()),
        };
        outcome.map_err(|error| error.of(watched.task, None).of_process(self.pid, ran))
    }

    async fn ended(&self) -> Result<End, CallError> {
        let mut end = self.watched.get().ok_or_else(forked)?.end.clone();
        let ended = async move {
            let ended = end.wait_for(Option::is_some).await;
            ended.ok().and_then(|end| end.clone())
        };
        let ended = OnlyHere::future(ended).await.ok_or_else(forked)?;
        // The task that tells the end is never cancelled.
        Ok(ended.unwrap_or(End {
            exit: WorkerExit::Unknown,
            outcome: None,
            ran: None,
        }))
    }

    /// Asks the process to end. Python: `terminate()`.
    ///
    /// The process gets SIGTERM, and [`stopping`](crate::task::stopping) resolves in it. A task that has called
    /// `stopping` or [`is_stopping`](crate::task::is_stopping), or has set a handler of SIGTERM, ends itself, and its
    /// outcome is as usual. Any other task ends at once, by the signal. The call does not wait for the end, and does
    /// nothing once the process has ended. A process that is stopped, or ignores the signal, needs [`Self::kill`].
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Forked`] in a forked child.
    pub fn terminate(&self) -> Result<(), CallError> {
        self.order(Order::Terminate)
    }

    /// Kills the process with SIGKILL. Python: `kill()`.
    ///
    /// The call does not wait for the end, and does nothing once the process has ended.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Forked`] in a forked child.
    pub fn kill(&self) -> Result<(), CallError> {
        self.order(Order::Kill)
    }

    fn order(&self, order: Order) -> Result<(), CallError> {
        let watched = self.watched.get().ok_or_else(forked)?;
        // The channel is closed once the process has ended.
        let _ = watched.orders.send(order);
        Ok(())
    }

    /// Takes the stream of the standard output, if it was [piped](OutputTo::Pipe) and not taken before.
    ///
    /// Read it while the process runs: a process waits while a pipe is full.
    pub const fn take_stdout(&mut self) -> Option<ProcessOutput> {
        self.pipes.stdout.take()
    }

    /// Takes the stream of the standard error, as [`Self::take_stdout`] does.
    pub const fn take_stderr(&mut self) -> Option<ProcessOutput> {
        self.pipes.stderr.take()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .field("is_running", &self.is_running())
            .finish_non_exhaustive()
    }
}

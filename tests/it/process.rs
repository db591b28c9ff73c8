//! A process for one task: its outcome, its exit status, its ends and its output.

use std::{
    env, fs,
    future::pending,
    io::{self, Write},
    process, thread,
    time::Duration,
};

use futures::future::join_all;
use lockkeeper::{
    Blocking, BlockingTask, Event, Lock, Manager, Process, StartError, Task, TaskError,
    builders::{OutputTo, Program},
    errors::{TaskFault, WorkerExit},
    task::{is_stopping, stopping},
};
use lockkeeper_test_support::{
    Role, Roles, children_of, is_running, kill, report, seeded, signal, stop, until,
};
use rand::Rng;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{self, SignalKind},
};

use crate::{
    pool::{Square, actions::Action, basic_tasks::Who, ends::HangsAtExit},
    run,
};

/// How a task reacts to the request to end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Reaction {
    /// Awaits it.
    Awaits,
    /// Asks for it in a loop, which blocks the thread of the tasks.
    Asks,
    /// Has a handler of SIGTERM.
    HandlesSignal,
    /// Has a handler of SIGTERM that does nothing.
    Ignores,
    /// Does nothing about it.
    None,
}

/// Sets the event once it would react, and returns its process id when it is asked to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reacts(Reaction, Event);

impl Task for Reacts {
    const NAME: &'static str = "process::reacts";
    type Output = u32;

    async fn run(self) -> u32 {
        let Self(reaction, is_ready) = self;
        match reaction {
            Reaction::Awaits => {
                let stopping = stopping();
                is_ready.set().await.unwrap();
                stopping.await;
            }
            Reaction::Asks => {
                assert!(!is_stopping());
                is_ready.set().await.unwrap();
                while !is_stopping() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Reaction::HandlesSignal => {
                let mut terminate = unix::signal(SignalKind::terminate()).unwrap();
                is_ready.set().await.unwrap();
                terminate.recv().await.unwrap();
            }
            Reaction::Ignores => {
                let _handler = unix::signal(SignalKind::terminate()).unwrap();
                is_ready.set().await.unwrap();
                pending::<()>().await;
            }
            Reaction::None => {
                is_ready.set().await.unwrap();
                pending::<()>().await;
            }
        }
        process::id()
    }
}

/// Acquires the lock, and runs for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Holds(Lock);

impl BlockingTask for Holds {
    const NAME: &'static str = "process::holds";
    type Output = ();

    fn run(self) {
        let _guard = self.0.acquire().blocking().unwrap();
        loop {
            thread::park();
        }
    }
}

/// Acquires the lock, and ends after that many microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HoldsBriefly(Lock, u64);

impl Task for HoldsBriefly {
    const NAME: &'static str = "process::holds_briefly";
    type Output = u64;

    async fn run(self) -> u64 {
        let _guard = self.0.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_micros(self.1)).await;
        self.1
    }
}

/// Returns text of that many bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Echo(String);

impl Task for Echo {
    const NAME: &'static str = "process::echo";
    type Output = String;

    async fn run(self) -> String {
        self.0
    }
}

/// Exits, or panics without a code.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Exits(Option<i32>);

impl Task for Exits {
    const NAME: &'static str = "process::exits";
    type Output = ();

    async fn run(self) {
        match self.0 {
            Some(code) => process::exit(code),
            None => panic!("no code"),
        }
    }
}

/// Writes to both outputs that many bytes, or what a variable of the environment contains.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Writes {
    Bytes(usize),
    Variable(String),
}

impl BlockingTask for Writes {
    const NAME: &'static str = "process::writes";
    type Output = ();

    fn run(self) {
        match self {
            Self::Bytes(count) => {
                let bytes = vec![b'x'; count];
                io::stdout().write_all(&bytes).expect("stdout");
                io::stderr().write_all(&bytes).expect("stderr");
            }
            Self::Variable(name) => {
                let text = env::var(name).unwrap_or_default();
                println!("out {text}");
                eprintln!("err {text}");
            }
        }
    }
}

/// Fills a disk: a device that is always full, or a file beyond the limit of the size of files.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum FillsDisk {
    Device,
    Limit,
}

impl Task for FillsDisk {
    const NAME: &'static str = "process::fills_disk";
    type Output = Result<(), String>;

    async fn run(self) -> Self::Output {
        let written = match self {
            Self::Device => fs::write("/dev/full", "x"),
            Self::Limit => {
                let limit = Rlimit {
                    current: Some(1000),
                    maximum: Some(1000),
                };
                setrlimit(Resource::Fsize, limit).unwrap();
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(file.path(), [0; 2000])
            }
        };
        written.map_err(|error| error.kind().to_string())
    }
}

/// No program registers it.
#[derive(Debug, Serialize, Deserialize)]
struct Unregistered;

impl Task for Unregistered {
    const NAME: &'static str = "process::unregistered";
    type Output = ();

    async fn run(self) {}
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Reacts>()
        .task::<Blocking<Holds>>()
        .task::<HoldsBriefly>()
        .task::<Echo>()
        .task::<Exits>()
        .task::<Blocking<Writes>>()
        .task::<FillsDisk>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("process::owner", own_processes);
}

/// Owns processes that never end by themselves.
async fn own_processes(lock: Lock) {
    let holder = Process::spawn(Blocking(Holds(lock.clone()))).await.unwrap();
    let waiter = Process::spawn(Blocking(Holds(lock))).await.unwrap();
    let pids = [holder.pid(), waiter.pid()];
    report(&serde_json::to_string(&pids).unwrap());
    pending::<()>().await;
}

/// Asserts that a process ended in that way without an outcome.
#[track_caller]
fn assert_died<T>(outcome: Result<T, TaskError>, pid: u32, exit: WorkerExit) {
    let error = outcome.err().expect("it has no output");
    assert_eq!(
        (error.exit(), error.pid()),
        (Some(exit), Some(pid)),
        "{error}"
    );
    assert!(error.ran().is_some() && error.attempts() == 1, "{error}");
}

async fn until_gone(pids: &[u32]) {
    until("the processes have ended", || async {
        !pids.iter().any(|pid| is_running(*pid))
    })
    .await;
}

async fn until_held(lock: &Lock) {
    until("the lock is held", || async {
        lock.status().await.unwrap().is_held
    })
    .await;
}

#[test]
fn process_runs_one_task_in_a_child_of_this_process() {
    run(async {
        let process = Process::spawn(Who).await.unwrap();
        let pid = process.pid();
        assert_ne!(pid, process::id());
        assert_eq!(process.wait().await, Ok(WorkerExit::Code(0)));
        assert!(!process.is_running() && !is_running(pid));
        assert_eq!(process.join().await, Ok(pid));
        let blocking = Process::spawn(Square(3)).await.unwrap();
        assert_eq!(blocking.join().await, Ok(9));
    });
}

#[test]
fn ended_process_leaves_no_zombie() {
    run(async {
        let process = Process::spawn(Who).await.unwrap();
        process.wait().await.unwrap();
        assert!(!children_of(process::id()).contains(&process.pid()));
    });
}

#[test]
fn outcome_and_exit_status_of_a_failed_task_say_how_it_failed() {
    run(async {
        let panicked = Process::spawn(Exits(None)).await.unwrap();
        assert_eq!(panicked.wait().await, Ok(WorkerExit::Code(101)));
        let panicked = panicked.join().await;
        let fault = TaskFault::Panicked("no code".to_owned());
        assert_eq!(panicked.unwrap_err().fault(), Some(&fault));
        for code in [0, 7] {
            let exited = Process::spawn(Exits(Some(code))).await.unwrap();
            let pid = exited.pid();
            assert_died(exited.join().await, pid, WorkerExit::Code(code));
        }
        let aborted = Process::spawn(Action::Abort).await.unwrap();
        let pid = aborted.pid();
        assert_died(aborted.join().await, pid, WorkerExit::Signal(6));
    });
}

#[test]
fn killed_process_frees_what_it_holds_and_may_be_killed_and_waited_for_again() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let process = Process::spawn(Blocking(Holds(lock.clone()))).await.unwrap();
        let pid = process.pid();
        until_held(&lock).await;
        assert!(process.is_running() && is_running(pid));
        process.kill().unwrap();
        process.kill().unwrap();
        let waits = [process.wait(), process.wait(), process.wait()];
        let killed = WorkerExit::Signal(9);
        for waited in join_all(waits).await {
            assert_eq!(waited, Ok(killed));
        }
        process.kill().unwrap();
        process.terminate().unwrap();
        let guard = lock.acquire().await.unwrap();
        assert_eq!(guard.abandoned().unwrap().holder.pid, pid);
        assert_died(process.join().await, pid, killed);
    });
}

#[test]
fn task_that_asks_for_the_request_to_end_ends_itself() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for reaction in [Reaction::Awaits, Reaction::Asks, Reaction::HandlesSignal] {
            let is_ready = manager.event().await.unwrap();
            let task = Reacts(reaction, is_ready.clone());
            let process = Process::spawn(task).await.unwrap();
            let pid = process.pid();
            is_ready.wait().await.unwrap();
            // The request is this program's. A service manager signals all processes of a program.
            if !matches!(reaction, Reaction::HandlesSignal) {
                signal(pid, Signal::TERM);
            }
            assert!(process.is_running(), "{reaction:?}");
            process.terminate().unwrap();
            process.terminate().unwrap();
            assert_eq!(
                process.wait().await,
                Ok(WorkerExit::Code(0)),
                "{reaction:?}"
            );
            assert_eq!(process.join().await, Ok(pid), "{reaction:?}");
        }
    });
}

#[test]
fn other_task_is_ended_by_the_signal_of_terminate() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let is_ready = manager.event().await.unwrap();
        let task = Reacts(Reaction::None, is_ready.clone());
        let process = Process::spawn(task).await.unwrap();
        is_ready.wait().await.unwrap();
        let pid = process.pid();
        process.terminate().unwrap();
        assert_died(process.join().await, pid, WorkerExit::Signal(15));
    });
}

#[test]
fn process_that_ignores_termination_or_is_stopped_can_be_killed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for is_stopped in [false, true] {
            let is_ready = manager.event().await.unwrap();
            let task = Reacts(Reaction::Ignores, is_ready.clone());
            let process = Process::spawn(task).await.unwrap();
            is_ready.wait().await.unwrap();
            let pid = process.pid();
            if is_stopped {
                stop(pid).await;
            }
            process.terminate().unwrap();
            let ended = tokio::time::timeout(Duration::from_millis(200), process.wait());
            assert!(ended.await.is_err() && process.is_running());
            process.kill().unwrap();
            assert_died(process.join().await, pid, WorkerExit::Signal(9));
        }
    });
}

#[test]
fn dropped_process_is_killed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let process = Process::spawn(Blocking(Holds(lock.clone()))).await.unwrap();
        until_held(&lock).await;
        let pid = process.pid();
        drop(process);
        until_gone(&[pid]).await;
        // So does the future of `join`.
        let process = Process::spawn(Blocking(Holds(lock.clone()))).await.unwrap();
        until_held(&lock).await;
        let pid = process.pid();
        let joined = tokio::time::timeout(Duration::from_millis(10), process.join());
        assert!(joined.await.is_err());
        until_gone(&[pid]).await;
    });
}

#[test]
fn start_that_is_dropped_at_any_moment_leaves_no_process() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let mut random = seeded();
        for _ in 0..30 {
            let moment = Duration::from_micros(random.random_range(0..20_000));
            let spawn = Process::spawn(Blocking(Holds(lock.clone())));
            if let Ok(process) = tokio::time::timeout(moment, spawn).await {
                assert!(process.unwrap().is_running());
            }
        }
        until("no process holds the lock or waits for it", || async {
            let status = lock.status().await.unwrap();
            (status.is_held, status.waiting) == (false, 0)
        })
        .await;
    });
}

#[test]
fn processes_end_with_their_parent() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let mut owner = Role::start("process::owner", &lock);
        let pids: Vec<u32> = serde_json::from_str(&owner.next_report()).unwrap();
        until_held(&lock).await;
        assert!(pids.iter().all(|pid| is_running(*pid)));
        owner.kill();
        until_gone(&pids).await;
    });
}

#[test]
fn outcome_of_a_process_whose_exit_does_not_return_is_kept() {
    run(async {
        let process = Process::spawn(HangsAtExit).await.unwrap();
        let pid = process.pid();
        assert_eq!(process.wait().await, Ok(WorkerExit::Signal(9)));
        assert_eq!(process.join().await, Ok(pid));
    });
}

#[test]
fn task_that_closes_all_descriptors_has_one_outcome() {
    run(async {
        let process = Process::spawn(Action::CloseAndReturn).await.unwrap();
        let pid = process.pid();
        let error = process.join().await.unwrap_err();
        assert!(
            error.exit().is_some() && error.pid() == Some(pid),
            "{error}"
        );
        let process = Process::spawn(Action::CloseAndBlock).await.unwrap();
        let pid = process.pid();
        process.terminate().unwrap();
        process.kill().unwrap();
        assert_died(process.join().await, pid, WorkerExit::Signal(9));
    });
}

#[test]
fn large_arguments_and_outputs_reach_the_other_side() {
    run(async {
        let text = "x".repeat(20 << 20);
        let process = Process::spawn(Echo(text.clone())).await.unwrap();
        // The output arrives while no caller waits for it.
        process.wait().await.unwrap();
        assert_eq!(process.join().await.map(|output| output == text), Ok(true));
        let too_large = Process::spawn(Echo("x".repeat(65 << 20))).await;
        let Err(StartError::InvalidSettings(why)) = too_large else {
            panic!("{too_large:?}");
        };
        assert!(why.contains("process::echo"), "{why}");
    });
}

#[test]
fn unregistered_task_starts_no_process() {
    run(async {
        let refused = Process::spawn(Unregistered).await;
        let Err(StartError::InvalidSettings(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("process::unregistered"), "{why}");
    });
}

#[test]
fn output_goes_where_the_builder_says() {
    run(async {
        let task = Blocking(Writes::Variable("LOCKKEEPER_TEST_WORD".to_owned()));
        let mut process = Process::builder(task)
            .env("LOCKKEEPER_TEST_WORD", "salt")
            .stdout(OutputTo::Pipe)
            .stderr(OutputTo::Pipe)
            .spawn()
            .await
            .unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut pipes = [process.take_stdout(), process.take_stderr()].map(Option::unwrap);
        assert!(process.take_stdout().is_none() && process.take_stderr().is_none());
        pipes[0].read_to_string(&mut stdout).await.unwrap();
        pipes[1].read_to_string(&mut stderr).await.unwrap();
        process.join().await.unwrap();
        // The test harness of the child writes to its output too.
        assert!(stdout.contains("out salt\n"), "{stdout}");
        assert!(stderr.contains("err salt\n"), "{stderr}");

        let task = Blocking(Writes::Bytes(1 << 20));
        let quiet = Process::builder(task)
            .stdout(OutputTo::Null)
            .stderr(OutputTo::Null);
        let mut process = quiet.spawn().await.unwrap();
        assert!(process.take_stdout().is_none());
        process.join().await.unwrap();
    });
}

#[test]
fn process_that_writes_to_a_pipe_without_a_reader_does_not_hang_its_join() {
    run(async {
        let task = Blocking(Writes::Bytes(1 << 20));
        let builder = Process::builder(task)
            .stdout(OutputTo::Pipe)
            .stderr(OutputTo::Null);
        let process = builder.spawn().await.unwrap();
        let outcome = process.join().await;
        let error = outcome.unwrap_err();
        let Some(TaskFault::Panicked(why)) = error.fault() else {
            panic!("{error}");
        };
        assert!(why.contains("BrokenPipe"), "{why}");
    });
}

#[test]
fn full_disk_is_an_error_of_the_task_or_the_signal_of_the_limit() {
    run(async {
        let full = Process::spawn(FillsDisk::Device).await.unwrap();
        let told = io::ErrorKind::StorageFull.to_string();
        assert_eq!(full.join().await, Ok(Err(told)));
        let limited = Process::spawn(FillsDisk::Limit).await.unwrap();
        let pid = limited.pid();
        let exceeded = Signal::XFSZ.as_raw();
        assert_died(limited.join().await, pid, WorkerExit::Signal(exceeded));
    });
}

/// The number of processes at a time, and of those that are killed.
const PROCESSES: usize = 4;
const ROUNDS: usize = 60;

#[test]
fn processes_that_are_killed_at_random_have_one_outcome_each_and_keep_no_lock() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let mut random = seeded();
        let (mut returned, mut killed) = (0, 0);
        for _ in 0..ROUNDS / PROCESSES {
            let micros = random.random_range(0..3000);
            let spawn = || Process::spawn(HoldsBriefly(lock.clone(), micros));
            let processes = join_all((0..PROCESSES).map(|_| spawn())).await;
            let processes: Vec<_> = processes.into_iter().map(Result::unwrap).collect();
            let mut pids = Vec::new();
            for process in &processes {
                pids.push(process.pid());
                // Only the time is random.
                tokio::time::sleep(Duration::from_micros(random.random_range(0..2000))).await;
                match random.random_range(0..3) {
                    0 => process.kill().unwrap(),
                    // The system may have reaped it, but has not given its id to another process so soon.
                    1 if process.is_running() => kill(process.pid()),
                    _ => {}
                }
            }
            for process in processes {
                let pid = process.pid();
                match process.join().await {
                    Ok(output) => {
                        assert_eq!(output, micros);
                        returned += 1;
                    }
                    Err(error) => {
                        assert_died::<()>(Err(error), pid, WorkerExit::Signal(9));
                        killed += 1;
                    }
                }
            }
            assert!(!pids.into_iter().any(is_running));
            let mut guard = lock.acquire().await.unwrap();
            guard.mark_consistent();
        }
        println!("{returned} returned, {killed} were killed");
        assert!(returned > 0 && killed > 0, "both occur");
    });
}

//! Tasks that end their thread or their process, and workers whose exit does not return.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lockkeeper::{
    Blocking, BlockingTask, Pool, Task, block_on,
    builders::Program,
    errors::{TaskFault, WorkerExit},
};
use lockkeeper_test_forks::{
    Fork, end, end_thread, exit_at_exit, hang_at_exit, hear, is_running, kill_thread, pause, tell,
    until, until_within,
};
use serde::{Deserialize, Serialize};

use crate::{Test, pools::Double};

pub(crate) const TESTS: &[Test] = &[
    (
        "ends::task_that_ends_its_first_thread_or_its_process_fails_alone",
        ends_of_workers,
    ),
    (
        "ends::blocking_task_whose_thread_ends_alone_fails_and_its_worker_goes_on",
        thread_of_a_task,
    ),
    (
        "ends::initializer_that_ends_the_first_thread_fails_the_start",
        first_thread_in_the_initializer,
    ),
    (
        "ends::worker_whose_exit_hangs_is_replaced",
        exit_of_a_used_up_worker,
    ),
    (
        "ends::worker_whose_exit_hangs_ends_with_its_parent",
        exit_of_an_orphan,
    ),
];

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Begin>()
        .task::<End>()
        .task::<Blocking<EndThread>>()
        .task::<HangAtExit>()
}

/// How a task ends its thread or its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Not,
    /// By the system call, on the first thread.
    FirstThread,
    /// By a filter of system calls, on the first thread.
    FirstThreadByFilter,
    /// By the system call for all threads, on another thread.
    ProcessOnAnotherThread,
    /// By the destructor of a value of the first thread, which the exit runs.
    ExitInDestructor,
    /// By a handler of the exit, which exits again.
    ExitInExit,
    /// By a panic during the unwinding of another one.
    PanicInPanic,
    /// By another program, which replaces this one and ends.
    Exec,
    /// By a signal that no handler takes.
    Alarm,
}

impl Task for End {
    const NAME: &'static str = "end";
    type Output = u32;

    async fn run(self) -> u32 {
        match self {
            Self::Not => process::id(),
            Self::FirstThread => end_thread(),
            Self::FirstThreadByFilter => kill_thread(),
            Self::ProcessOnAnotherThread => {
                thread::spawn(|| end(5));
                std::future::pending().await
            }
            Self::ExitInDestructor => {
                ON_END.with(|_| ());
                process::exit(6)
            }
            Self::ExitInExit => {
                exit_at_exit();
                process::exit(6)
            }
            Self::PanicInPanic => {
                let _second = PanicOnDrop;
                panic!("the first");
            }
            Self::Exec => {
                let error = Command::new("/bin/sh").args(["-c", "exit 6"]).exec();
                panic!("{error}");
            }
            Self::Alarm => {
                lockkeeper_test_forks::watch(1);
                std::future::pending().await
            }
        }
    }
}

struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        panic!("the second");
    }
}

struct ExitOnDrop;

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        process::exit(7);
    }
}

thread_local! {
    static ON_END: ExitOnDrop = const { ExitOnDrop };
}

/// An initializer that ends the first thread.
#[derive(Debug, Serialize, Deserialize)]
struct Begin;

impl Task for Begin {
    const NAME: &'static str = "begin";
    type Output = ();

    async fn run(self) {
        end_thread()
    }
}

/// Ends the thread that runs it, and not the first one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum EndThread {
    ByCall,
    ByFilter,
}

impl BlockingTask for EndThread {
    const NAME: &'static str = "end_thread";
    type Output = u32;

    fn run(self) -> u32 {
        match self {
            Self::ByCall => end_thread(),
            Self::ByFilter => kill_thread(),
        }
    }
}

/// Has the exit of its worker hang, and may exit itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct HangAtExit {
    exits: bool,
}

impl Task for HangAtExit {
    const NAME: &'static str = "hang_at_exit";
    type Output = u32;

    async fn run(self) -> u32 {
        hang_at_exit();
        if self.exits {
            process::exit(3);
        }
        process::id()
    }
}

fn ends_of_workers() {
    for (how, exit) in [
        (End::FirstThread, WorkerExit::Signal(9)),
        (End::FirstThreadByFilter, WorkerExit::Signal(9)),
        (End::ProcessOnAnotherThread, WorkerExit::Code(5)),
        // The standard library aborts at a second exit by it.
        (End::ExitInDestructor, WorkerExit::Signal(6)),
        (End::ExitInExit, WorkerExit::Code(8)),
        (End::PanicInPanic, WorkerExit::Signal(6)),
        (End::Exec, WorkerExit::Code(6)),
        (End::Alarm, WorkerExit::Signal(14)),
    ] {
        let pool = block_on(Pool::new(2)).expect("a pool");
        let before = block_on(pool.pids());
        let tasks = (0..12).map(|number| if number % 6 == 1 { how } else { End::Not });
        let outcomes: Vec<_> = block_on(pool.imap(tasks).collect());
        assert_eq!(outcomes.len(), 12, "{how:?}");
        for (number, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(_) => assert_ne!(number % 6, 1, "{how:?}"),
                Err(error) => {
                    let told = error.exit().unwrap_or_else(|| panic!("{how:?}: {error}"));
                    assert_eq!(number % 6, 1, "{how:?}");
                    // The new program has none of the worker's sockets, so the pool may kill it before it exits.
                    let is_killed = matches!(how, End::Exec) && told == WorkerExit::Signal(9);
                    assert!(told == exit || is_killed, "{how:?}: {told:?}");
                }
            }
        }
        until("all places have workers", || {
            let pids = block_on(pool.pids());
            pids.len() == 2 && pids != before
        });
        assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
        block_on(pool.join()).expect("it ends");
    }
}

fn thread_of_a_task() {
    let pool = block_on(Pool::new(1)).expect("a pool");
    let worker = block_on(pool.apply(End::Not)).expect("an id");
    for how in [EndThread::ByCall, EndThread::ByFilter] {
        let outcome = block_on(pool.apply(Blocking(how)));
        let error = outcome.expect_err("its thread is gone");
        let Some(TaskFault::Panicked(why)) = error.fault() else {
            panic!("{how:?}: {error}");
        };
        assert!(why.contains("exited without returning"), "{how:?}: {why}");
        assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
        assert_eq!(block_on(pool.apply(End::Not)), Ok(worker));
    }
    block_on(pool.join()).expect("it ends");
}

fn first_thread_in_the_initializer() {
    let begun = Instant::now();
    let builder = Pool::builder(1).initializer(Begin);
    let why = block_on(builder.start()).expect_err("it is not ready");
    assert!(why.to_string().contains("in the initializer"), "{why}");
    // Less than a child may take to get ready.
    assert!(begun.elapsed() < Duration::from_secs(30));
}

fn exit_of_a_used_up_worker() {
    let pool = block_on(Pool::builder(1).max_tasks_per_child(1).start()).expect("a pool");
    let one = block_on(pool.apply(HangAtExit { exits: false })).expect("an id");
    let other = block_on(pool.apply(HangAtExit { exits: false })).expect("an id");
    assert_ne!(one, other);
    block_on(pool.join()).expect("it ends");
    for worker in [one, other] {
        let worker = i32::try_from(worker).expect("a process id");
        assert!(!is_running(worker));
    }
}

fn exit_of_an_orphan() {
    for exits in [false, true] {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let parent = Fork::new(|| {
            let pool = block_on(Pool::new(1)).expect("a pool");
            let worker = block_on(pool.apply(End::Not)).expect("an id");
            let hanging = pool.spawn(HangAtExit { exits });
            if exits {
                // The exit runs on the worker's first thread.
                let name = || fs::read_to_string(format!("/proc/{worker}/comm"));
                until("the exit hangs", || {
                    name().is_ok_and(|name| name == "hangs\n")
                });
            } else {
                assert_eq!(block_on(hanging), Ok(worker));
            }
            tell(&writer, i32::try_from(worker).expect("a process id"));
            pause()
        });
        let worker = hear(&mut reader);
        assert!(is_running(worker));
        parent.kill();
        until_within(Duration::from_secs(10), "the worker ends", || {
            !is_running(worker)
        });
    }
}

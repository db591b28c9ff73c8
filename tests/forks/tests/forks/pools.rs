//! Forks of a process that has a pool, and of workers.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    process::{self, Command},
    time::Duration,
};

use futures::StreamExt;
use lockkeeper::{
    Blocking, BlockingTask, CallError, Lock, Manager, Pool, Process, StartError, Task, TaskError,
    block_on, builders::Program, errors::TaskCause,
};
use lockkeeper_test_forks::{
    Fork, clear_environment, detached_threads, hear, is_running, kill, pause, tell, until,
};
use serde::{Deserialize, Serialize};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    ("pools::child_of_the_parent_has_no_pool", child_has_no_pool),
    (
        "pools::drop_in_a_child_leaves_the_thread_of_the_pool_alone",
        drop_leaves_the_thread_alone,
    ),
    (
        "pools::workers_end_with_their_parent_though_a_child_lives",
        workers_end_with_their_parent,
    ),
    ("pools::task_that_forks_has_one_outcome", task_that_forks),
    (
        "pools::copy_of_a_worker_begins_none_of_the_tasks_that_the_worker_has",
        copy_begins_none,
    ),
    (
        "pools::child_of_the_parent_has_no_process",
        child_has_no_process,
    ),
    (
        "pools::task_of_a_process_that_forks_has_one_outcome",
        process_that_forks,
    ),
    (
        "pools::process_ends_with_its_parent_though_a_child_lives",
        process_ends_with_its_parent,
    ),
    (
        "pools::task_that_clears_its_environment_calls_and_starts_on",
        task_that_clears_its_environment,
    ),
];

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Blocking<Double>>()
        .task::<Blocking<Nap>>()
        .task::<Blocking<Split>>()
        .task::<Blocking<Clear>>()
        .task::<Mark>()
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Double(pub(crate) u32);

impl BlockingTask for Double {
    const NAME: &'static str = "double";
    type Output = u32;

    fn run(self) -> u32 {
        2 * self.0
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Nap(pub(crate) Duration);

impl BlockingTask for Nap {
    const NAME: &'static str = "nap";
    type Output = u32;

    fn run(self) -> u32 {
        std::thread::sleep(self.0);
        process::id()
    }
}

/// Forks, and returns in both processes: the id of the child in the parent, and 0 in the child.
#[derive(Serialize, Deserialize)]
struct Split;

impl BlockingTask for Split {
    const NAME: &'static str = "split";
    type Output = i32;

    fn run(self) -> i32 {
        Fork::split().map_or(0, |fork| {
            let pid = fork.pid();
            // Forgets the handle, because dropping it would kill the child.
            std::mem::forget(fork);
            pid
        })
    }
}

/// Adds its number to a file, and may fork as [`Split`] does.
#[derive(Serialize, Deserialize)]
struct Mark {
    number: usize,
    file: PathBuf,
    forks: bool,
}

// On the thread that runs all tasks, of which the copy has a copy.
impl Task for Mark {
    const NAME: &'static str = "mark";
    type Output = usize;

    async fn run(self) -> usize {
        let file = OpenOptions::new().append(true).create(true).open(self.file);
        let line = format!("{}\n", self.number);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the folder is there");
        if self.forks {
            Split.run();
        }
        self.number
    }
}

/// Clears the environment of its worker, and then uses the lock, a manager of its own and another program.
#[derive(Serialize, Deserialize)]
struct Clear(Lock);

impl BlockingTask for Clear {
    const NAME: &'static str = "clear";
    type Output = Result<u32, String>;

    fn run(self) -> Result<u32, String> {
        clear_environment();
        let call = |error: CallError| error.to_string();
        let start = |error: StartError| error.to_string();
        drop(block_on(self.0.acquire()).map_err(call)?);
        for manager in [
            block_on(Manager::start()).map_err(start)?,
            block_on(Manager::spawn()).map_err(start)?,
        ] {
            let lock = block_on(manager.lock()).map_err(call)?;
            drop(block_on(lock.acquire()).map_err(call)?);
        }
        let pool = block_on(Pool::new(1)).map_err(start)?;
        let eight = block_on(pool.apply(Blocking(Double(4))));
        let listed = Command::new("/usr/bin/env").output();
        let listed = listed.map_err(|error| error.to_string())?.stdout;
        assert!(listed.is_empty(), "{listed:?}");
        eight.map_err(|error| error.to_string())
    }
}

fn is_forked<T>(outcome: &Result<T, TaskError>) -> bool {
    let is_fault = |error: &TaskError| {
        let cause = error.cause();
        matches!(cause, TaskCause::Call(CallError::Forked { .. }))
    };
    outcome.as_ref().is_err_and(is_fault)
}

fn child_has_no_pool() {
    let mut pool = Some(block_on(Pool::new(2)).expect("a pool"));
    let there = pool.as_ref().expect("it is there");
    let pids = block_on(there.pids());
    let mut handle = Some(there.spawn(Blocking(Nap(Duration::from_millis(300)))));
    let mut stream = Some(there.imap((0..1000).map(|it| Blocking(Double(it)))));
    let mut chunks = Some(there.imap_unordered((0..10).map(|it| Blocking(Double(it)))));
    block_on(stream.as_mut().expect("once").next());
    Fork::new(|| {
        let pool = pool.take().expect("a copy");
        assert!(is_forked(&block_on(pool.apply(Blocking(Double(1))))));
        assert!(is_forked(&block_on(handle.take().expect("a copy"))));
        assert!(is_forked(&block_on(pool.spawn(Blocking(Double(1))))));
        assert!(is_forked(&block_on(pool.try_map([Blocking(Double(1))]))));
        let mut stream = stream.take().expect("a copy");
        assert!(is_forked(&block_on(stream.next()).expect("an error")));
        assert!(block_on(stream.next()).is_none());
        drop(chunks.take());
        assert!(block_on(pool.status()).is_err());
        assert!(block_on(pool.pids()).is_empty());
        assert!(block_on(pool.close()).is_err());
        assert!(block_on(pool.drain(Duration::ZERO)).is_err());
        block_on(pool.terminate());
    })
    .join();
    Fork::new(|| drop((pool.take(), handle.take(), stream.take()))).join();
    let pool = pool.expect("the parent's");
    block_on(handle.expect("the parent's")).expect("it has run");
    let doubles = block_on(stream.expect("the parent's").collect::<Vec<_>>());
    assert_eq!(doubles.len(), 999);
    assert!(doubles.iter().all(Result::is_ok));
    assert_eq!(block_on(chunks.expect("the parent's").count()), 10);
    assert_eq!(block_on(pool.pids()), pids);
    block_on(pool.join()).expect("it ends");
    // A child can have its own pools.
    Fork::new(|| {
        let pool = block_on(Pool::new(1)).expect("a pool of the child");
        assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
    })
    .join();
}

/// The counters by which the runtimes of this process are woken. They only grow.
fn wake_ups() -> Vec<String> {
    let listed = fs::read_dir("/proc/self/fdinfo").expect("the list of descriptors");
    let texts = listed.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let counters = texts.filter_map(|text| {
        let counter = text
            .lines()
            .find(|line| line.starts_with("eventfd-count"))?;
        Some(counter.to_owned())
    });
    counters.collect()
}

fn drop_leaves_the_thread_alone() {
    let mut pool = Some(block_on(Pool::new(1)).expect("a pool"));
    assert_ne!(wake_ups(), [""; 0]);
    Fork::new(|| {
        let before = (wake_ups(), detached_threads());
        drop(pool.take());
        assert_eq!((wake_ups(), detached_threads()), before);
    })
    .join();
    let pool = pool.expect("the parent's");
    assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
    block_on(pool.join()).expect("it ends");
}

fn workers_end_with_their_parent() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let parent = Fork::new(|| {
        let pool = block_on(Pool::new(2)).expect("a pool");
        let _busy = pool.spawn(Blocking(Nap(Duration::from_secs(600))));
        for pid in block_on(pool.pids()) {
            tell(&writer, i32::try_from(pid).expect("a process id"));
        }
        let child = Fork::new(|| pause());
        tell(writer, child.pid());
        pause()
    });
    let [one, other, child] = [(); 3].map(|()| hear(&mut reader));
    assert!(is_running(one) && is_running(other));
    parent.kill();
    until("the workers end", || !is_running(one) && !is_running(other));
    assert!(is_running(child));
    kill(child);
}

fn task_that_forks() {
    let pool = block_on(Pool::new(1)).expect("a pool");
    let mut children = Vec::new();
    for _ in 0..3 {
        let child = block_on(pool.apply(Blocking(Split))).expect("one outcome");
        assert_ne!(child, 0, "it is the worker's");
        children.push(child);
        assert_eq!(block_on(pool.apply(Blocking(Double(3)))), Ok(6));
    }
    let doubles = block_on(pool.try_map((0..100).map(|it| Blocking(Double(it)))));
    assert_eq!(doubles.expect("all are run").len(), 100);
    block_on(pool.join()).expect("it ends");
    for child in children {
        // The copy of the worker gets no work, and ends.
        until("the copy of the worker ends", || !is_running(child));
    }
}

fn copy_begins_none() {
    for size in [1, 50] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("marks");
        let pool = block_on(Pool::builder(1).chunk_size(size).start()).expect("a pool");
        // So many that the worker has some behind the one that forks.
        let numbers = 0..2000;
        let marks = numbers.clone().map(|number| {
            let (file, forks) = (file.clone(), number == 1010);
            Mark {
                number,
                file,
                forks,
            }
        });
        let done = block_on(pool.try_map(marks)).expect("all are run");
        assert!(done.into_iter().eq(numbers.clone()));
        block_on(pool.join()).expect("it ends");
        let text = fs::read_to_string(&file).expect("a file");
        let marked = text.lines().map(|it| it.parse().expect("a number"));
        let mut marked: Vec<usize> = marked.collect();
        marked.sort_unstable();
        assert!(
            marked.into_iter().eq(numbers),
            "some were run more than once"
        );
    }
}

fn task_that_clears_its_environment() {
    let manager = block_on(Manager::start()).expect("a manager");
    let lock = block_on(manager.lock()).expect("a lock");
    let pool = block_on(Pool::new(1)).expect("a pool");
    for _ in 0..2 {
        let outcome = block_on(pool.apply(Blocking(Clear(lock.clone()))));
        assert_eq!(outcome.expect("an outcome"), Ok(8));
    }
    assert_eq!(block_on(pool.apply(Blocking(Double(3)))), Ok(6));
    block_on(pool.join()).expect("it ends");
}

fn child_has_no_process() {
    let nap = Blocking(Nap(Duration::from_millis(300)));
    let mut process = Some(block_on(Process::spawn(nap)).expect("a process"));
    let pid = process.as_ref().expect("it is there").pid();
    Fork::new(|| {
        let process = process.take().expect("a copy");
        assert!(!process.is_running());
        assert!(matches!(process.kill(), Err(CallError::Forked { .. })));
        assert!(matches!(process.terminate(), Err(CallError::Forked { .. })));
        let waited = block_on(process.wait());
        assert!(matches!(waited, Err(CallError::Forked { .. })));
        assert!(is_forked(&block_on(process.join())));
        // A child can have its own processes.
        let process = block_on(Process::spawn(Blocking(Double(4)))).expect("one of the child");
        assert_eq!(block_on(process.join()), Ok(8));
    })
    .join();
    Fork::new(|| drop(process.take())).join();
    let process = process.expect("the parent's");
    assert!(process.is_running());
    assert_eq!(block_on(process.join()), Ok(pid));
}

fn process_that_forks() {
    let process = block_on(Process::spawn(Blocking(Split))).expect("a process");
    let child = block_on(process.join()).expect("one outcome");
    assert_ne!(child, 0, "it is that of the process");
    until("the copy of the process ends", || !is_running(child));
    // On the main thread of the process.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("marks");
    let mark = Mark {
        number: 7,
        file: file.clone(),
        forks: true,
    };
    let process = block_on(Process::spawn(mark)).expect("a process");
    assert_eq!(block_on(process.join()), Ok(7));
    assert_eq!(fs::read_to_string(&file).expect("a file"), "7\n");
}

fn process_ends_with_its_parent() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let parent = Fork::new(|| {
        let nap = Blocking(Nap(Duration::from_secs(600)));
        let process = block_on(Process::spawn(nap)).expect("a process");
        tell(&writer, i32::try_from(process.pid()).expect("a process id"));
        let child = Fork::new(|| pause());
        tell(writer, child.pid());
        pause()
    });
    let [process, child] = [(); 2].map(|()| hear(&mut reader));
    assert!(is_running(process));
    parent.kill();
    until("the process ends", || !is_running(process));
    assert!(is_running(child));
    kill(child);
}

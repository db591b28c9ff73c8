//! Workers that are killed at random moments while they run short tasks.
//!
//! Each task appends to a log file, which shows the process of each task, and the order.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
    time::Duration,
};

use futures::{Stream, StreamExt, future};
use lockkeeper::{
    Pool, Task, TaskError,
    builders::{PoolBuilder, Program},
    errors::TaskFault,
};
use lockkeeper_test_support::{is_running, kill, seeded};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{pool::basic_tasks::at_once, run};

/// The number of workers that a test kills.
const KILLS: usize = 100;

/// The worker's log file.
static LOG: OnceLock<File> = OnceLock::new();

/// Opens the log file in a worker.
#[derive(Debug, Serialize, Deserialize)]
struct OpenLog(PathBuf);

impl Task for OpenLog {
    const NAME: &'static str = "swear";
    type Output = ();

    async fn run(self) {
        let file = OpenOptions::new().append(true).create(true).open(self.0);
        LOG.get_or_init(|| file.expect("the folder exists"));
    }
}

/// Logs its process and its number, and returns both with a number of bytes.
#[derive(Debug, Serialize, Deserialize)]
struct LogRun(u64, usize);

impl Task for LogRun {
    const NAME: &'static str = "sign";
    type Output = (u32, u64, String);

    async fn run(self) -> (u32, u64, String) {
        let mut line = [0; 12];
        line[..4].copy_from_slice(&process::id().to_be_bytes());
        line[4..].copy_from_slice(&self.0.to_be_bytes());
        // In one write, so that each line is complete.
        let mut log = LOG.get().expect("the initializer has run");
        let written = log.write(&line).expect("the file takes it");
        assert_eq!(written, line.len());
        (process::id(), self.0, "x".repeat(self.1))
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<OpenLog>().task::<LogRun>()
}

/// Reads the log: the numbers that each process wrote, in order.
fn seen(log: &Path) -> BTreeMap<u32, Vec<u64>> {
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for line in fs::read(log).unwrap().chunks(12) {
        let (pid, number) = line.split_first_chunk().unwrap();
        let number = u64::from_be_bytes(number.try_into().unwrap());
        seen.entry(u32::from_be_bytes(*pid))
            .or_default()
            .push(number);
    }
    seen
}

type Outcome = Result<(u32, u64, String), TaskError>;

/// Runs tasks until `KILLS` workers were killed at random moments, and returns the outcomes in
/// order.
async fn run_and_kill(builder: PoolBuilder, log: &Path) -> Vec<Outcome> {
    let mut random = seeded();
    // Some outcomes are large, and are sent in another way.
    let large = random.random_range(20..200);
    let bytes = move |number: u64| {
        if number.is_multiple_of(large) {
            10_000
        } else {
            0
        }
    };
    let pool = builder.initializer(OpenLog(log.to_owned()));
    let pool = pool.start().await.unwrap();
    let is_over = Cell::new(false);
    let latest = RefCell::new(BTreeSet::new());
    let tasks = (0..)
        .take_while(|_| !is_over.get())
        .map(|number| LogRun(number, bytes(number)));
    let outcomes = pool.imap(tasks).inspect(|outcome: &Outcome| {
        if let Ok((pid, ..)) = outcome {
            latest.borrow_mut().insert(*pid);
        }
    });
    let killing = async {
        let mut killed = BTreeSet::new();
        for _ in 0..KILLS {
            let victim = loop {
                // Only workers that were ready are killed: after three workers that do not get
                // ready, a place stays empty.
                let ready = std::mem::take(&mut *latest.borrow_mut());
                let pids = pool.pids().await;
                let is_victim = |pid: &u32| pids.contains(pid) && !killed.contains(pid);
                if let Some(pid) = ready.into_iter().find(is_victim) {
                    break pid;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            tokio::time::sleep(Duration::from_micros(random.random_range(0..10_000))).await;
            kill(victim);
            killed.insert(victim);
        }
        is_over.set(true);
    };
    let (outcomes, ()) = future::join(collect(outcomes), killing).await;
    outcomes
}

/// Collects outcomes, and yields in between: a stream with available outcomes does not.
async fn collect(outcomes: impl Stream<Item = Outcome>) -> Vec<Outcome> {
    let mut outcomes = Box::pin(outcomes);
    let mut all = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        all.push(outcome);
        tokio::task::consume_budget().await;
    }
    all
}

#[test]
fn killed_workers_fail_at_most_one_task_each_and_keep_finished_outcomes() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("witness");
        let outcomes = run_and_kill(Pool::builder(2), &log).await;
        let seen = seen(&log);
        let mut deaths = BTreeMap::new();
        let mut logged: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (number, outcome) in (0..).zip(&outcomes) {
            match outcome {
                Ok((pid, own, _)) => {
                    assert_eq!(*own, number);
                    logged.entry(*pid).or_default().push(number);
                }
                Err(error) if matches!(error.fault(), Some(TaskFault::WorkerDied { .. })) => {
                    let pid = error.pid().unwrap();
                    assert!(!is_running(pid));
                    assert_eq!(error.index(), usize::try_from(number).ok());
                    assert_eq!(deaths.insert(pid, number), None, "{pid} failed two tasks");
                }
                Err(error) => panic!("{number}: {error}"),
            }
        }
        assert!((1..=KILLS).contains(&deaths.len()), "{}", deaths.len());
        let all: BTreeSet<u64> = seen.values().flatten().copied().collect();
        let runs: usize = seen.values().map(Vec::len).sum();
        assert_eq!(runs, all.len(), "a task was run twice");
        for (pid, mut numbers) in seen {
            // Only the last task of a worker may have run without finishing.
            if deaths.get(&pid) == numbers.last() {
                numbers.pop();
            }
            numbers.sort_unstable();
            assert_eq!(logged.remove(&pid).unwrap_or_default(), numbers, "{pid}");
        }
        assert!(logged.is_empty(), "the log does not contain {logged:?}");
    });
}

#[test]
fn tasks_of_killed_workers_are_run_again_and_no_others() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("witness");
        let builder = Pool::builder(2).retry(at_once(1001));
        let outcomes = run_and_kill(builder, &log).await;
        for (number, outcome) in (0..).zip(&outcomes) {
            assert_eq!(outcome.as_ref().map(|(_, own, _)| *own), Ok(number));
        }
        for (pid, numbers) in seen(&log) {
            // Only the last task of a worker has run without finishing.
            let (_, finished) = numbers.split_last().unwrap();
            for number in finished {
                let (by, ..) = outcomes[usize::try_from(*number).unwrap()]
                    .as_ref()
                    .unwrap();
                assert_eq!(*by, pid, "{number} was run again");
            }
        }
    });
}

//! Short tasks, many of which are assigned to a worker at a time, when one of them blocks or dies.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use futures::StreamExt;
use lockkeeper::{Pool, Task, builders::Program, errors::TaskFault};
use lockkeeper_test_support::{is_running, kill};
use serde::{Deserialize, Serialize};

use crate::{
    pool::{actions::close_from, basic_tasks::at_once},
    run,
};

/// So many tasks that most are assigned to a worker before it has run earlier ones.
const MANY: u64 = 3000;

/// The number of the special task.
const ODD: u64 = 1000;

/// Logs its number, and then performs its action.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    number: u64,
    folder: PathBuf,
    action: Action,
}

#[derive(Debug, Serialize, Deserialize)]
enum Action {
    Nothing,
    Die,
    /// Closes all descriptors, so that its worker cannot report it.
    CloseAll,
    /// Blocks the thread until the file is there.
    AwaitFile,
    MakeFile,
}

impl Entry {
    fn new(number: u64, folder: &Path, action: Action) -> Self {
        let folder = folder.to_owned();
        Self {
            number,
            folder,
            action,
        }
    }
}

impl Task for Entry {
    const NAME: &'static str = "entry";
    type Output = u64;

    async fn run(self) -> u64 {
        let line = format!("{}\n", self.number);
        let log = self.folder.join("log");
        let log = OpenOptions::new().append(true).create(true).open(log);
        let written = log.and_then(|mut log| log.write_all(line.as_bytes()));
        written.expect("the folder exists");
        let file = self.folder.join("file");
        match self.action {
            Action::Nothing => {}
            Action::Die => kill(process::id()),
            Action::CloseAll => close_from(0),
            Action::AwaitFile => {
                while !file.exists() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Action::MakeFile => fs::write(file, "").expect("the folder exists"),
        }
        self.number
    }
}

/// Does nothing for low numbers. From a number on it logs its number and takes some time.
#[derive(Debug, Serialize, Deserialize)]
struct Nap(Entry);

impl Task for Nap {
    const NAME: &'static str = "pool::short_tasks::nap";
    type Output = u64;

    async fn run(self) -> u64 {
        let Self(entry) = self;
        if entry.number < MANY {
            return entry.number;
        }
        // Short enough that later tasks are not handed back.
        thread::sleep(Duration::from_millis(1));
        entry.run().await
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Entry>().task::<Nap>()
}

/// Returns how often each number was logged.
fn runs(folder: &Path) -> BTreeMap<u64, usize> {
    let log = fs::read_to_string(folder.join("log")).unwrap();
    let mut runs = BTreeMap::new();
    for line in log.lines() {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    runs
}

/// Runs many short tasks, of which one loses its worker. It alone fails, and each is run once.
async fn assert_only_the_odd_one_fails(action: fn() -> Action) {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::new(2).await.unwrap();
    let tasks = (0..MANY).map(|number| {
        let action = if number == ODD {
            action()
        } else {
            Action::Nothing
        };
        Entry::new(number, folder.path(), action)
    });
    let outcomes: Vec<_> = pool.imap(tasks).collect().await;
    for (number, outcome) in (0..MANY).zip(&outcomes) {
        match outcome {
            Err(error) if matches!(error.fault(), Some(TaskFault::WorkerDied { .. })) => {
                assert!(number == ODD && !is_running(error.pid().unwrap()));
            }
            outcome => assert_eq!(outcome, &Ok(number)),
        }
    }
    assert!(outcomes[1000].is_err(), "its process has ended in it");
    let mut runs = runs(folder.path());
    runs.retain(|_, times| *times != 1);
    assert_eq!(runs, BTreeMap::new(), "these were run more than once");
}

#[test]
fn killed_worker_fails_only_the_short_task_that_it_ran_and_none_is_run_twice() {
    run(assert_only_the_odd_one_fails(|| Action::Die));
}

#[test]
fn worker_that_cannot_report_a_short_task_begins_none_behind_it() {
    run(assert_only_the_odd_one_fails(|| Action::CloseAll));
}

#[test]
fn only_the_running_short_task_of_a_killed_worker_is_retried() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::builder(2).retry(at_once(3)).start().await.unwrap();
        let tasks = (0..MANY).map(|number| {
            let action = if number == ODD {
                Action::Die
            } else {
                Action::Nothing
            };
            Entry::new(number, folder.path(), action)
        });
        let outcomes: Vec<_> = pool.imap(tasks).collect().await;
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.is_err()).count(),
            1
        );
        for (number, times) in runs(folder.path()) {
            assert_eq!(times, if number == ODD { 3 } else { 1 }, "{number}");
        }
    });
}

#[test]
fn short_tasks_after_a_blocking_one_are_run_by_another_worker() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::new(2).await.unwrap();
        // The task that ends the wait may be assigned to the same worker, after the waiting one.
        let tasks = (0..MANY).map(|number| {
            let action = match number {
                ODD => Action::AwaitFile,
                number if number == ODD + 1 => Action::MakeFile,
                _ => Action::Nothing,
            };
            Entry::new(number, folder.path(), action)
        });
        let outcomes = pool.try_map(tasks).await.unwrap();
        assert_eq!(outcomes, (0..MANY).collect::<Vec<_>>());
        assert!(runs(folder.path()).values().all(|times| *times == 1));
    });
}

#[test]
fn replaced_worker_hands_back_unbegun_tasks() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::builder(2)
            .max_tasks_per_child(400)
            .start()
            .await
            .unwrap();
        let first = pool.pids().await;
        let tasks = (0..MANY).map(|number| Entry::new(number, folder.path(), Action::Nothing));
        let outcomes = pool.try_map(tasks).await.unwrap();
        assert_eq!(outcomes, (0..MANY).collect::<Vec<_>>());
        assert!(runs(folder.path()).values().all(|times| *times == 1));
        assert!(pool.pids().await.iter().all(|pid| !first.contains(pid)));
    });
}

#[test]
fn outcomes_are_sent_while_slower_tasks_follow() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::new(1).await.unwrap();
        // The worker takes many tasks at a time by then.
        let tasks =
            (0..MANY + 60).map(|number| Nap(Entry::new(number, folder.path(), Action::Nothing)));
        let mut outcomes = pool.imap(tasks);
        while outcomes.next().await.unwrap().unwrap() != MANY {}
        let begun = runs(folder.path()).len();
        assert!(
            begun < 16,
            "{begun} tasks were begun before the first outcome arrived"
        );
        while let Some(outcome) = outcomes.next().await {
            outcome.unwrap();
        }
        assert_eq!(runs(folder.path()).len(), 60);
    });
}

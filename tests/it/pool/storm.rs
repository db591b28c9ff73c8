//! Thousands of tasks with limits, kills, panics, deaths and retries at once: each has exactly one outcome, each
//! attempt is begun at most once, and no process is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
    time::Duration,
};

use futures::{StreamExt, future};
use lockkeeper::{
    Pool, Retry, Task, TaskError, TaskHandle, builders::Program, errors::TaskFault, task::attempt,
};
use lockkeeper_test_support::{children_of, in_own_process, is_running, kill, seeded};
use rand::{Rng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::run;

const TASKS: u32 = 10_000;

/// The workers that are killed from outside.
const KILLS: usize = 12;

const ATTEMPTS: u32 = 3;

/// The limit of tasks that hang.
const LIMIT: Duration = Duration::from_millis(60);

static LOG: OnceLock<File> = OnceLock::new();

/// An initializer that opens the log of all attempts.
#[derive(Debug, Serialize, Deserialize)]
struct OpenStormLog(PathBuf);

impl Task for OpenStormLog {
    const NAME: &'static str = "open_storm_log";
    type Output = ();

    async fn run(self) {
        let log = File::options().create(true).append(true).open(self.0);
        LOG.get_or_init(|| log.expect("the folder exists"));
    }
}

/// What a task does in its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Deed {
    Quick,
    Short(Duration),
    Panics,
    PanicsOnce,
    IsBusyOnce,
    DiesOnce,
    /// Until its limit.
    Hangs,
    /// Until its handle kills it.
    Waits,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Storm {
    number: u32,
    deed: Deed,
}

impl Task for Storm {
    const NAME: &'static str = "storm";
    /// The number of the task and of the attempt, or that it was busy.
    type Output = Result<(u32, u32), u32>;

    async fn run(self) -> Self::Output {
        let (number, attempt) = (self.number, attempt());
        let mut log = LOG.get().expect("the initializer has run");
        // One write: others append to the file too.
        let line = format!("{number} {attempt}\n");
        log.write_all(line.as_bytes()).expect("the disk has room");
        match self.deed {
            Deed::Short(time) => tokio::time::sleep(time).await,
            Deed::Panics => panic!("on purpose"),
            Deed::PanicsOnce if attempt == 1 => panic!("on purpose"),
            Deed::IsBusyOnce if attempt == 1 => return Err(number),
            Deed::DiesOnce if attempt == 1 => {
                kill(process::id());
                future::pending().await
            }
            Deed::Hangs | Deed::Waits => future::pending().await,
            Deed::Quick | Deed::PanicsOnce | Deed::IsBusyOnce | Deed::DiesOnce => {}
        }
        Ok((number, attempt))
    }

    fn time_limit(&self) -> Option<Duration> {
        (self.deed == Deed::Hangs).then_some(LIMIT)
    }

    fn is_transient(output: &Self::Output) -> bool {
        output.is_err()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<OpenStormLog>().task::<Storm>()
}

fn draw(random: &mut StdRng, number: u32) -> Storm {
    let deed = match random.random_range(0..1000) {
        0..4 => Deed::Hangs,
        4..8 => Deed::DiesOnce,
        8..20 => Deed::Panics,
        20..40 => Deed::PanicsOnce,
        40..80 => Deed::IsBusyOnce,
        80..110 => Deed::Short(Duration::from_micros(random.random_range(0..8000))),
        _ => Deed::Quick,
    };
    Storm { number, deed }
}

type Outcome = Result<Result<(u32, u32), u32>, TaskError>;

type Handle = TaskHandle<Result<(u32, u32), u32>>;

/// Checks an outcome, and returns the number of its last attempt if it is known.
fn check(Storm { number, deed }: Storm, is_killed: bool, outcome: &Outcome) -> &'static str {
    let error = match outcome {
        Ok(output) => {
            assert!(
                !matches!(deed, Deed::Hangs | Deed::Waits | Deed::Panics),
                "{number} {deed:?}"
            );
            let (own, attempt) = output.unwrap_or((number, ATTEMPTS));
            assert_eq!(own, number);
            assert!((1..=ATTEMPTS).contains(&attempt));
            return "done";
        }
        Err(error) => error,
    };
    assert_eq!(error.task(), "storm");
    assert!(error.attempts() <= ATTEMPTS, "{error}");
    match error.fault() {
        Some(TaskFault::Killed) => {
            assert!(is_killed, "{number}: {error}");
            "killed"
        }
        Some(TaskFault::TimeLimit(limit)) => {
            assert_eq!((deed, *limit), (Deed::Hangs, LIMIT), "{number}: {error}");
            assert!(error.ran().unwrap() >= LIMIT, "{error}");
            "limited"
        }
        Some(TaskFault::Panicked(_)) => {
            let is_last = error.attempts() == ATTEMPTS || is_killed;
            assert!(
                matches!(deed, Deed::Panics | Deed::PanicsOnce) && is_last,
                "{number}: {error}"
            );
            "panicked"
        }
        // The last attempt was killed from outside.
        Some(TaskFault::WorkerDied { .. }) => {
            assert_eq!(error.attempts(), ATTEMPTS, "{number}: {error}");
            assert!(!is_running(error.pid().unwrap()));
            "died"
        }
        _ => panic!("{number} {deed:?}: {error}"),
    }
}

/// Kills tasks by their handles at random moments.
async fn kill_tasks(handles: &[(Storm, Handle)], seed: u64) -> BTreeSet<u32> {
    let mut random: StdRng = rand::SeedableRng::seed_from_u64(seed);
    let mut killed = BTreeSet::new();
    for (task, handle) in handles {
        if task.deed == Deed::Waits || random.random_ratio(1, 100) {
            let pause = Duration::from_micros(random.random_range(0..20_000));
            tokio::time::sleep(pause).await;
            handle.kill();
            if random.random_bool(0.2) {
                handle.kill();
            }
            killed.insert(task.number);
        }
    }
    killed
}

/// Kills workers that were ready at random moments.
async fn kill_workers(pool: &Pool, seed: u64) {
    let mut random: StdRng = rand::SeedableRng::seed_from_u64(seed);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_micros(random.random_range(0..100_000))).await;
        // Only a worker with a task is known to have been ready.
        let tasks = pool.status().await.unwrap().tasks;
        if let Some(task) = tasks.get(random.random_range(0..4)) {
            kill(task.pid);
        }
    }
}

fn assert_each_attempt_is_begun_once(log: &Path) -> usize {
    let mut begun: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let lines = fs::read_to_string(log).unwrap();
    for line in lines.lines() {
        let (number, attempt) = line.split_once(' ').unwrap();
        begun
            .entry(number.parse().unwrap())
            .or_default()
            .push(attempt.parse().unwrap());
    }
    for (number, attempts) in &begun {
        assert!(
            attempts.is_sorted_by(|first, second| first < second),
            "{number}: {attempts:?}"
        );
        assert!(attempts.iter().all(|attempt| *attempt <= ATTEMPTS));
    }
    lines.lines().count()
}

#[test]
fn storm_of_limits_kills_panics_and_retries_gives_each_task_one_outcome() {
    in_own_process(|| run(storm()));
}

async fn storm() {
    let mut random = seeded();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let retry = Retry::attempts(ATTEMPTS).panics();
    let retry = retry.backoff(Duration::from_millis(2), Duration::from_millis(8));
    let builder = Pool::builder(3)
        .retry(retry)
        .initializer(OpenStormLog(log.clone()));
    let pool = builder.start().await.unwrap();
    let mut all: Vec<Storm> = (0..TASKS).map(|number| draw(&mut random, number)).collect();
    let streamed = all.split_off(all.len() / 2);
    for task in &mut all {
        if random.random_ratio(1, 250) {
            task.deed = Deed::Waits;
        }
    }
    let handles: Vec<_> = all.iter().map(|task| (*task, pool.spawn(*task))).collect();
    let stream = pool.imap_unordered(streamed.clone());
    let seeds: [u64; 2] = [random.random(), random.random()];
    let streaming = stream.collect::<Vec<_>>();
    let (outcomes, killed, ()) = tokio::join!(
        streaming,
        kill_tasks(&handles, seeds[0]),
        kill_workers(&pool, seeds[1])
    );
    let mut tally: BTreeMap<&str, u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (index, outcome) in outcomes {
        assert!(seen.insert(index), "{index} has two outcomes");
        assert!(
            outcome
                .as_ref()
                .err()
                .is_none_or(|error| error.index() == Some(index))
        );
        *tally
            .entry(check(streamed[index], false, &outcome))
            .or_default() += 1;
    }
    assert_eq!(seen.len(), streamed.len());
    for (task, handle) in handles {
        let is_killed = killed.contains(&task.number);
        *tally
            .entry(check(task, is_killed, &handle.await))
            .or_default() += 1;
    }
    println!(
        "{tally:?}, {} attempts",
        assert_each_attempt_is_begun_once(&log)
    );
    for what in ["done", "killed", "limited", "panicked"] {
        assert!(tally.contains_key(what), "{tally:?}");
    }
    let status = pool.status().await.unwrap();
    assert_eq!(
        (status.waiting, status.running, status.missing_workers),
        (0, 0, 0)
    );
    pool.join().await.unwrap();
    let left = children_of(process::id());
    assert!(!left.iter().any(|pid| is_running(*pid)), "{left:?}");
}

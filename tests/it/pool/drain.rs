//! The drain of a pool: which tasks run, end themselves, are ended or are given back, each with one outcome.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs::{self, OpenOptions},
    future::pending,
    io::Write,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use futures::{StreamExt, future::join_all, poll};
use lockkeeper::{
    Blocking, BlockingTask, Event, Lock, Manager, Pool, Task, TaskError, TaskHandle, block_on,
    builders::Program,
    errors::{TaskFault, WorkerExit},
    task::{is_stopping, stopping},
};
use lockkeeper_test_support::{is_running, kill, seeded, stop, until};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    pool::{
        actions::Action,
        basic_tasks::{Who, at_once},
    },
    run,
};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// Waits until it can acquire the lock, and returns the process id of its worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WaitsForLock(Lock);

impl Task for WaitsForLock {
    const NAME: &'static str = "drain::waits";
    type Output = u32;

    async fn run(self) -> u32 {
        let _guard = self.0.acquire().await.unwrap();
        process::id()
    }
}

/// Ends when it is asked to, in one of three ways, and returns the number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct EndsWhenAsked(u32);

impl Task for EndsWhenAsked {
    const NAME: &'static str = "drain::ends_when_asked";
    type Output = u32;

    async fn run(self) -> u32 {
        match self.0 {
            0 => stopping().await,
            // It blocks the thread of the tasks.
            1 => {
                while !is_stopping() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {
                let plain = thread::spawn(|| block_on(stopping()));
                plain.join().unwrap();
            }
        }
        self.0
    }
}

/// Sets the event, and never ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NeverEnds(Event);

impl Task for NeverEnds {
    const NAME: &'static str = "drain::never_ends";
    type Output = ();

    async fn run(self) {
        self.0.set().await.unwrap();
        pending().await
    }
}

/// Starts a pool of one worker, whose task has begun and never ends.
async fn endless_in_a_pool() -> (Manager, Pool, TaskHandle<()>) {
    let manager = Manager::start().await.unwrap();
    let has_begun = manager.event().await.unwrap();
    let pool = Pool::new(1).await.unwrap();
    let endless = pool.spawn(NeverEnds(has_begun.clone()));
    has_begun.wait().await.unwrap();
    (manager, pool, endless)
}

/// Adds its number to a file, and takes some microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Marks {
    number: usize,
    file: PathBuf,
    micros: u64,
}

impl BlockingTask for Marks {
    const NAME: &'static str = "drain::marks";
    type Output = usize;

    fn run(self) -> usize {
        let mut file = OpenOptions::new().append(true).open(&self.file).unwrap();
        file.write_all(format!("{}\n", self.number).as_bytes())
            .unwrap();
        thread::sleep(Duration::from_micros(self.micros));
        self.number
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<WaitsForLock>()
        .task::<EndsWhenAsked>()
        .task::<NeverEnds>()
        .task::<Blocking<Marks>>()
}

/// Checks that a task did not run.
#[track_caller]
fn assert_not_run<T: Debug>(outcome: Result<T, TaskError>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.fault(), Some(&TaskFault::NotRun));
    assert_eq!(
        (error.attempts(), error.ran(), error.pid()),
        (0, None, None)
    );
}

/// Checks that a task was begun and then ended.
#[track_caller]
fn assert_terminated<T: Debug>(outcome: Result<T, TaskError>) {
    assert_eq!(outcome.unwrap_err().fault(), Some(&TaskFault::Terminated));
}

async fn until_jobs(pool: &Pool, running: u64, waiting: u64) {
    until("the expected numbers of tasks run and wait", || async {
        let status = pool.status().await.unwrap();
        (status.running, status.waiting) == (running, waiting)
    })
    .await;
}

async fn until_drained(pool: &Pool, pids: &[u32]) {
    until("the workers have ended", || async {
        !pids.iter().any(|pid| is_running(*pid)) && pool.pids().await.is_empty()
    })
    .await;
}

#[test]
fn drain_gives_back_what_waits_and_lets_what_runs_end() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let pids = pool.pids().await;
        let running = pool.spawn(WaitsForLock(lock.clone()));
        until_jobs(&pool, 1, 0).await;
        let waiting: Vec<_> = (0..3).map(|_| pool.spawn(Who)).collect();
        let mut stream = Box::pin(pool.imap((0..10).map(|_| Who)));
        assert!(poll!(stream.next()).is_pending());
        let apply = pool.apply(Who);
        let drain = pool.drain(LONG);
        let rest = async {
            for task in waiting {
                assert_not_run(task.await);
            }
            let outcomes: Vec<_> = stream.collect().await;
            assert_eq!(outcomes.len(), 10);
            outcomes.into_iter().for_each(assert_not_run);
            // It is submitted after the drain began.
            assert_not_run(apply.await);
            assert!(!running.is_finished());
            guard.release().await.unwrap();
            assert_eq!(running.await, Ok(pids[0]));
        };
        let (drained, ()) = tokio::join!(drain, rest);
        drained.unwrap();
        assert!(!pids.iter().any(|pid| is_running(*pid)));
        assert_not_run(pool.apply(Who).await);
        assert_eq!(pool.pids().await, [0; 0]);
        pool.close().await.unwrap();
        pool.join().await.unwrap();
    });
}

#[test]
fn idle_pool_is_drained_at_once() {
    run(async {
        let pool = Pool::new(3).await.unwrap();
        let pids = pool.pids().await;
        pool.drain(LONG).await.unwrap();
        assert!(!pids.into_iter().any(is_running));
        // Once more, there is nothing to do.
        pool.drain(LONG).await.unwrap();
        pool.drain(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn long_task_ends_itself_when_its_pool_is_drained() {
    run(async {
        let pool = Pool::new(3).await.unwrap();
        let tasks: Vec<_> = (0..3).map(|way| pool.spawn(EndsWhenAsked(way))).collect();
        until_jobs(&pool, 3, 0).await;
        pool.drain(LONG).await.unwrap();
        let outcomes = join_all(tasks).await;
        assert_eq!(outcomes, [Ok(0), Ok(1), Ok(2)]);
    });
}

#[test]
fn what_runs_at_the_deadline_is_ended() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for limit in [Duration::from_millis(300), Duration::ZERO] {
            let has_begun = manager.event().await.unwrap();
            let pool = Pool::new(2).await.unwrap();
            let pids = pool.pids().await;
            let endless = pool.spawn(NeverEnds(has_begun.clone()));
            has_begun.wait().await.unwrap();
            let other = pool.spawn(NeverEnds(has_begun.clone()));
            until_jobs(&pool, 2, 0).await;
            // A stopped worker takes no request.
            stop(pids[1]).await;
            let waiting = pool.spawn(Who);
            until_jobs(&pool, 2, 1).await;
            pool.drain(limit).await.unwrap();
            assert!(!pids.iter().any(|pid| is_running(*pid)), "{limit:?}");
            assert_terminated(endless.await);
            assert_terminated(other.await);
            assert_not_run(waiting.await);
        }
    });
}

#[test]
fn drain_within_a_drain_ends_both_at_the_first_deadline() {
    run(async {
        let (_manager, pool, endless) = endless_in_a_pool().await;
        let mut first = Box::pin(pool.drain(LONG));
        assert!(poll!(&mut first).is_pending());
        pool.drain(Duration::from_millis(50)).await.unwrap();
        first.await.unwrap();
        assert_terminated(endless.await);
    });
}

#[test]
fn drain_after_close_gives_back_what_waits() {
    run(async {
        let (_manager, pool, endless) = endless_in_a_pool().await;
        let waiting = pool.spawn(Who);
        until_jobs(&pool, 1, 1).await;
        pool.close().await.unwrap();
        assert!(!waiting.is_finished());
        pool.drain(Duration::ZERO).await.unwrap();
        assert_not_run(waiting.await);
        assert_terminated(endless.await);
    });
}

#[test]
fn drain_goes_on_without_its_future() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let has_begun = manager.event().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let pids = pool.pids().await;
        // A drain that was never polled has no effect.
        drop(pool.drain(Duration::ZERO));
        let endless = pool.spawn(NeverEnds(has_begun.clone()));
        has_begun.wait().await.unwrap();
        let waiting = pool.spawn(Who);
        {
            let mut drain = Box::pin(pool.drain(Duration::from_millis(50)));
            assert!(poll!(&mut drain).is_pending());
        }
        assert_not_run(waiting.await);
        assert_terminated(endless.await);
        until_drained(&pool, &pids).await;
    });
}

#[test]
fn pool_may_be_dropped_while_it_is_drained() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let pids = pool.pids().await;
        let endless = pool.spawn(Blocking(Marks {
            number: 0,
            file: "/dev/null".into(),
            micros: u64::MAX,
        }));
        until_jobs(&pool, 1, 0).await;
        {
            let mut drain = Box::pin(pool.drain(LONG));
            assert!(poll!(&mut drain).is_pending());
        }
        drop(pool);
        assert!(!pids.into_iter().any(is_running));
        assert_terminated(endless.await);
    });
}

#[test]
fn task_of_a_worker_that_dies_in_a_drain_is_not_run_again() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let has_begun = manager.event().await.unwrap();
        let pool = Pool::builder(1).retry(at_once(6)).start().await.unwrap();
        let pids = pool.pids().await;
        let endless = pool.spawn(NeverEnds(has_begun.clone()));
        has_begun.wait().await.unwrap();
        let mut drain = Box::pin(pool.drain(LONG));
        assert!(poll!(&mut drain).is_pending());
        // The outcome of this task shows that the queue is being drained.
        assert_not_run(pool.apply(Who).await);
        kill(pids[0]);
        drain.await.unwrap();
        let error = endless.await.unwrap_err();
        assert_eq!(error.exit(), Some(WorkerExit::Signal(9)));
        assert_eq!((error.pid(), error.attempts()), (Some(pids[0]), 1));
    });
}

#[test]
fn tasks_that_end_their_process_in_a_drain_have_one_outcome() {
    run(async {
        for action in [
            Action::Abort,
            Action::ExitOnThread,
            Action::CloseAndStay,
            Action::CloseAndBlock,
            Action::CloseAndReturn,
        ] {
            let pool = Pool::new(2).await.unwrap();
            let pids = pool.pids().await;
            let tasks: Vec<_> = (0..4).map(|_| pool.spawn(action)).collect();
            pool.drain(LONG).await.unwrap();
            assert!(!pids.into_iter().any(is_running), "{action:?}");
            for outcome in join_all(tasks).await {
                match outcome.unwrap_err().fault() {
                    Some(TaskFault::WorkerDied { .. } | TaskFault::NotRun) => {}
                    other => panic!("{action:?}: {other:?}"),
                }
            }
        }
    });
}

#[test]
fn stopped_idle_worker_does_not_block_a_drain() {
    run(async {
        let pool = Pool::new(2).await.unwrap();
        until("all workers are idle", || async {
            pool.status().await.unwrap().idle == 2
        })
        .await;
        let pids = pool.pids().await;
        stop(pids[0]).await;
        pool.drain(LONG).await.unwrap();
        assert!(!pids.into_iter().any(is_running));
    });
}

/// The numbers that tasks have added to a file.
fn marks(file: &Path) -> Vec<usize> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Drains pools with many short tasks at random moments. Checks that exactly those tasks have run whose outcome says so.
#[test]
fn outcomes_of_a_drain_at_any_moment_say_which_tasks_have_run() {
    run(async {
        let mut random = seeded();
        let (mut ran, mut returned) = (0, 0);
        for round in 0..24 {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("marks");
            fs::write(&file, "").unwrap();
            let is_deadly = round % 3 == 2;
            let chunk = [1, 1, 40][round % 3];
            let builder = Pool::builder(3).chunk_size(chunk);
            let pool = builder.start().await.unwrap();
            let pids = pool.pids().await;
            let micros = [0, 50, 3000][random.random_range(0..3)];
            let task = |number| {
                let file = file.clone();
                Blocking(Marks {
                    number,
                    file,
                    micros,
                })
            };
            let single: Vec<_> = (0..100).map(|number| pool.spawn(task(number))).collect();
            let stream = pool.imap((100..1000).map(task)).collect::<Vec<_>>();
            // Only the times are random.
            let moment = Duration::from_micros(random.random_range(0..30_000));
            let limit = Duration::from_millis([0, 1, 20_000][random.random_range(0..3)]);
            let victim = is_deadly.then(|| pids[random.random_range(0..3)]);
            let drain = async {
                tokio::time::sleep(moment).await;
                if let Some(victim) = victim {
                    kill(victim);
                }
                pool.drain(limit).await.unwrap();
            };
            let (outcomes, stream, ()) = tokio::join!(join_all(single), stream, drain);
            assert!(!pids.iter().any(|pid| is_running(*pid)));
            assert_eq!(outcomes.len() + stream.len(), 1000);
            let marked = marks(&file);
            let distinct: BTreeSet<_> = marked.iter().copied().collect();
            assert_eq!(marked.len(), distinct.len(), "a task has run twice");
            for (number, outcome) in outcomes.into_iter().chain(stream).enumerate() {
                let error = match outcome {
                    Ok(output) => {
                        assert_eq!(output, number);
                        assert!(distinct.contains(&number), "{number} has not run");
                        ran += 1;
                        continue;
                    }
                    Err(error) => error,
                };
                match error.fault() {
                    Some(TaskFault::NotRun) => {
                        assert!(!distinct.contains(&number), "{number} has run");
                        returned += 1;
                    }
                    // It may have run or not.
                    Some(TaskFault::Terminated) => assert!(limit < Duration::from_secs(1)),
                    Some(TaskFault::WorkerDied { .. }) => assert!(is_deadly),
                    _ => panic!("{number}: {error}"),
                }
            }
        }
        println!("{ran} have run, {returned} were given back");
        assert!(ran > 0 && returned > 0, "both occur");
    });
}

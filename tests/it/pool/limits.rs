//! Time limits and kills of tasks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::{Duration, Instant},
};

use futures::StreamExt;
use lockkeeper::{
    Blocking, BlockingTask, CallError, Lock, Manager, Pool, Retry, Semaphore, StartError, Task,
    TaskError,
    builders::Program,
    errors::{Fault, TaskCause, TaskFault, WorkerExit},
};
use lockkeeper_test_support::{is_running, signal, until};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{
    pool::{
        actions::close_from,
        basic_tasks::{Who, at_once},
    },
    run,
};

/// Does not end by itself, in one of several ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Endless {
    Waits,
    /// Blocks the thread of the worker.
    Computes,
    Holds(Lock),
    /// Stops its own process.
    Stops,
    ClosesAll,
    /// Starts processes that start others, and writes their numbers into a file.
    Starts(PathBuf),
    /// Writes until its process may write no more.
    FillsDisk(PathBuf),
}

impl Task for Endless {
    const NAME: &'static str = "endless";
    type Output = ();

    async fn run(self) {
        let _held = match self {
            Self::Waits => None,
            Self::Computes => loop {
                std::hint::spin_loop();
            },
            Self::Holds(lock) => Some(lock.acquire().await.expect("the lock is free")),
            Self::Stops => {
                signal(process::id(), Signal::STOP);
                None
            }
            Self::ClosesAll => {
                close_from(0);
                None
            }
            Self::Starts(file) => {
                let script = format!(
                    "sleep 1000 & echo $! >> {0}; sh -c 'sleep 1000 & echo $! >> {0}; echo end >> {0}; wait' & wait",
                    file.display()
                );
                let mut shell = Command::new("sh");
                drop(shell.args(["-c", &script]).spawn().expect("a shell"));
                None
            }
            Self::FillsDisk(file) => {
                let most = Rlimit {
                    current: Some(1 << 16),
                    maximum: Some(1 << 16),
                };
                setrlimit(Resource::Fsize, most).expect("a lower limit");
                let page = [7; 1 << 12];
                let mut file = fs::File::create(file).expect("a file");
                while std::io::Write::write_all(&mut file, &page).is_ok() {}
                None
            }
        };
        std::future::pending::<()>().await;
    }
}

/// Takes that long, within a limit of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Nap {
    time: Duration,
    limit: Option<Duration>,
}

impl BlockingTask for Nap {
    const NAME: &'static str = "limited_nap";
    type Output = u32;

    fn run(self) -> u32 {
        std::thread::sleep(self.time);
        process::id()
    }

    fn time_limit(&self) -> Option<Duration> {
        self.limit
    }
}

/// Adds a permit, and then takes one of another semaphore.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pass(Semaphore, Semaphore);

impl Task for Pass {
    const NAME: &'static str = "pass";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        self.0.add_permits(1).await?;
        self.1.consume(1).await?;
        Ok(process::id())
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Endless>()
        .task::<Blocking<Nap>>()
        .task::<Pass>()
}

const LIMIT: Duration = Duration::from_millis(200);

/// A time that no test takes.
const EVER: Duration = Duration::from_secs(600);

fn nap(time: Duration, limit: Option<Duration>) -> Blocking<Nap> {
    Blocking(Nap { time, limit })
}

/// Asserts that a task was killed at its limit, in its first attempt.
#[track_caller]
fn assert_limited<T>(outcome: Result<T, TaskError>, limit: Duration) -> TaskError {
    let error = outcome.err().expect("it has no end");
    assert_eq!(error.fault(), Some(&TaskFault::TimeLimit(limit)), "{error}");
    assert_eq!(error.attempts(), 1);
    assert!(error.ran().unwrap() >= limit, "{error}");
    assert!(!is_running(error.pid().unwrap()), "{error}");
    let told = error.to_string();
    assert!(
        told.contains(&format!("its time limit of {limit:?}")),
        "{told}"
    );
    error
}

async fn until_runs(pool: &Pool, tasks: usize) {
    until("the tasks run", || async {
        pool.status().await.unwrap().tasks.len() == tasks
    })
    .await;
}

/// Acquires a lock, and returns the process that died with it.
async fn dead_holder(lock: &Lock) -> u32 {
    let guard = lock.acquire().await.unwrap();
    guard.abandoned().unwrap().holder.pid
}

#[test]
fn task_over_its_limit_ends_alone_and_what_it_held_comes_back() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        for chunk in [1, 4] {
            let builder = Pool::builder(2).chunk_size(chunk).time_limit(LIMIT);
            let pool = builder.start().await.unwrap();
            let before = pool.pids().await;
            let endless = pool.spawn(Endless::Holds(lock.clone()));
            let neighbours = pool.map((0..200).map(|_| Who)).await;
            let error = assert_limited(endless.await, LIMIT);
            assert_eq!((error.task(), error.index()), ("endless", None));
            let dead = error.pid().unwrap();
            let left = dead_holder(&lock).await;
            assert_eq!(left, dead);
            for neighbour in neighbours {
                assert_ne!(neighbour.unwrap(), dead);
            }
            until("another worker is in its place", || async {
                let now = pool.pids().await;
                now.len() == 2 && !now.contains(&dead)
            })
            .await;
            let other = before.into_iter().find(|pid| *pid != dead).unwrap();
            assert!(is_running(other), "the neighbour runs on");
            pool.join().await.unwrap();
        }
    });
}

#[test]
fn tasks_behind_one_that_is_killed_run_elsewhere_also_in_chunks() {
    run(async {
        for chunk in [1, 5] {
            let pool = Pool::builder(2).chunk_size(chunk).time_limit(LIMIT).start();
            let pool = pool.await.unwrap();
            let tasks = (0..60).map(|number| match number {
                7 | 31 => nap(EVER, None),
                _ => nap(Duration::ZERO, None),
            });
            let outcomes: Vec<_> = pool.imap(tasks).collect().await;
            assert_eq!(outcomes.len(), 60);
            for (number, outcome) in outcomes.into_iter().enumerate() {
                match number {
                    7 | 31 => {
                        let error = assert_limited(outcome, LIMIT);
                        assert_eq!(error.index(), Some(number));
                    }
                    _ => assert!(outcome.is_ok(), "{number}: {outcome:?}"),
                }
            }
        }
    });
}

#[test]
fn limit_ends_a_task_whatever_it_does() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let started = folder.path().join("started");
        let pool = Pool::builder(2)
            .time_limit(2 * LIMIT)
            .start()
            .await
            .unwrap();
        for endless in [
            Endless::Waits,
            Endless::Computes,
            Endless::Stops,
            Endless::Starts(started.clone()),
        ] {
            assert_limited(pool.apply(endless).await, 2 * LIMIT);
            assert!(pool.apply(Who).await.is_ok());
        }
        assert_none_runs(&started).await;
        // These lose their worker before the limit.
        let error = pool.apply(Endless::ClosesAll).await.unwrap_err();
        assert!(
            matches!(error.fault(), Some(TaskFault::WorkerDied { .. })),
            "{error}"
        );
        let full = folder.path().join("full");
        let error = pool.apply(Endless::FillsDisk(full)).await.unwrap_err();
        let signal = Signal::XFSZ.as_raw();
        assert_eq!(error.exit(), Some(WorkerExit::Signal(signal)), "{error}");
        let pids = pool.pids().await;
        pool.join().await.unwrap();
        assert!(!pids.iter().any(|pid| is_running(*pid)));
    });
}

/// Waits until all processes have ended whose numbers are in a file.
async fn assert_none_runs(file: &Path) {
    let started = fs::read_to_string(file).unwrap();
    let pids: Vec<u32> = started
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    assert_eq!(pids.len(), 2, "{started}");
    until("what the task has started has ended", || async {
        !pids.iter().any(|pid| is_running(*pid))
    })
    .await;
}

#[test]
fn task_has_a_limit_of_its_own_in_place_of_the_pools() {
    run(async {
        for chunk in [1, 3] {
            let pool = Pool::builder(1).chunk_size(chunk).time_limit(EVER).start();
            let pool = pool.await.unwrap();
            assert_limited(pool.apply(nap(EVER, Some(LIMIT))).await, LIMIT);
            let unlimited = Pool::builder(1).chunk_size(chunk).start().await.unwrap();
            let naps = [None, Some(LIMIT), None, Some(EVER), None].map(|limit| match limit {
                Some(LIMIT) => nap(EVER, limit),
                limit => nap(Duration::ZERO, limit),
            });
            for (place, outcome) in unlimited.map(naps).await.into_iter().enumerate() {
                match place {
                    1 => drop(assert_limited(outcome, LIMIT)),
                    _ => assert!(outcome.is_ok(), "{place}: {outcome:?}"),
                }
            }
        }
    });
}

#[test]
fn limit_does_not_count_while_a_task_waits() {
    run(async {
        let pool = Pool::builder(1)
            .time_limit(5 * LIMIT)
            .start()
            .await
            .unwrap();
        let naps = [(); 6].map(|()| nap(2 * LIMIT, None));
        for outcome in pool.map(naps).await {
            outcome.unwrap();
        }
    });
}

#[test]
fn limit_ends_a_task_that_nobody_waits_for() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::builder(1).time_limit(LIMIT).start().await.unwrap();
        let handle = pool.spawn(Endless::Holds(lock.clone()));
        until("the lock is held", || async {
            lock.status().await.unwrap().is_held
        })
        .await;
        handle.cancel();
        assert!(lock.acquire().await.unwrap().abandoned().is_some());
        assert!(pool.apply(Who).await.is_ok());
    });
}

#[test]
fn limit_of_zero_is_refused_with_what_is_allowed() {
    run(async {
        let refused = Pool::builder(1).time_limit(Duration::ZERO).start().await;
        let text = "the time limit of a task is at least one microsecond, not 0ns";
        assert_eq!(
            refused.unwrap_err(),
            StartError::InvalidSettings(text.to_owned())
        );
        let pool = Pool::new(1).await.unwrap();
        let zero = nap(Duration::ZERO, Some(Duration::ZERO));
        let cause = TaskCause::Call(CallError::Fault(Fault::BadArguments(text.to_owned())));
        assert_eq!(pool.apply(zero).await.unwrap_err().cause(), &cause);
        let outcomes = pool.map([zero, nap(Duration::ZERO, None)]).await;
        assert_eq!(outcomes[0].as_ref().unwrap_err().cause(), &cause);
        assert!(outcomes[1].is_ok());
    });
}

#[test]
fn killed_task_ends_with_its_worker_and_no_other() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let started = folder.path().join("started");
        // The task would run again after a death.
        let pool = Pool::builder(2).retry(at_once(9)).start().await.unwrap();
        let held = pool.spawn(Endless::Holds(lock.clone()));
        let starts = pool.spawn(Endless::Starts(started.clone()));
        let waiting = pool.spawn(Who);
        until("both tasks run", || async {
            let lines = fs::read_to_string(&started).unwrap_or_default();
            lines.contains("end") && lock.status().await.unwrap().is_held
        })
        .await;
        waiting.kill();
        let error = waiting.await.unwrap_err();
        assert_eq!(
            (error.fault(), error.attempts()),
            (Some(&TaskFault::Killed), 0)
        );
        let begin = Instant::now();
        held.kill();
        held.kill();
        let error = held.await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(
            (error.fault(), error.attempts()),
            (Some(&TaskFault::Killed), 1)
        );
        let left = dead_holder(&lock).await;
        assert_eq!(Some(left), error.pid());
        until_runs(&pool, 1).await;
        starts.kill();
        starts.await.unwrap_err();
        assert_none_runs(&started).await;
        let finished = pool.spawn(Who);
        until("it is finished", || async { finished.is_finished() }).await;
        finished.kill();
        let pid = finished.await.unwrap();
        assert!(
            pool.pids().await.contains(&pid),
            "a late kill ends no worker"
        );
        pool.join().await.unwrap();
    });
}

#[test]
fn short_tasks_around_a_killed_one_have_their_outcomes() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let [begun, free] = [
            manager.semaphore(0).await.unwrap(),
            manager.semaphore(0).await.unwrap(),
        ];
        let pool = Pool::new(1).await.unwrap();
        // The worker takes many tasks at a time then.
        let short = pool.map((0..2000).map(|_| Who)).await;
        assert!(short.iter().all(Result::is_ok));
        let before: Vec<_> = (0..50).map(|_| pool.spawn(Who)).collect();
        let killed = pool.spawn(Pass(begun.clone(), free.clone()));
        let behind: Vec<_> = (0..50).map(|_| pool.spawn(Who)).collect();
        begun.consume(1).await.unwrap();
        killed.kill();
        assert_eq!(killed.await.unwrap_err().fault(), Some(&TaskFault::Killed));
        for handle in before.into_iter().chain(behind) {
            handle.await.unwrap();
        }
        assert_eq!(free.status().await.unwrap().available, 0);
    });
}

#[test]
fn kill_of_a_stopped_worker_ends_its_task() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let handle = pool.spawn(Endless::Stops);
        until_runs(&pool, 1).await;
        handle.kill();
        assert_eq!(handle.await.unwrap_err().fault(), Some(&TaskFault::Killed));
        assert!(pool.apply(Who).await.is_ok());
    });
}

#[test]
fn status_names_the_task_of_each_worker() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let [begun, free] = [
            manager.semaphore(0).await.unwrap(),
            manager.semaphore(0).await.unwrap(),
        ];
        let pool = Pool::builder(2)
            .retry(Retry::attempts(2))
            .start()
            .await
            .unwrap();
        assert_eq!(pool.status().await.unwrap().tasks, []);
        let pass = pool.spawn(Pass(begun.clone(), free.clone()));
        begun.consume(1).await.unwrap();
        until("it has run for a while", || async {
            let tasks = pool.status().await.unwrap().tasks;
            assert_eq!(tasks.len(), 1);
            assert_eq!(tasks[0].task.as_deref(), Some("pass"));
            assert_eq!(tasks[0].attempt, 1);
            assert!(pool.pids().await.contains(&tasks[0].pid));
            tasks[0].running_for > Duration::from_millis(50)
        })
        .await;
        free.add_permits(1).await.unwrap();
        pass.await.unwrap().unwrap();
        until_runs(&pool, 0).await;
    });
}

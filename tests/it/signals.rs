//! Signals to all processes of a program, as from Ctrl-C or a service manager. If the program handles them,
//! it can drain its pool and use its spawned manager. If it does not, all of its processes end.

use std::{
    env, fs,
    future::pending,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::Duration,
};

use lockkeeper::{Blocking, BlockingTask, CallError, Lock, Manager, Pool, Task, builders::Program};
use lockkeeper_test_support::{Role, Roles, is_running, report, seeded, signal_group, until};
use rand::Rng;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::run;

/// Acquires and releases the lock, waits until the mark exists, and returns the worker's process
/// id.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WaitForFile {
    lock: Lock,
    mark: PathBuf,
}

impl Task for WaitForFile {
    const NAME: &'static str = "linger";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        while !self.mark.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.lock.acquire().await?.release().await?;
        Ok(process::id())
    }
}

/// As `WaitForFile`, on a plain thread.
#[derive(Debug, Serialize, Deserialize)]
struct PlainWaitForFile(WaitForFile);

impl BlockingTask for PlainWaitForFile {
    const NAME: &'static str = "plain_linger";
    type Output = Result<u32, CallError>;

    fn run(self) -> Self::Output {
        while !self.0.mark.exists() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(self.0.lock.acquire().blocking()?);
        Ok(process::id())
    }
}

/// Starts a program, and returns its ignored and blocked signals from /proc.
#[derive(Debug, Serialize, Deserialize)]
struct Masks;

impl Task for Masks {
    const NAME: &'static str = "masks";
    type Output = Vec<u64>;

    async fn run(self) -> Vec<u64> {
        let output = Command::new("cat").arg("/proc/self/status").output();
        let output =
            String::from_utf8(output.expect("cat runs").stdout).expect("the output is text");
        let masks = output.lines().filter_map(|line| {
            let (name, mask) = line.split_once(":\t")?;
            matches!(name, "SigIgn" | "SigBlk").then(|| u64::from_str_radix(mask, 16).ok())?
        });
        masks.collect()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<WaitForFile>()
        .task::<Blocking<PlainWaitForFile>>()
        .task::<Masks>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("signals::drains", drain);
    roles.add("signals::careless", run_without_handlers);
    roles.add("signals::starts", start_under_signals);
}

/// Starts a pool, and a spawned manager with the lock of its tasks.
async fn start(mark: &Path) -> (Manager, Pool, WaitForFile) {
    let manager = Manager::spawn().await.unwrap();
    let lock = manager.lock().await.unwrap();
    let pool = Pool::builder(2).max_tasks_per_child(1).start().await;
    let mark = mark.to_owned();
    (manager, pool.unwrap(), WaitForFile { lock, mark })
}

async fn until_running(pool: &Pool, tasks: u64) {
    until("tasks run", || async {
        pool.status().await.unwrap().running == tasks
    })
    .await;
}

/// Drains its pool after the first signal of each kind, as a program should.
async fn drain((signals, mark): (Vec<i32>, PathBuf)) {
    let mut streams: Vec<_> = signals
        .iter()
        .map(|number| signal(SignalKind::from_raw(*number)).unwrap())
        .collect();
    let (manager, pool, task) = start(&mark).await;
    // Twice as many tasks as workers: the others are run by workers that start after the signal.
    let tasks: Vec<_> = (0..2).map(|_| pool.spawn(task.clone())).collect();
    let plain_tasks: Vec<_> = (0..2)
        .map(|_| pool.spawn(Blocking(PlainWaitForFile(task.clone()))))
        .collect();
    until_running(&pool, 2).await;
    report("running");
    for stream in &mut streams {
        stream.recv().await.unwrap();
    }
    report("asked to end");
    pool.close().await.unwrap();
    let mut workers = Vec::new();
    for task in tasks.into_iter().chain(plain_tasks) {
        workers.push(task.await.unwrap().unwrap());
    }
    pool.join().await.unwrap();
    task.lock.acquire().await.unwrap().release().await.unwrap();
    manager.shutdown().await;
    workers.sort_unstable();
    workers.dedup();
    report(&format!("drained by {} workers", workers.len()));
}

/// Runs without signal handlers.
async fn run_without_handlers(mark: PathBuf) {
    let (manager, pool, task) = start(&mark).await;
    let _tasks = [pool.spawn(task.clone()), pool.spawn(task)];
    until_running(&pool, 2).await;
    report(&serde_json::to_string(&pool.pids().await).unwrap());
    let _manager = manager;
    pending::<()>().await;
}

/// Starts pools and managers while signals arrive.
async fn start_under_signals(rounds: u32) {
    let mut signals =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).unwrap());
    for round in 0..rounds {
        report("starting");
        let started = async {
            match round % 3 {
                0 => {
                    let pool = Pool::new(3).await.map_err(|error| error.to_string())?;
                    let masks = pool.apply(Masks).await;
                    masks.map_err(|error| error.to_string())?;
                    pool.join().await.map_err(|error| error.to_string())
                }
                1 => {
                    let manager = Manager::spawn().await.map_err(|error| error.to_string())?;
                    let lock = manager.lock().await.map_err(|error| error.to_string())?;
                    let acquired = lock.acquire().await.map(drop);
                    acquired.map_err(|error| error.to_string())
                }
                // Each task has its own worker, and some workers start while signals arrive.
                _ => {
                    let pool = Pool::builder(2).max_tasks_per_child(1).start().await;
                    let pool = pool.map_err(|error| error.to_string())?;
                    let masks = pool.try_map((0..8).map(|_| Masks)).await;
                    masks.map(drop).map_err(|error| error.to_string())
                }
            }
        };
        report(&started.await.err().unwrap_or_else(|| "started".to_owned()));
    }
    for stream in &mut signals {
        stream.recv().await.unwrap();
    }
    report("signalled");
    pending::<()>().await;
}

/// Starts a role as the leader of a process group, as shells and service managers do.
fn start_group(role: &str, argument: &impl Serialize) -> Role {
    let mut command = Command::new(env::current_exe().unwrap());
    Role::start_by(command.process_group(0), role, argument)
}

#[test]
fn program_drains_its_pool_under_signals_to_all_of_its_processes() {
    run(async {
        for signals in [
            vec![Signal::INT],
            vec![Signal::TERM],
            vec![Signal::INT, Signal::TERM],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mark = folder.path().join("mark");
            let numbers: Vec<_> = signals.iter().map(|signal| signal.as_raw()).collect();
            let mut program = start_group("signals::drains", &(numbers, &mark));
            assert_eq!(program.next_report(), "running");
            for signal in &signals {
                signal_group(program.pid(), *signal);
            }
            assert_eq!(program.next_report(), "asked to end");
            // The user presses Ctrl-C again.
            for signal in &signals {
                signal_group(program.pid(), *signal);
            }
            fs::write(mark, "").unwrap();
            assert_eq!(program.next_report(), "drained by 4 workers", "{signals:?}");
        }
    });
}

/// The signals end a child that has not installed its handlers yet.
#[test]
fn children_start_although_signals_arrive_meanwhile() {
    const ROUNDS: u32 = 16;
    /// The program may begin the next round before all signals of a round are sent. So those of two rounds are
    /// fewer than the number of consecutive children that may be ended.
    const SIGNALS: u32 = 4;
    run(async {
        let mut random = seeded();
        let mut program = start_group("signals::starts", &ROUNDS);
        for _ in 0..ROUNDS {
            assert_eq!(program.next_report(), "starting");
            for _ in 0..SIGNALS {
                // Only the time is random, so each child is at a random point of its start.
                thread::sleep(Duration::from_millis(random.random_range(0..15)));
                let signal = if random.random() {
                    Signal::INT
                } else {
                    Signal::TERM
                };
                signal_group(program.pid(), signal);
            }
            assert_eq!(program.next_report(), "started");
        }
        for signal in [Signal::INT, Signal::TERM] {
            signal_group(program.pid(), signal);
        }
        assert_eq!(program.next_report(), "signalled");
    });
}

#[test]
fn all_processes_end_with_a_program_that_a_signal_ends() {
    run(async {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mark = PathBuf::from("/nowhere/mark");
            let mut program = start_group("signals::careless", &mark);
            let workers: Vec<u32> = serde_json::from_str(&program.next_report()).unwrap();
            assert_eq!(workers.len(), 2);
            signal_group(program.pid(), signal);
            until("all processes have ended", || async {
                !workers.iter().any(|pid| is_running(*pid)) && !is_running(program.pid())
            })
            .await;
        }
    });
}

#[test]
fn programs_that_a_task_starts_neither_ignore_nor_block_the_signals() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let masks = pool.apply(Masks).await.unwrap();
        assert_eq!(masks.len(), 2);
        for signal in [Signal::INT, Signal::TERM] {
            let bit = 1 << (signal.as_raw() - 1);
            assert!(masks.iter().all(|mask| mask & bit == 0), "{masks:x?}");
        }
    });
}

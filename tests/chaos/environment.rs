//! The environment of a program changes while it runs a pool, a spawned manager and a manager at a path. At
//! random moments its executable is replaced and removed, the folder of its sockets is removed, its limits are
//! exhausted, its process group is signalled, and its workers are killed.
//!
//! Each task has one outcome, at its index, and fails only if a worker died or could not be started.
//! When the environment no longer changes, everything works again.

use std::{
    env, fs,
    future::pending,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lockkeeper::{
    CallError, Lock, Manager, Pool, Task, TaskError, builders::Program, errors::TaskFault,
};
use lockkeeper_test_support::{
    Role, Roles, children_of, copy_program, kill, report, run, seeded, signal_group, until,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::program;

/// The time of the changes.
const LENGTH: Duration = Duration::from_secs(5);

/// The number of workers of the program.
const WORKERS: usize = 3;

/// The number of tasks that are submitted at a time.
const TASKS: u32 = 60;

/// Returns its number after it has held the lock.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    number: u32,
    lock: Lock,
}

impl Task for Step {
    const NAME: &'static str = "step";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        drop(self.lock.acquire().await?);
        Ok(self.number)
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Step>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("environment::program", work);
}

/// The paths that the program and the test share.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Setup {
    folder: PathBuf,
}

impl Setup {
    /// The folder of the sockets.
    fn sockets(&self) -> PathBuf {
        self.folder.join("sockets")
    }

    fn address(&self) -> PathBuf {
        self.sockets().join("locks.sock")
    }

    fn executable(&self) -> PathBuf {
        self.folder.join("program")
    }

    /// Returns the path of a file that exists once the environment no longer changes.
    fn end_marker(&self) -> PathBuf {
        self.folder.join("calm")
    }
}

/// Runs tasks until the environment no longer changes. Reports its spawned manager, and last the
/// outcomes of the tasks.
async fn work(setup: Setup) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let _signals = kinds.map(|kind| signal(kind).unwrap());
    let spawned = Manager::spawn().await.unwrap();
    report(&serde_json::to_string(&children_of(std::process::id())).unwrap());
    let at_path = Manager::builder().address(setup.address()).start().await;
    let _at_path = at_path.unwrap();
    let lock = spawned.lock().await.unwrap();
    let pool = Pool::new(WORKERS).await.unwrap();
    report("ready");
    let (mut done, mut died, mut broken) = (0, 0, 0);
    while !setup.end_marker().exists() {
        for outcome in step(&pool, &lock).await {
            match outcome {
                Ok(()) => done += 1,
                Err(error) if matches!(error.fault(), Some(TaskFault::WorkerDied { .. })) => {
                    died += 1;
                }
                Err(error) if matches!(error.fault(), Some(TaskFault::Broken(_))) => broken += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    until("all places have workers", || async {
        pool.status().await.unwrap().missing_workers == 0 && pool.pids().await.len() == WORKERS
    })
    .await;
    until("no task fails", || async {
        step(&pool, &lock).await.iter().all(Result::is_ok)
    })
    .await;
    until("the manager at a path accepts new clients", || async {
        // A proxy would use the existing connection of this process, so this opens a socket.
        std::os::unix::net::UnixStream::connect(setup.address()).is_ok()
    })
    .await;
    pool.join().await.unwrap();
    assert!(!lock.status().await.unwrap().is_held);
    report(&format!("{done} done, {died} died, {broken} broken"));
    pending::<()>().await;
}

/// Runs tasks, and checks that each has its own outcome.
async fn step(pool: &Pool, lock: &Lock) -> Vec<Result<(), TaskError>> {
    let tasks = (0..TASKS).map(|number| Step {
        number,
        lock: lock.clone(),
    });
    let outcomes: Vec<_> = pool.imap(tasks).collect().await;
    assert_eq!(outcomes.len(), TASKS as usize);
    let each = outcomes.into_iter().zip(0..);
    each.map(|(outcome, number)| outcome.map(|step| assert_eq!(step, Ok(number))))
        .collect()
}

/// A change of the environment.
#[derive(Clone, Copy, Debug)]
enum Change {
    ReplaceExecutable,
    RemoveExecutable,
    RemoveSockets,
    ExhaustDescriptors,
    Signal(Signal),
    KillWorker,
}

const CHANGES: [Change; 8] = [
    Change::ReplaceExecutable,
    Change::RemoveExecutable,
    Change::RemoveSockets,
    Change::ExhaustDescriptors,
    Change::Signal(Signal::INT),
    Change::Signal(Signal::TERM),
    Change::KillWorker,
    Change::KillWorker,
];

fn apply(change: Change, setup: &Setup, pid: u32, spared: &[u32], random: &mut StdRng) {
    match change {
        Change::ReplaceExecutable => {
            let other = setup.folder.join("other");
            copy_program(Path::new("/bin/true"), &other);
            fs::rename(other, setup.executable()).unwrap();
        }
        // The file may be missing.
        Change::RemoveExecutable => drop(fs::remove_file(setup.executable())),
        Change::RemoveSockets => drop(fs::remove_dir_all(setup.sockets())),
        Change::ExhaustDescriptors => {
            let pid = Pid::from_raw(pid.try_into().unwrap());
            let maximum = getrlimit(Resource::Nofile).maximum;
            let limit = |current| {
                prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
            };
            limit(Some(0));
            thread::sleep(Duration::from_millis(random.random_range(0..300)));
            limit(Some(1024));
        }
        Change::Signal(signal) => signal_group(pid, signal),
        Change::KillWorker => {
            let mut workers = children_of(pid);
            workers.retain(|child| !spared.contains(child));
            if let Some(worker) = workers.choose(random) {
                kill(*worker);
            }
        }
    }
}

#[test]
fn program_keeps_its_guarantees_while_its_environment_changes() {
    program();
    run(async {
        let mut random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup {
            folder: folder.path().to_owned(),
        };
        fs::create_dir(setup.sockets()).unwrap();
        copy_program(&env::current_exe().unwrap(), &setup.executable());
        let mut command = Command::new(setup.executable());
        // The process group that a terminal or a service manager signals.
        let command = command.process_group(0);
        let mut role = Role::start_by(command, "environment::program", &setup);
        let spared: Vec<u32> = serde_json::from_str(&role.next_report()).unwrap();
        assert_eq!(spared.len(), 1, "the spawned manager");
        assert_eq!(role.next_report(), "ready");
        let end = Instant::now() + LENGTH;
        while Instant::now() < end {
            let change = *CHANGES.choose(&mut random).unwrap();
            apply(change, &setup, role.pid(), &spared, &mut random);
            // Only the length of the sleep is random.
            thread::sleep(Duration::from_millis(random.random_range(0..150)));
        }
        fs::write(setup.end_marker(), "").unwrap();
        println!("{}", role.next_report());
    });
}

//! A program whose surroundings change while it runs a pool, a spawned manager and one at a path: its
//! executable is replaced and removed, the folder of its sockets vanishes, its limits are exhausted, its group is
//! signalled and its workers are killed, at random moments.
//!
//! Each task has one outcome, in its place, and fails only if a worker died or could not be started.
//! Afterwards, when the surroundings no longer change, everything works again.

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

/// How long the surroundings change.
const LENGTH: Duration = Duration::from_secs(5);

/// How many workers the program has.
const WORKERS: usize = 3;

/// How many tasks it runs at a time.
const TASKS: u32 = 60;

/// Gives its number, once it has had the lock.
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
    roles.add("surroundings::program", work);
}

/// What the program and the test know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scene {
    folder: PathBuf,
}

impl Scene {
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

    /// This file exists once the surroundings no longer change.
    fn calm(&self) -> PathBuf {
        self.folder.join("calm")
    }
}

/// Runs tasks until it is calm. Reports its spawned manager, and last what became of the tasks.
async fn work(scene: Scene) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let _signals = kinds.map(|kind| signal(kind).unwrap());
    let spawned = Manager::spawn().await.unwrap();
    report(&serde_json::to_string(&children_of(std::process::id())).unwrap());
    let at_path = Manager::builder().address(scene.address()).start().await;
    let _at_path = at_path.unwrap();
    let lock = spawned.lock().await.unwrap();
    let pool = Pool::new(WORKERS).await.unwrap();
    report("ready");
    let (mut done, mut died, mut broken) = (0, 0, 0);
    while !scene.calm().exists() {
        for outcome in step(&pool, &lock).await {
            match outcome {
                Ok(()) => done += 1,
                Err(TaskError::Failed(TaskFault::WorkerDied { .. })) => died += 1,
                Err(TaskError::Failed(TaskFault::Broken(_))) => broken += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    until("all places have workers", || async {
        pool.status().await.unwrap().empty == 0 && pool.pids().await.len() == WORKERS
    })
    .await;
    until("no task fails", || async {
        step(&pool, &lock).await.iter().all(Result::is_ok)
    })
    .await;
    until("the manager at a path is there for new clients", || async {
        // A proxy would use the connection that this process has already, so the test connects by itself.
        std::os::unix::net::UnixStream::connect(scene.address()).is_ok()
    })
    .await;
    pool.join().await.unwrap();
    assert!(!lock.status().await.unwrap().held);
    report(&format!("{done} done, {died} died, {broken} broken"));
    pending::<()>().await;
}

/// Runs some tasks, and checks that each has its own outcome.
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

/// What changes.
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

fn apply(change: Change, scene: &Scene, pid: u32, spared: &[u32], random: &mut StdRng) {
    match change {
        Change::ReplaceExecutable => {
            let other = scene.folder.join("other");
            copy_program(Path::new("/bin/true"), &other);
            fs::rename(other, scene.executable()).unwrap();
        }
        // It may be gone.
        Change::RemoveExecutable => drop(fs::remove_file(scene.executable())),
        Change::RemoveSockets => drop(fs::remove_dir_all(scene.sockets())),
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
fn program_keeps_its_promises_while_its_surroundings_change() {
    program();
    run(async {
        let mut random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene {
            folder: folder.path().to_owned(),
        };
        fs::create_dir(scene.sockets()).unwrap();
        copy_program(&env::current_exe().unwrap(), &scene.executable());
        let mut command = Command::new(scene.executable());
        // The group that a terminal or a service manager signals.
        let command = command.process_group(0);
        let mut role = Role::start_by(command, "surroundings::program", &scene);
        let spared: Vec<u32> = serde_json::from_str(&role.next_report()).unwrap();
        assert_eq!(spared.len(), 1, "the spawned manager");
        assert_eq!(role.next_report(), "ready");
        let end = Instant::now() + LENGTH;
        while Instant::now() < end {
            let change = *CHANGES.choose(&mut random).unwrap();
            apply(change, &scene, role.pid(), &spared, &mut random);
            // The sleep has a random length.
            thread::sleep(Duration::from_millis(random.random_range(0..150)));
        }
        fs::write(scene.calm(), "").unwrap();
        println!("{}", role.next_report());
    });
}

//! Holders that end while another process keeps their socket open: the manager serves the calls that
//! they sent before, and then releases their holds at once.

use std::{
    fs::{self, File},
    future::pending,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{Lock, Manager, Pool, Task, builders::Program, errors::TaskFault};
use lockkeeper_test_support::{Role, Roles, is_running, kill, report, signal, stop, until};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{
        PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, getpid, getrlimit, pidfd_getfd,
        pidfd_open, setrlimit,
    },
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::run;

/// Longer than every test.
const LONG: &str = "600";

/// The time limit of an immediate grant. The end of the socket would take [`LONG`].
const AT_ONCE: Duration = Duration::from_secs(20);

/// The way in which a process ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum End {
    Exit,
    Abort,
    /// It kills itself while its threads run.
    Kill,
    /// The test kills it.
    Killed,
}

/// Another process that keeps all sockets of this one open.
struct Keeper(u32);

impl Drop for Keeper {
    fn drop(&mut self) {
        kill(self.0);
    }
}

/// Starts a process that inherits all sockets of this one, like a forked child. Returns its id.
fn start_keeper() -> u32 {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut copies = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        if link.to_string_lossy().starts_with("socket:") {
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            let copy = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).unwrap();
            fcntl_setfd(&copy, FdFlags::empty()).unwrap();
            copies.push(copy);
        }
    }
    let mut sleep = Command::new("sleep");
    sleep.arg(LONG).stdin(Stdio::null()).stdout(Stdio::null());
    // In another process group, because a test may kill that of this process.
    let keeper = sleep.stderr(Stdio::null()).process_group(0).spawn();
    keeper.unwrap().id()
}

async fn until_exists(path: &Path) {
    until("the file exists", || async { path.exists() }).await;
}

/// Holds locks, starts a process that keeps its sockets, and ends once a file exists. It releases the
/// locks in `released` just before.
async fn hold((held, released, go, end): (Vec<Lock>, Vec<Lock>, PathBuf, End)) {
    let mut guards = Vec::new();
    for lock in &held {
        guards.push(lock.acquire().await.unwrap());
    }
    let mut last = Vec::new();
    for lock in &released {
        last.push(lock.acquire().await.unwrap());
    }
    for _ in 0..4 {
        thread::spawn(|| thread::sleep(Duration::from_secs(600)));
    }
    report(&start_keeper().to_string());
    until_exists(&go).await;
    drop(last);
    match end {
        End::Exit => process::exit(3),
        End::Abort => process::abort(),
        End::Kill => kill(process::id()),
        End::Killed => {}
    }
    pending().await
}

/// Hosts a manager at a path.
async fn host(path: PathBuf) {
    let _manager = Manager::builder().address(path).start().await.unwrap();
    report("serving");
    pending().await
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("liveness::hold", hold);
    roles.add("liveness::host", host);
    roles.add(
        "liveness::host_with_few_descriptors",
        async |path: PathBuf| {
            let manager = Manager::builder().address(path).start().await.unwrap();
            let lowest = File::open("/dev/null").unwrap().as_raw_fd();
            let limit = Rlimit {
                current: Some(u64::try_from(lowest).unwrap() + 6),
                maximum: getrlimit(Resource::Nofile).maximum,
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            report("serving");
            pending::<()>().await;
            drop(manager);
        },
    );
}

/// Holds a lock in a worker, and starts a process that keeps the worker's sockets.
#[derive(Debug, Serialize, Deserialize)]
struct HoldInWorker(Lock, PathBuf);

impl Task for HoldInWorker {
    const NAME: &'static str = "hold_in_worker";
    type Output = ();

    async fn run(self) {
        let Self(lock, shown) = self;
        let _guard = lock.acquire().await.unwrap();
        let keeper = start_keeper();
        let text = format!("{} {keeper}", process::id());
        fs::write(shown.with_extension("new"), text).unwrap();
        fs::rename(shown.with_extension("new"), shown).unwrap();
        pending::<()>().await;
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<HoldInWorker>()
}

async fn named<const N: usize>(manager: &Manager, names: [&str; N]) -> Vec<Lock> {
    let mut locks = Vec::new();
    for name in names {
        locks.push(manager.named(name).lock().await.unwrap());
    }
    locks
}

/// Starts a holder, and returns it with the process that keeps its sockets.
fn start_holder(held: &[Lock], released: &[Lock], go: &Path, end: End) -> (Role, Keeper) {
    let mut holder = Role::start("liveness::hold", &(held, released, go, end));
    let keeper = Keeper(holder.next_report().parse().unwrap());
    (holder, keeper)
}

async fn until_ended(holder: &mut Role, end: End) {
    if matches!(end, End::Killed) {
        holder.kill();
    }
    let pid = holder.pid();
    until("the holder has ended", || async { !is_running(pid) }).await;
}

/// Asserts that the lock is granted at once, with the mark of the holder.
async fn assert_left_by(lock: &Lock, holder: u32) {
    let guard = lock.acquire().timeout(AT_ONCE).await.unwrap();
    let abandoned = guard.abandoned().expect("the holder has died");
    assert_eq!(abandoned.holder.pid, holder);
    assert!(abandoned.holder.death_is_noticed);
}

/// Asserts that the lock is granted at once, without a mark.
async fn assert_released(lock: &Lock) {
    let guard = lock.acquire().timeout(AT_ONCE).await.unwrap();
    assert!(guard.abandoned().is_none(), "{:?}", guard.abandoned());
}

#[test]
fn holds_of_an_ended_process_are_released_while_another_keeps_its_socket() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for (round, end) in [End::Exit, End::Abort, End::Kill, End::Killed]
            .into_iter()
            .enumerate()
        {
            let folder = TempDir::new().unwrap();
            let go = folder.path().join("go");
            let names = [format!("held {round}"), format!("released {round}")];
            let locks = named(&manager, [&*names[0], &*names[1]]).await;
            let (mut holder, keeper) = start_holder(&locks[..1], &locks[1..], &go, end);
            let mut next = Box::pin(locks[0].acquire());
            assert!(next.as_mut().now_or_never().is_none(), "{end:?}");
            fs::write(&go, "").unwrap();
            if matches!(end, End::Killed) {
                // The holder has released this lock before its end.
                assert_released(&locks[1]).await;
            }
            until_ended(&mut holder, end).await;
            let waited = tokio::time::timeout(AT_ONCE, next).await;
            let guard = waited.expect("at once").unwrap();
            assert_eq!(guard.abandoned().unwrap().holder.pid, holder.pid());
            assert_released(&locks[1]).await;
            assert!(is_running(keeper.0), "{end:?}");
        }
    });
}

#[test]
fn calls_that_a_holder_sent_before_its_end_are_served_before_its_hang_up() {
    run(async {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("manager.sock");
        let mut host = Role::start("liveness::host", &path);
        assert_eq!(host.next_report(), "serving");
        let manager = Manager::connect(&path).await.unwrap();
        for (round, end) in [End::Exit, End::Abort, End::Kill].into_iter().enumerate() {
            let go = folder.path().join(format!("go {round}"));
            let mut locks = Vec::new();
            for at in 0..40 {
                let name = format!("{round}/{at}");
                locks.push(manager.named(&name).lock().await.unwrap());
            }
            let (held, released) = locks.split_at(1);
            let (mut holder, _heir) = start_holder(held, released, &go, end);
            // The manager notices the unread calls and the end at the same time.
            stop(host.pid()).await;
            fs::write(&go, "").unwrap();
            until_ended(&mut holder, end).await;
            signal(host.pid(), Signal::CONT);
            assert_left_by(&held[0], holder.pid()).await;
            for lock in released {
                assert_released(lock).await;
            }
        }
    });
}

#[test]
fn end_of_a_holder_is_noticed_by_each_shard() {
    run(async {
        let manager = Manager::builder().shards(3).start().await.unwrap();
        let locks = named(&manager, ["a", "b", "c", "d", "e", "f"]).await;
        let folder = TempDir::new().unwrap();
        let (mut holder, _heir) = start_holder(&locks, &[], &folder.path().join("go"), End::Killed);
        holder.kill();
        for lock in &locks {
            assert_left_by(lock, holder.pid()).await;
        }
    });
}

#[test]
fn holds_of_an_ended_worker_are_released_while_another_keeps_its_sockets() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        for round in 0..3 {
            let folder = TempDir::new().unwrap();
            let shown = folder.path().join("told");
            let task = pool.spawn(HoldInWorker(lock.clone(), shown.clone()));
            until_exists(&shown).await;
            let text = fs::read_to_string(&shown).unwrap();
            let (worker, keeper) = text.split_once(' ').unwrap();
            let (worker, keeper): (u32, _) =
                (worker.parse().unwrap(), Keeper(keeper.parse().unwrap()));
            kill(worker);
            assert_left_by(&lock, worker).await;
            let outcome = tokio::time::timeout(AT_ONCE, task).await.expect("at once");
            assert!(
                matches!(
                    &outcome,
                    Err(error) if matches!(error.fault(), Some(TaskFault::WorkerDied { .. }))
                ),
                "{round}: {outcome:?}"
            );
            assert!(is_running(keeper.0));
        }
    });
}

#[test]
fn clients_are_accepted_and_marked_if_no_descriptor_is_left_to_watch_them() {
    run(async {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("manager.sock");
        let mut host = Role::start("liveness::host_with_few_descriptors", &path);
        assert_eq!(host.next_report(), "serving");
        let manager = Manager::connect(&path).await.unwrap();
        let locks = named(&manager, ["a", "b", "c"]).await;
        let mut holders = Vec::new();
        for lock in &locks {
            let go = folder.path().join("go");
            holders.push(start_holder(
                std::slice::from_ref(lock),
                &[],
                &go,
                End::Killed,
            ));
        }
        for (lock, (holder, keeper)) in locks.iter().zip(&mut holders) {
            let info = lock.info().await.unwrap();
            let process = &info.parts[0].holders[0].process;
            assert!(!process.death_is_noticed);
            assert!(
                process.to_string().contains("by its connection alone"),
                "{process}"
            );
            // The end of the connection still ends the session.
            holder.kill();
            assert!(lock.try_acquire().await.unwrap().is_none());
            kill(keeper.0);
            let guard = lock.acquire().timeout(AT_ONCE).await.unwrap();
            assert_eq!(guard.abandoned().unwrap().holder.pid, holder.pid());
        }
    });
}

/// Returns whether the system supports namespaces. If not, prints that the calling test is skipped.
fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["-rpf", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: this system gives no pid namespace (unshare -rpf)");
    }
    may
}

#[test]
fn end_of_a_holder_in_another_pid_namespace_is_noticed() {
    if !may_unshare() {
        return;
    }
    run(async {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("manager.sock");
        // The holder has no process id in the namespace of the manager.
        let mut unshare = Command::new("unshare");
        unshare.args(["-rpf", "--kill-child"]);
        unshare.arg(std::env::current_exe().unwrap());
        let mut host = Role::start_by(&mut unshare, "liveness::host", &path);
        assert_eq!(host.next_report(), "serving");
        let manager = Manager::connect(&path).await.unwrap();
        let locks = named(&manager, ["a", "b", "c"]).await;
        for lock in &locks {
            let go = folder.path().join("go");
            let held = std::slice::from_ref(lock);
            let (mut holder, _heir) = start_holder(held, &[], &go, End::Killed);
            holder.kill();
            assert_left_by(lock, holder.pid()).await;
        }
    });
}

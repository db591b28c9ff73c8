//! Lack of descriptors, threads, memory, disk space and permissions: an error names the lacking
//! resource, and the next attempt works once it is available.

pub(crate) mod clients;
pub(crate) mod space;
pub(crate) mod unkillable;

use std::{
    env, fmt, fs,
    fs::File,
    future::pending,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    thread,
};

use lockkeeper::{Lock, Manager, Pool, block_on};
use lockkeeper_test_support::{Role, Roles, may_act_as_others, report};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("wants::first_use", use_first);
    clients::roles(roles);
    space::roles(roles);
    unkillable::roles(roles);
}

/// The resource that a process lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Lack {
    Descriptors,
    Threads,
    Memory,
}

impl Lack {
    const fn resource(self) -> Resource {
        match self {
            Self::Descriptors => Resource::Nofile,
            Self::Threads => Resource::Nproc,
            Self::Memory => Resource::As,
        }
    }

    /// Returns the limit that the error says to raise.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Descriptors => "ulimit -n",
            Self::Threads => "ulimit -u",
            Self::Memory => "ulimit -v",
        }
    }

    /// Limits this process to its current use and `more` descriptors, threads or megabytes.
    fn leave(self, more: u64) {
        self.end();
        let has = match self {
            Self::Descriptors => {
                let lowest = File::open("/dev/null").unwrap();
                u64::try_from(lowest.as_raw_fd()).unwrap()
            }
            Self::Threads => number_in("/proc/self/status", "Threads:"),
            Self::Memory => number_in("/proc/self/status", "VmSize:") << 10,
        };
        let more = match self {
            Self::Descriptors | Self::Threads => more,
            // Less than a thread's stack, but enough for other allocations.
            Self::Memory => (more + 1) << 20,
        };
        self.set(Some(has + more));
    }

    /// Removes the limit again.
    fn end(self) {
        self.set(getrlimit(self.resource()).maximum);
    }

    fn set(self, current: Option<u64>) {
        let Rlimit { maximum, .. } = getrlimit(self.resource());
        setrlimit(self.resource(), Rlimit { current, maximum }).unwrap();
    }
}

fn number_in(path: &str, label: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// A copy of this program that any user may run, because the limit of threads does not apply to
/// root.
pub(crate) struct Unprivileged {
    folder: TempDir,
    program: PathBuf,
    uid: u32,
}

impl Unprivileged {
    /// Makes the copy, or returns `None` if this process may not act as other users.
    pub(crate) fn new() -> Option<Self> {
        if !may_act_as_others() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("program");
        // In another process, for the reason in `copy_program`.
        let copied = Command::new("cp")
            .args([&env::current_exe().unwrap(), &program])
            .status();
        assert!(copied.unwrap().success());
        // The system counts the threads of a user, so each test needs its own user.
        let uid = 4_000_000 + rand::random_range(0..1_000_000);
        Some(Self {
            folder,
            program,
            uid,
        })
    }

    pub(crate) fn start(&self, role: &str, argument: &impl Serialize) -> Role {
        let mut command = Command::new(&self.program);
        command.uid(self.uid).gid(self.uid);
        Role::start_by(&mut command, role, argument)
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        // This is the folder of the user's managers.
        let _ = fs::remove_dir_all(format!("/tmp/lockkeeper-{}", self.uid));
        let _ = &self.folder;
    }
}

fn describe(outcome: Result<(), impl fmt::Display>) -> Result<(), String> {
    outcome.map_err(|error| error.to_string())
}

/// Makes each call that can be a program's first use of the library.
async fn uses(lock: Lock) -> Vec<Result<(), String>> {
    let mut outcomes = vec![
        describe(Manager::start().await.map(drop)),
        describe(Manager::builder().shards(3).start().await.map(drop)),
        describe(Manager::spawn().await.map(drop)),
        describe(Pool::new(1).await.map(drop)),
    ];
    // On this thread, as a plain program would, because no further thread may be available.
    outcomes.push(describe(lock.acquire().await.map(drop)));
    outcomes
}

/// Uses the library without the resource, then with an increasing amount, and then with enough. `block_on`
/// is the first use.
async fn use_first((lack, lock): (Lack, Lock)) {
    let plain = thread::spawn(move || {
        // A caller on a runtime must not drop another runtime.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("the resource is still available");
        lack.leave(0);
        for more in 0..4 {
            lack.leave(more);
            let outcomes = [
                runtime.block_on(uses(lock.clone())),
                block_on(uses(lock.clone())),
            ];
            for outcome in outcomes.into_iter().flatten() {
                if let Err(error) = outcome {
                    report(&error);
                }
            }
            lack.end();
        }
        let enough = block_on(uses(lock));
        assert!(enough.iter().all(Result::is_ok), "{enough:?}");
        report("enough");
    });
    plain.join().unwrap();
    pending::<()>().await;
}

/// Checks the reports of a role on its first uses.
fn check_first_uses(lack: Lack, mut role: Role) {
    let mut errors = 0;
    loop {
        let shown = role.next_report();
        if shown == "enough" {
            break;
        }
        assert!(shown.contains(lack.remedy()), "{lack:?}: {shown}");
        errors += 1;
    }
    assert!(errors >= 3, "{lack:?}: {errors} errors");
}

#[test]
fn first_use_without_a_resource_is_an_error_that_names_the_limit() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        for lack in [Lack::Descriptors, Lack::Memory] {
            let role = Role::start("wants::first_use", &(lack, &lock));
            check_first_uses(lack, role);
        }
    });
}

#[test]
fn first_use_without_threads_is_an_error_that_names_the_limit() {
    run(async {
        let Some(user) = Unprivileged::new() else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let builder = Manager::builder().address(folder.path().join("locks.sock"));
        let manager = builder.allow_uid(user.uid).start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let role = user.start("wants::first_use", &(Lack::Threads, &lock));
        check_first_uses(Lack::Threads, role);
    });
}

//! Mutual exclusion between real processes, also when some of them are killed.
//!
//! The processes write to a file that only the lock protects.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lockkeeper::{CallError, Lock, LockGuard, Manager, Pool, Semaphore, Task, builders::Program};
use lockkeeper_test_support::{Role, Roles, report, seeded, until};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::run;

/// The objects that all roles and tasks here share.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shared {
    lock: Lock,
    permits: Semaphore,
    file: PathBuf,
    cycles: u32,
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Count>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("processes::counter", |shared| async {
        report(&count(shared).await.unwrap().to_string());
    });
    roles.add("processes::lock_holder", hold_lock);
    roles.add("processes::permit_holder", hold_permits);
    roles.add("processes::toiler", use_objects);
}

/// Increments the number in the file repeatedly, each time with the lock.
async fn count(shared: Shared) -> Result<u32, CallError> {
    for _ in 0..shared.cycles {
        let guard = shared.lock.acquire().await?;
        add_one(&shared.file);
        drop(guard);
    }
    Ok(std::process::id())
}

/// Reads, changes and writes a number in separate steps, so that any overlap loses an increment.
fn add_one(file: &Path) {
    let number: u32 = fs::read_to_string(file).unwrap().parse().unwrap();
    fs::write(file, (number + 1).to_string()).unwrap();
}

fn number_in(file: &Path) -> u32 {
    fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Runs `count` as a task.
#[derive(Debug, Serialize, Deserialize)]
struct Count(Shared);

impl Task for Count {
    const NAME: &'static str = "processes::count";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        count(self.0).await
    }
}

/// Acquires the lock, reports the mark, and keeps the lock.
async fn hold_lock(shared: Shared) {
    let guard = shared.lock.acquire().await.unwrap();
    report(&abandoned_by(&guard));
    std::future::pending::<()>().await;
}

fn abandoned_by(guard: &LockGuard) -> String {
    guard.abandoned().map_or_else(
        || "none".to_owned(),
        |abandoned| abandoned.holder.pid.to_string(),
    )
}

/// Acquires two permits, reports the mark, and keeps the permits.
async fn hold_permits(shared: Shared) {
    let permit = shared.permits.acquire_many(2).await.unwrap();
    let by = permit.abandoned().map(|abandoned| abandoned.holder.pid);
    report(&by.map_or_else(|| "none".to_owned(), |pid| pid.to_string()));
    std::future::pending::<()>().await;
}

/// Acquires and releases the lock or permits repeatedly, while the file exists.
async fn use_objects(shared: Shared) {
    let mut random = rand::rng();
    report("at work");
    while shared.file.exists() {
        let moment = Duration::from_micros(random.random_range(0..400));
        if random.random() {
            let guard = shared.lock.acquire().await.unwrap();
            tokio::time::sleep(moment).await;
            drop(guard);
        } else {
            let many = random.random_range(1..=3);
            let permit = shared.permits.acquire_many(many).await.unwrap();
            tokio::time::sleep(moment).await;
            drop(permit);
        }
    }
    report("done");
}

/// Starts a manager, and makes a lock, three permits and a file with the number 0.
async fn shared(folder: &tempfile::TempDir, cycles: u32) -> (Manager, Shared) {
    let manager = Manager::start().await.unwrap();
    let file = folder.path().join("number");
    fs::write(&file, "0").unwrap();
    let shared = Shared {
        lock: manager.lock().await.unwrap(),
        permits: manager.semaphore(3).await.unwrap(),
        file,
        cycles,
    };
    (manager, shared)
}

async fn is_waited_for(lock: &Lock, waiting: u64) -> bool {
    lock.status().await.unwrap().waiting == waiting
}

#[test]
fn eight_processes_take_turns_a_thousand_times_each() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 1000).await;
        let mut counters: Vec<Role> = (0..8)
            .map(|_| Role::start("processes::counter", &shared))
            .collect();
        for counter in &mut counters {
            assert_eq!(counter.next_report(), counter.pid().to_string());
        }
        assert_eq!(number_in(&shared.file), 8000);
        let status = shared.lock.status().await.unwrap();
        assert_eq!((status.is_held, status.waiting), (false, 0));
    });
}

#[test]
fn tasks_of_a_pool_take_turns() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 250).await;
        let pool = Pool::new(4).await.unwrap();
        let counts = (0..8).map(|_| Count(shared.clone()));
        for outcome in pool.try_map(counts).await.unwrap() {
            outcome.unwrap();
        }
        assert_eq!(number_in(&shared.file), 2000);
    });
}

#[test]
fn lock_of_a_killed_holder_is_granted_to_the_next_with_a_mark() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 0).await;
        let mut holder = Role::start("processes::lock_holder", &shared);
        assert_eq!(holder.next_report(), "none");
        let mut next = Role::start("processes::lock_holder", &shared);
        until("the next process waits", || is_waited_for(&shared.lock, 1)).await;
        holder.kill();
        assert_eq!(next.next_report(), holder.pid().to_string());
        next.kill();
        let mut guard = shared.lock.acquire().await.unwrap();
        assert_eq!(abandoned_by(&guard), next.pid().to_string());
        guard.mark_consistent();
        guard.release().await.unwrap();
        let guard = shared.lock.acquire().await.unwrap();
        assert_eq!(guard.abandoned(), None);
    });
}

#[test]
fn killed_waiter_is_never_granted_and_leaves_no_mark() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 0).await;
        let guard = shared.lock.acquire().await.unwrap();
        let mut victim = Role::start("processes::lock_holder", &shared);
        until("the victim waits", || is_waited_for(&shared.lock, 1)).await;
        let mut other = Role::start("processes::lock_holder", &shared);
        until("another waits", || is_waited_for(&shared.lock, 2)).await;
        victim.kill();
        until("the dead process no longer waits", || {
            is_waited_for(&shared.lock, 1)
        })
        .await;
        drop(guard);
        assert_eq!(other.next_report(), "none");
    });
}

#[test]
fn stopped_holder_keeps_the_lock_until_it_is_killed() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 0).await;
        let mut holder = Role::start("processes::lock_holder", &shared);
        holder.next_report();
        let pid = rustix::process::Pid::from_raw(holder.pid().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let brief = Duration::from_millis(30);
        let outcome = shared.lock.acquire().timeout(brief).await;
        assert_eq!(outcome.map(drop), Err(CallError::timed_out()));
        holder.kill();
        let guard = shared.lock.acquire().await.unwrap();
        assert_eq!(abandoned_by(&guard), holder.pid().to_string());
        assert!(guard.abandoned().unwrap().held >= brief);
    });
}

#[test]
fn permits_of_a_killed_holder_are_granted_to_the_next_with_a_mark() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 0).await;
        let mut holder = Role::start("processes::permit_holder", &shared);
        assert_eq!(holder.next_report(), "none");
        assert_eq!(shared.permits.status().await.unwrap().held, 2);
        let mut next = Role::start("processes::permit_holder", &shared);
        until("the next process waits", || async {
            shared.permits.status().await.unwrap().waiting == 1
        })
        .await;
        // The free permit is reserved for the caller that waits for two.
        assert!(shared.permits.try_acquire().await.unwrap().is_none());
        holder.kill();
        assert_eq!(next.next_report(), holder.pid().to_string());
        next.kill();
        let all = shared.permits.acquire_many(3).await.unwrap();
        assert_eq!(all.abandoned().unwrap().holder.pid, next.pid());
    });
}

/// The number of processes at a time, and the number of killed ones.
const PROCESSES: usize = 4;
const ROUNDS: usize = 100;

#[test]
fn processes_killed_at_random_keep_no_lock_and_no_permit() {
    run(async {
        let mut random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let (_manager, shared) = shared(&folder, 0).await;
        let mut toilers: Vec<Role> = (0..PROCESSES)
            .map(|_| Role::start("processes::toiler", &shared))
            .collect();
        for toiler in &mut toilers {
            toiler.next_report();
        }
        let mut killed = Vec::new();
        let (mut locks_left, mut permits_left) = (0, 0);
        for _ in 0..ROUNDS {
            // Only the time is random.
            let moment = Duration::from_micros(random.random_range(0..3000));
            tokio::time::sleep(moment).await;
            let victim = &mut toilers[random.random_range(0..PROCESSES)];
            victim.kill();
            killed.push(victim.pid());

            let mut guard = shared.lock.acquire().await.unwrap();
            if let Some(abandoned) = guard.abandoned() {
                assert!(killed.contains(&abandoned.holder.pid), "{abandoned}");
                locks_left += 1;
                guard.mark_consistent();
            }
            guard.release().await.unwrap();
            let mut all = shared.permits.acquire_many(3).await.unwrap();
            if let Some(abandoned) = all.abandoned() {
                assert!(killed.contains(&abandoned.holder.pid), "{abandoned}");
                permits_left += 1;
                all.mark_consistent();
            }
            all.release().await.unwrap();

            *victim = Role::start("processes::toiler", &shared);
            victim.next_report();
        }
        println!("{locks_left} died with the lock, {permits_left} with permits");
        assert!(
            locks_left > 0 && permits_left > 0,
            "no process died with a hold"
        );

        fs::remove_file(&shared.file).unwrap();
        for toiler in &mut toilers {
            assert_eq!(toiler.next_report(), "done");
        }
        let status = shared.lock.status().await.unwrap();
        assert_eq!((status.is_held, status.waiting), (false, 0));
        let status = shared.permits.status().await.unwrap();
        assert_eq!((status.available, status.held, status.waiting), (3, 0, 0));
    });
}

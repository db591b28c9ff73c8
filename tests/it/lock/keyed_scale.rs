//! The cost of very many keys: the memory of the manager for each key, and the time until the keys
//! of a killed process are passed on.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use lockkeeper::{KeyedLock, Manager};
use lockkeeper_test_support::{Role, Roles, report, until};

use crate::{manager::process::pid_of, run};

/// The table of keys has just grown at this number, and is as empty as it ever gets.
const KEYS: usize = 115_000;

/// How many are acquired in one go.
const BATCH: usize = 5_000;

/// What a held key may take of the manager's memory, all included.
const MOST_BYTES: usize = 128;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "lock::keyed_scale::hoarder",
        |(locks, keys): (KeyedLock, usize)| async move {
            acquire_keys(&locks, 0, keys).await;
            report("held");
            std::future::pending::<()>().await;
        },
    );
}

/// Takes keys and keeps them for as long as the session lasts.
async fn acquire_keys(locks: &KeyedLock, first: usize, last: usize) {
    for start in (first..last).step_by(BATCH) {
        let keys = start..last.min(start + BATCH);
        // 22 bytes, the longest that stand in place.
        let keys = keys.map(|n| format!("/corpus/record/{n:07}"));
        let guards = try_join_all(keys.map(|key| locks.acquire(key))).await;
        for guard in guards.unwrap() {
            drop(guard.into_ticket());
        }
    }
}

/// The bytes of memory that a process has in use.
fn resident(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn held_key_takes_few_bytes_of_the_manager() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let process = pid_of(&manager).await;
        let locks = manager.keyed_lock().await.unwrap();
        // What a manager takes for its first calls is not what it takes for each key.
        acquire_keys(&locks, 0, BATCH).await;
        let before = resident(process);
        acquire_keys(&locks, BATCH, BATCH + KEYS).await;
        let each = resident(process).saturating_sub(before) / KEYS;
        println!("{each} bytes a key");
        assert_eq!(
            locks.status().await.unwrap().keys,
            u64::try_from(BATCH + KEYS).unwrap()
        );
        assert!(
            each > 40,
            "{each} bytes are less than what is kept of a key"
        );
        assert!(each <= MOST_BYTES, "{each} bytes a key");
    });
}

/// How long it takes until all keys of a killed process are passed on or marked.
async fn time_of_death(manager: &Manager, keys: usize) -> Duration {
    let locks = manager.keyed_lock().await.unwrap();
    let mut hoarder = Role::start("lock::keyed_scale::hoarder", &(&locks, keys));
    assert_eq!(hoarder.next_report(), "held");
    let last = format!("/corpus/record/{:07}", keys - 1);
    let next = tokio::spawn(locks.acquire(last.clone()));
    until("the heir waits", || async {
        locks.key_status(&last).await.unwrap().waiting == 1
    })
    .await;
    let begun = Instant::now();
    hoarder.kill();
    let next = next.await.unwrap().unwrap();
    let taken = begun.elapsed();
    assert_eq!(next.abandoned().unwrap().holder.pid, hoarder.pid());
    let count = locks.status().await.unwrap();
    let others = u64::try_from(keys - 1).unwrap();
    assert_eq!((count.keys, count.abandoned), (1, others));
    taken
}

#[test]
fn death_of_a_holder_of_very_many_keys_takes_no_quadratic_step() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let few = time_of_death(&manager, KEYS / 50).await;
        let many = time_of_death(&manager, KEYS).await;
        println!("{few:?} for a fiftieth, {many:?} for all");
        // Fifty times as many would take 2,500 times as long. What a death takes of itself is the
        // most of the shorter one.
        let linear = few.max(Duration::from_millis(10)) * 50;
        assert!(
            many < linear * 4,
            "{few:?} for a fiftieth, {many:?} for all"
        );
    });
}

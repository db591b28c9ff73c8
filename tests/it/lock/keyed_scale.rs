//! The cost of very many keys: the manager's memory for each key, and the time until the keys of a
//! killed process are granted to others.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use lockkeeper::{KeyedLock, Manager};
use lockkeeper_test_support::{Role, Roles, report, until};

use crate::{manager::process::pid_of, run};

/// At this number the table of keys has just grown, so it has the most unused memory.
const KEYS: usize = 115_000;

/// The number of keys that are acquired at a time.
const BATCH: usize = 5_000;

/// The limit of the manager's memory for one held key.
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

/// Acquires keys and keeps them until the session ends.
async fn acquire_keys(locks: &KeyedLock, first: usize, last: usize) {
    for start in (first..last).step_by(BATCH) {
        let keys = start..last.min(start + BATCH);
        // Keys of 22 bytes, the longest that are stored inline.
        let keys = keys.map(|n| format!("/corpus/record/{n:07}"));
        let guards = try_join_all(keys.map(|key| locks.acquire(key))).await;
        for guard in guards.unwrap() {
            drop(guard.into_ticket());
        }
    }
}

/// Returns the resident bytes of a process.
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
        // The first calls of a manager allocate memory that does not belong to the keys.
        acquire_keys(&locks, 0, BATCH).await;
        let before = resident(process);
        acquire_keys(&locks, BATCH, BATCH + KEYS).await;
        let each = resident(process).saturating_sub(before) / KEYS;
        println!("{each} bytes a key");
        assert_eq!(
            locks.status().await.unwrap().keys,
            u64::try_from(BATCH + KEYS).unwrap()
        );
        assert!(each > 40, "{each} bytes are less than the data of a key");
        assert!(each <= MOST_BYTES, "{each} bytes a key");
    });
}

/// Returns the time until all keys of a killed process are granted to others or marked.
async fn time_of_death(manager: &Manager, keys: usize) -> Duration {
    let locks = manager.keyed_lock().await.unwrap();
    let mut hoarder = Role::start("lock::keyed_scale::hoarder", &(&locks, keys));
    assert_eq!(hoarder.next_report(), "held");
    let last = format!("/corpus/record/{:07}", keys - 1);
    let next = tokio::spawn(locks.acquire(last.clone()));
    until("the next process waits", || async {
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
        // With a quadratic step, fifty times as many keys would take 2,500 times as long. The fixed
        // cost of a death dominates the shorter time, so that has a lower bound.
        let linear = few.max(Duration::from_millis(10)) * 50;
        assert!(
            many < linear * 4,
            "{few:?} for a fiftieth, {many:?} for all"
        );
    });
}

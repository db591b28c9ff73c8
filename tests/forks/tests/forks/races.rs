//! Forks at any moment, while other threads make calls.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::AsRawFd,
    panic,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use lockkeeper::{Blocking, CallError, Lock, Manager, Pool, Value, block_on};
use lockkeeper_test_forks::{
    Fork, is_dead, limit_descriptors, make_file_locks_slow, make_socket_pairs_slow, pause,
    slow_file_locks, slow_socket_pairs,
};

use crate::{
    Test,
    guards::{is_forked, spawned},
    managers::folder,
    pools::Double,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "races::child_of_a_fork_during_the_first_use_makes_its_own",
        first_use,
    ),
    (
        "races::claim_that_a_start_makes_meanwhile_is_not_the_childs",
        claim_is_not_the_childs,
    ),
    (
        "races::program_without_descriptors_is_told_which_limit_to_raise",
        program_without_descriptors,
    ),
    (
        "races::no_lock_is_lost_while_threads_call_and_200_forks_happen",
        no_lock_is_lost,
    ),
    (
        "races::child_never_hangs_whatever_other_threads_had_locked",
        child_never_hangs,
    ),
    (
        "races::descriptors_that_are_opened_and_closed_meanwhile_are_not_the_childs",
        descriptors_are_not_the_childs,
    ),
    (
        "races::child_has_no_end_of_what_connects_workers_and_spawned_managers",
        no_end_is_the_childs,
    ),
];

const FORKS: u32 = 200;

/// The number of managers and pools that are started during the forks.
const ROUNDS: u32 = 12;

/// Adds one under a lock, with a read and a write that only the lock makes atomic.
async fn add(lock: &Lock, value: &Value<u32>) -> Result<(), CallError> {
    let guard = lock.acquire().await?;
    let now = value.get().await?;
    value.set(now + 1).await?;
    guard.release().await
}

/// Runs `work` while other threads add to a value under a lock, with each way to call, and checks that no
/// addition is lost.
fn beside_callers(manager: &Manager, work: impl FnOnce(&Lock, &Value<u32>)) {
    let lock = block_on(manager.lock()).expect("a lock");
    let value = block_on(manager.value(0_u32)).expect("a value");
    let (is_over, steps) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    block_on(add(&lock, &value)).expect("a plain thread calls on");
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                while !is_over.load(Ordering::Relaxed) {
                    let both = tokio::join!(add(&lock, &value), add(&lock, &value));
                    both.0.expect("a runtime calls on");
                    both.1.expect("a runtime calls on");
                    steps.fetch_add(2, Ordering::Relaxed);
                }
            });
        });
        work(&lock, &value);
        is_over.store(true, Ordering::Relaxed);
    });
    let counted = block_on(value.get()).expect("a value");
    assert_eq!(counted, steps.into_inner());
}

fn no_lock_is_lost() {
    let manager = spawned();
    let own = block_on(manager.lock()).expect("a lock");
    beside_callers(&manager, |_, _| {
        let guard = block_on(own.acquire()).expect("it is free");
        let mut held = Some(guard);
        let mut forks = Vec::new();
        for turn in 0..FORKS {
            forks.push(Fork::new(|| drop(held.take())));
            // Some children run for a while, together with others.
            if turn % 4 == 3 {
                forks.drain(..).for_each(Fork::join);
            }
            thread::sleep(Duration::from_micros(u64::from(turn * 37 % 501)));
        }
        let guard = held.expect("the parent's");
        assert!(guard.is_valid());
        block_on(guard.release()).expect("it is held");
    });
}

fn child_never_hangs() {
    let manager = spawned();
    beside_callers(&manager, |lock, value| {
        for turn in 0..FORKS / 2 {
            let fork = Fork::new(|| {
                assert!(is_forked(&block_on(manager.lock()).map(drop)));
                if turn % 2 == 0 {
                    let seen = block_on(value.get()).expect("over a connection of its own");
                    let guard = block_on(lock.acquire()).expect("its turn");
                    assert!(block_on(value.get()).expect("a value") >= seen);
                    drop(guard);
                }
            });
            fork.join();
        }
    });
}

fn descriptors_are_not_the_childs() {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            while !is_over.load(Ordering::Relaxed) {
                let manager = block_on(Manager::start()).expect("a manager");
                let lock = runtime.block_on(manager.lock()).expect("a lock");
                drop(block_on(lock.acquire()).expect("it is free"));
            }
        });
        let mut forks = Vec::new();
        for turn in 0..60 {
            forks.push(Fork::new(|| {
                let manager = block_on(Manager::start()).expect("a manager of the child");
                let lock = block_on(manager.lock()).expect("a lock");
                drop(block_on(lock.acquire()).expect("it is free"));
            }));
            if turn % 3 == 2 {
                forks.drain(..).for_each(Fork::join);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Returns the sockets and pipes of this process whose other end may be open.
fn live_ends() -> BTreeSet<String> {
    let listed = fs::read_dir("/proc/self/fd").expect("the list of descriptors");
    let numbers: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let live = numbers
        .into_iter()
        .filter(|number| *number > 2 && !is_dead(*number));
    live.filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok())
        .filter_map(|link| link.to_str().map(str::to_owned))
        .filter(|link| link.starts_with("socket:") || link.starts_with("pipe:"))
        .collect()
}

fn no_end_is_the_childs() {
    let start = || {
        let manager = block_on(Manager::spawn()).expect("a manager");
        block_on(manager.lock()).expect("a lock");
        let pool = block_on(Pool::new(2)).expect("a pool");
        assert_eq!(block_on(pool.apply(Blocking(Double(2)))), Ok(4));
    };
    // Creates the descriptors that a process keeps permanently, such as tokio's signal pipe, before
    // the comparison.
    start();
    let known = live_ends();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                start();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            Fork::new(|| {
                let new: Vec<_> = live_ends().difference(&known).cloned().collect();
                assert_eq!(new, [""; 0], "the child has ends of its parent's");
            })
            .join();
        }
    });
}

/// Forks during each `socketpair` call of another thread's first use of the library: tokio makes some of these calls
/// while it holds a process-wide lock.
fn first_use() {
    make_socket_pairs_slow(true);
    let first = thread::spawn(|| drop(block_on(Manager::start()).expect("a manager")));
    let (mut seen, mut forks) = (0, Vec::new());
    while !first.is_finished() {
        let now = slow_socket_pairs();
        if now == seen {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        seen = now;
        forks.push(Fork::new(|| {
            make_socket_pairs_slow(false);
            drop(block_on(Manager::start()).expect("a manager of the child"));
        }));
    }
    first.join().expect("it starts a manager");
    assert!(!forks.is_empty());
    forks.into_iter().for_each(Fork::join);
}

/// A start locks the claim file of its address. A child that is forked meanwhile must not keep the lock.
fn claim_is_not_the_childs() {
    let (_folder, path) = folder();
    make_file_locks_slow(true);
    let start = || block_on(Manager::builder().address(&*path).shards(2).start());
    let (mut seen, mut forks) = (0, Vec::new());
    thread::scope(|threads| {
        let starter = threads.spawn(|| drop(start().expect("a manager")));
        while !starter.is_finished() {
            let now = slow_file_locks();
            if now == seen {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            seen = now;
            forks.push(Fork::new(|| pause()));
        }
    });
    make_file_locks_slow(false);
    assert!(!forks.is_empty(), "it locks its claim");
    drop(start().expect("no child has the claim locked"));
    forks.into_iter().for_each(Fork::kill);
}

fn program_without_descriptors() {
    let lowest = File::open("/dev/null").expect("a descriptor").as_raw_fd();
    let lowest = u64::try_from(lowest).expect("a number");
    let run = || lockkeeper::program().run(async {});
    for more in 0..8 {
        limit_descriptors(lowest + more);
        if let Err(panic) = panic::catch_unwind(run) {
            let why = panic.downcast::<String>().expect("a text");
            assert!(why.contains("ulimit -n"), "{why}");
        }
    }
    limit_descriptors(1000);
    run();
}

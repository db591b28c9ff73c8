//! Signals whose handlers do not restart the system calls that they interrupt, as those of programs that were not
//! written in Rust.

use std::{
    io, process, thread,
    time::{Duration, Instant},
};

use lockkeeper::{Blocking, CallError, Fence, FenceFile, Manager, Pool, block_on};
use lockkeeper_test_forks::{
    Fork, among_signals, hear, let_sigpipe_end, make_closes_slow, tell, until, while_all_are_reaped,
};
use lockkeeper_test_support::{children_of, kill};

use crate::{
    Test,
    guards::spawned,
    managers::folder,
    pools::{Double, Nap},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "signals::interrupted_calls_of_a_plain_thread_have_their_answers",
        calls,
    ),
    (
        "signals::interrupted_starts_and_files_work",
        starts_and_files,
    ),
    (
        "signals::program_that_sigpipe_ends_outlives_its_children_managers_and_clients",
        sigpipe,
    ),
    (
        "signals::program_that_reaps_all_of_its_children_has_its_workers_replaced",
        reaped_children,
    ),
];

const STEPS: u32 = 300;

fn calls() {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let queue = block_on(manager.queue::<u32>(1)).expect("a queue");
    let value = block_on(manager.value(0_u32)).expect("a value");
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..STEPS {
                drop(lock.acquire().blocking().expect("its turn"));
                queue.put(number).blocking().expect("it is open");
            }
        });
        among_signals(|| {
            for number in 0..STEPS {
                let guard = lock.acquire().blocking().expect("its turn");
                value.set(number).blocking().expect("a value");
                block_on(guard.release()).expect("it is held");
                let item = queue.get().blocking().expect("an item");
                assert_eq!(*item, number);
                block_on(item.done()).expect("it is held");
                assert_eq!(value.get().blocking().expect("a value"), number);
            }
        });
    });
    among_signals(|| {
        let guard = lock.acquire().blocking().expect("it is free");
        for _ in 0..10 {
            let (since, patience) = (Instant::now(), Duration::from_millis(50));
            let waited = lock.acquire().timeout(patience).blocking();
            assert!(
                matches!(waited, Err(CallError::TimedOut { .. })),
                "{waited:?}"
            );
            assert!((patience..10 * patience).contains(&since.elapsed()));
        }
        assert!(guard.is_valid());
    });
}

fn starts_and_files() {
    let (files, path) = folder();
    among_signals(|| {
        for round in 1..=5 {
            let manager = block_on(Manager::builder().address(&*path).shards(2).start());
            let manager = manager.expect("a manager");
            let client = block_on(Manager::connect(&*path)).expect("it is there");
            let lock = block_on(client.lock()).expect("a lock");
            drop(block_on(lock.acquire()).expect("it is free"));
            let spawned = block_on(Manager::spawn()).expect("a manager");
            block_on(spawned.lock()).expect("a lock");
            let pool = block_on(Pool::new(1)).expect("a pool");
            let doubles = block_on(pool.try_map((0..100).map(|it| Blocking(Double(it)))));
            assert_eq!(doubles.expect("all are run").len(), 100);
            block_on(pool.join()).expect("it ends");
            let mark = FenceFile::beside(files.path().join("page"));
            mark.write(Fence::new(round), || ()).expect("its turn");
            block_on(manager.shutdown());
            block_on(spawned.shutdown());
        }
    });
}

/// A write to a socket whose other end has died raises SIGPIPE, unless the writer forbids it.
fn sigpipe() {
    let_sigpipe_end();
    let (_folder, path) = folder();
    let manager = block_on(Manager::builder().address(&*path).start()).expect("a manager");
    let lock = block_on(manager.named("it").lock()).expect("a lock");
    for _ in 0..10 {
        let guard = block_on(lock.acquire()).expect("its holder has died");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let client = Fork::new(|| {
            let client = block_on(Manager::connect(&*path)).expect("it is there");
            let lock = block_on(client.named("it").lock()).expect("a lock");
            tell(writer, 1);
            drop(lock.acquire().blocking());
        });
        assert_eq!(hear(&mut reader), 1);
        let kill = thread::spawn(|| client.kill());
        drop(guard);
        kill.join().expect("it is killed");
    }
    for _ in 0..10 {
        let spawned = block_on(Manager::spawn()).expect("a manager");
        let lock = block_on(spawned.lock()).expect("a lock");
        children_of(process::id()).into_iter().for_each(kill);
        for _ in 0..3 {
            drop(block_on(lock.acquire()));
        }
    }
    // A child that has ended before it is told its role.
    let parent = process::id();
    let killer = Fork::new(|| {
        loop {
            let others = children_of(parent).into_iter();
            others.filter(|pid| *pid != process::id()).for_each(kill);
        }
    });
    make_closes_slow(true);
    for _ in 0..3 {
        // A child may also be killed after it was told, or when it is ready.
        drop(block_on(Pool::new(1)));
        drop(block_on(Manager::spawn()));
    }
    killer.kill();
    make_closes_slow(false);
    block_on(Pool::new(1)).expect("a pool");
}

/// The handler of SIGCHLD that such programs have often waits for all children, and so takes the exit status.
fn reaped_children() {
    while_all_are_reaped(|| {
        for _ in 0..5 {
            let pool = block_on(Pool::new(1)).expect("a pool");
            let nap = pool.spawn(Blocking(Nap(Duration::from_secs(600))));
            until("the task runs", || {
                block_on(pool.status()).expect("a status").running == 1
            });
            block_on(pool.pids()).into_iter().for_each(kill);
            let outcome = block_on(nap);
            assert!(
                matches!(&outcome, Err(error) if error.exit().is_some()),
                "{outcome:?}"
            );
            assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
            block_on(pool.join()).expect("it ends");
            let manager = block_on(Manager::spawn()).expect("a manager");
            block_on(manager.lock()).expect("a lock");
            block_on(manager.shutdown());
        }
    });
}

//! Signals whose handlers do not restart the system calls that they interrupt, as those of programs that were not
//! written in Rust.

use std::{
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{CallError, Fence, FenceFile, Manager, Pool, block_on, proxies::Plain};
use lockkeeper_test_forks::among_signals;

use crate::{Test, guards::spawned, managers::folder, pools::Double};

pub(crate) const TESTS: &[Test] = &[
    (
        "signals::interrupted_calls_of_a_plain_thread_have_their_answers",
        calls,
    ),
    (
        "signals::interrupted_starts_and_files_work",
        starts_and_files,
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
            let doubles = block_on(pool.map((0..100).map(|it| Plain(Double(it)))));
            assert_eq!(doubles.expect("all are run").len(), 100);
            block_on(pool.join()).expect("it ends");
            let mark = FenceFile::beside(files.path().join("page"));
            mark.write(Fence::new(round), || ()).expect("its turn");
            block_on(manager.shutdown());
            block_on(spawned.shutdown());
        }
    });
}

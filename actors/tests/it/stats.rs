//! The statistics of an object, which the host collects for every kind after a caller first had to
//! wait.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Deadlock, Fault, Proof, Stats, Times,
    codec::Blob,
    data::{Done, Get, Put, PutBack, Queue, QueueSpec},
    sync::{
        Access, Acquire, AcquireFor, AcquireKey, AcquireMany, AdoptKey, Downgrade, Event,
        ForceUnlock, ForceUnlockKey, KeyedLock, Lock, Release, ReleaseBy, ReleasePermits, RwLock,
        Semaphore, SemaphoreSpec, Set, Upgrade, WaitSet,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn lock() -> Bench<Lock> {
    Bench::new(ReleaseBy::Holder).expect("every spec is valid")
}

fn stats(bench: &mut Bench<Lock>) -> Stats {
    bench.stats().expect("a call had to wait")
}

fn release(bench: &mut Bench<Lock>, grant: CallId) {
    bench.call(
        grant.session().number(),
        Release {
            grant: Proof::own(grant),
        },
    );
}

/// Returns the number, the least, the mean and the greatest of the times, in seconds.
fn seconds(times: Times) -> (u64, [f64; 3]) {
    let Times {
        count,
        min,
        mean,
        max,
        ..
    } = times;
    (count, [min, mean, max].map(|time| time.as_secs_f64()))
}

#[test]
fn object_without_waiters_is_not_measured() {
    let mut bench = lock();
    let grant = bench.call(1, Acquire);
    let tried = bench.call_within(2, Acquire, Duration::ZERO);
    assert!(bench.is_answered(tried));
    release(&mut bench, grant);
    assert_eq!(bench.stats(), None);
}

#[test]
fn waits_and_holds_are_measured_from_the_first_wait_on() {
    let mut bench = lock();
    let first = bench.call(1, Acquire);
    bench.advance(SECOND);
    let second = bench.call(2, Acquire);
    bench.advance(2 * SECOND);
    release(&mut bench, first);
    let third = bench.call(3, Acquire);
    bench.advance(4 * SECOND);
    release(&mut bench, second);
    release(&mut bench, third);
    let fourth = bench.call(1, Acquire);
    release(&mut bench, fourth);
    let observed = stats(&mut bench);
    assert_eq!((observed.waits, observed.grants), (2, 3));
    assert_eq!(seconds(observed.waited), (2, [2.0, 3.0, 4.0]));
    assert_eq!(seconds(observed.held), (4, [0.0, 1.75, 4.0]));
    assert!(observed.waited.p50 >= 2 * SECOND && observed.waited.p99 == 4 * SECOND);
}

#[test]
fn each_way_of_ending_a_wait_has_its_own_counter() {
    let mut bench = lock();
    bench.call(1, Acquire);
    let withdrawn = bench.call(2, Acquire);
    bench.call_within(3, Acquire, SECOND);
    let failed = bench.call(4, Acquire);
    bench.call(5, Acquire);
    let granted = bench.call(6, Acquire);
    let tried = bench.call_within(7, Acquire, Duration::ZERO);
    assert!(bench.is_answered(tried));
    bench.advance(SECOND);
    bench.withdraw(withdrawn);
    let deadlock = Deadlock::new(Vec::new(), 0);
    bench.fail(failed, Fault::Deadlock(Box::new(deadlock)));
    bench.hang_up(5);
    bench.hang_up(1);
    assert!(bench.is_answered(granted));
    let observed = stats(&mut bench);
    assert_eq!(observed.waits, 5, "a try call does not wait");
    let ends = [
        observed.cancellations,
        observed.timeouts,
        observed.deadlocks,
        observed.disconnections,
    ];
    assert_eq!(ends, [1; 4]);
    assert_eq!((observed.waited.count, observed.abandonments), (1, 1));
    bench.call(9, ForceUnlock);
    assert_eq!(stats(&mut bench).held.count, 2);
    assert_eq!(stats(&mut bench).abandonments, 1);
}

#[test]
fn withdrawn_grant_does_not_count_as_a_withdrawn_wait() {
    let mut bench = lock();
    let first = bench.call(1, Acquire);
    bench.call(2, Acquire);
    bench.withdraw(first);
    let observed = stats(&mut bench);
    assert_eq!((observed.cancellations, observed.waited.count), (0, 1));
}

#[test]
fn permits_are_held_until_the_last_of_a_grant_is_released() {
    let spec = SemaphoreSpec {
        permits: 2,
        release_by: ReleaseBy::Holder,
    };
    let mut bench = Bench::<Semaphore>::new(spec).expect("the spec is valid");
    let grant = bench.call(1, AcquireMany { permits: 2 });
    bench.call(2, AcquireMany { permits: 1 });
    for _ in 0..2 {
        bench.advance(SECOND);
        bench.call(
            1,
            ReleasePermits {
                grant: Proof::own(grant),
                permits: 1,
            },
        );
    }
    let observed = bench.stats().expect("a call had to wait");
    assert_eq!(seconds(observed.held), (1, [2.0; 3]));
    assert_eq!(seconds(observed.waited), (1, [1.0; 3]));
}

#[test]
fn kinds_without_holds_are_measured_too() {
    let mut bench = Bench::<Event>::new(()).expect("every spec is valid");
    bench.call(1, WaitSet { since: None });
    bench.advance(SECOND);
    bench.call(2, Set);
    let observed = bench.stats().expect("a call had to wait");
    assert_eq!(
        (observed.waits, observed.grants, observed.held.count),
        (1, 0, 0)
    );
    assert_eq!(seconds(observed.waited), (1, [1.0; 3]));
}

#[test]
fn readers_and_writers_are_measured_and_a_dead_writer_is_an_abandonment() {
    let mut bench = Bench::<RwLock>::new(ReleaseBy::Holder).expect("every spec is valid");
    let acquire =
        |bench: &mut Bench<RwLock>, session, access| bench.call(session, AcquireFor { access });
    let reader = acquire(&mut bench, 1, Access::Read);
    acquire(&mut bench, 2, Access::Write);
    bench.advance(SECOND);
    bench.call(
        1,
        Release {
            grant: Proof::own(reader),
        },
    );
    bench.advance(2 * SECOND);
    bench.hang_up(2);
    let upgradable = acquire(&mut bench, 3, Access::Upgradable);
    bench.advance(3 * SECOND);
    let grant = bench.call(
        3,
        Upgrade {
            grant: Proof::own(upgradable),
        },
    );
    let to = Access::Read;
    bench.call(
        3,
        Downgrade {
            grant: Proof::own(grant),
            to,
        },
    );
    bench.call(
        3,
        Release {
            grant: Proof::own(grant),
        },
    );
    let observed = bench.stats().expect("a call had to wait");
    // Each grant is measured once: an upgraded hold has two.
    assert_eq!(seconds(observed.held), (4, [0.0, 1.5, 3.0]));
    assert_eq!((observed.abandonments, observed.waited.count), (1, 1));
}

#[test]
fn items_are_measured_for_as_long_as_they_are_taken() {
    let spec = QueueSpec {
        capacity: None,
        schema: "item".to_owned(),
    };
    let mut bench = Bench::<Queue>::new(spec).expect("the spec is valid");
    let first = bench.call(1, Get);
    for byte in 0..3 {
        let item = Blob::from(vec![byte]);
        bench.call(9, Put { item });
    }
    bench.call(2, Get);
    let third = bench.call(3, Get);
    bench.advance(SECOND);
    bench.call(
        1,
        Done {
            delivery: Proof::own(first),
        },
    );
    bench.advance(SECOND);
    bench.call(
        3,
        PutBack {
            delivery: Proof::own(third),
        },
    );
    bench.advance(SECOND);
    bench.hang_up(2);
    let observed = bench.stats().expect("a call had to wait");
    assert_eq!(seconds(observed.held), (3, [1.0, 2.0, 3.0]));
    assert_eq!(observed.abandonments, 1);
}

#[test]
fn holds_of_keys_are_measured_for_every_way_of_ending() {
    let mut bench = Bench::<KeyedLock>::new(ReleaseBy::Holder).expect("every spec is valid");
    let acquire = |bench: &mut Bench<KeyedLock>, session, key: &str| {
        let key = key.into();
        bench.call(session, AcquireKey { key })
    };
    let released = acquire(&mut bench, 1, "a");
    acquire(&mut bench, 2, "a");
    let adopted = acquire(&mut bench, 3, "b");
    acquire(&mut bench, 4, "c");
    let unseen = acquire(&mut bench, 5, "d");
    bench.advance(SECOND);
    bench.call(
        1,
        Release {
            grant: Proof::own(released),
        },
    );
    let ticket = bench.signed(adopted);
    bench.call(6, AdoptKey { grant: ticket });
    bench.call(6, ForceUnlockKey { key: "c".into() });
    bench.withdraw(unseen);
    let observed = bench.stats().expect("a call had to wait");
    assert_eq!(seconds(observed.held), (4, [1.0; 3]));
    assert_eq!(observed.abandonments, 0);
    bench.advance(SECOND);
    bench.hang_up(2);
    bench.hang_up(6);
    let observed = bench.stats().expect("a call had to wait");
    assert_eq!((observed.held.count, observed.abandonments), (6, 2));
}

//! The time of a step of a readers-writer lock does not grow with the number of waiters.
//!
//! Times are compared with each other in one run, by wide margins: a step that walks through all
//! waiters is a thousand times slower.

use std::time::{Duration, Instant};

use lockkeeper_actors::{
    Bench, CallId, Proof,
    sync::{Access, AcquireFor, GetRwLockStatus, Release, ReleaseBy, RwLock, Upgrade},
};

/// The number of waiters.
const WAITERS: usize = 100_000;

/// The number of measured steps.
const STEPS: usize = 1_000;

/// The sessions of the waiters.
const WRITERS: u64 = 1;
const READERS: u64 = 2;

/// Another session.
const OTHER: u64 = 3;

fn acquire(bench: &mut Bench<RwLock>, session: u64, access: Access) -> CallId {
    bench.call(session, AcquireFor { access })
}

fn time(steps: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    steps();
    begun.elapsed()
}

/// Returns the time of the steps at an uncontended lock.
fn undisturbed() -> Duration {
    let mut bench = Bench::new(ReleaseBy::Holder).unwrap();
    time(|| {
        for _ in 0..STEPS {
            let grant = acquire(&mut bench, OTHER, Access::Write);
            bench.call(
                OTHER,
                Release {
                    grant: Proof::own(grant),
                },
            );
        }
    })
}

#[test]
fn readers_and_writers_that_wait_do_not_slow_the_steps_of_their_lock() {
    let alone = undisturbed();
    let mut bench = Bench::new(ReleaseBy::Holder).unwrap();
    let beside = acquire(&mut bench, OTHER, Access::Read);
    let grant = acquire(&mut bench, OTHER, Access::Upgradable);
    let mut waiters = Vec::with_capacity(WAITERS);
    let coming = time(|| {
        for _ in 0..WAITERS / 2 {
            waiters.push(acquire(&mut bench, WRITERS, Access::Write));
            waiters.push(acquire(&mut bench, READERS, Access::Read));
        }
    });

    let upgrades = time(|| {
        for _ in 0..STEPS {
            let upgrade = bench.call(
                OTHER,
                Upgrade {
                    grant: Proof::own(grant),
                },
            );
            assert!(!bench.is_answered(upgrade));
            bench.call(OTHER, GetRwLockStatus);
            bench.withdraw(upgrade);
        }
    });
    bench.call(
        OTHER,
        Release {
            grant: Proof::own(beside),
        },
    );
    let mut holder = bench.call(
        OTHER,
        Upgrade {
            grant: Proof::own(grant),
        },
    );
    let handoffs = time(|| {
        for next in &waiters[..STEPS] {
            bench.call(
                holder.session().number(),
                Release {
                    grant: Proof::own(holder),
                },
            );
            assert!(bench.is_answered(*next));
            holder = *next;
        }
    });
    let withdrawals = time(|| {
        for waiter in &waiters[WAITERS / 2..WAITERS / 2 + STEPS] {
            bench.withdraw(*waiter);
        }
    });
    for (what, took) in [
        ("handing on", handoffs),
        ("withdrawing", withdrawals),
        ("withdrawing upgrades", upgrades),
    ] {
        assert!(took < alone * 20, "{alone:?} alone, {took:?} for {what}");
    }

    let going = time(|| bench.hang_up(WRITERS));
    assert!(going < coming * 5, "{coming:?} to come, {going:?} to go");
    let last = waiters[WAITERS - 1];
    assert!(
        bench.is_answered(last),
        "readers without a waiting writer between them"
    );
    let status = bench.call(OTHER, GetRwLockStatus);
    let status = bench.reply::<GetRwLockStatus>(status).unwrap().unwrap();
    assert_eq!(status.waiting, 0);
    assert!(usize::try_from(status.readers).unwrap() > WAITERS / 2 - 2 * STEPS);
    let going = time(|| bench.hang_up(READERS));
    assert!(going < coming * 5, "{coming:?} to come, {going:?} to go");
}

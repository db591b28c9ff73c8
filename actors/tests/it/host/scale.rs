//! The cost of the calls of others does not grow with the number of waiters at an object.
//!
//! Times are compared with each other in one run, by wide margins: a step that walks through all
//! waiters is a thousand times slower.

use std::time::{Duration, Instant};

use lockkeeper_actors::{
    Input, Proof,
    sync::{Acquire, Lock, Release, ReleaseBy},
};

use crate::host::shard::{self, Hosted, Shard};

/// The number of waiters with deadlines.
const WAITERS: u64 = 100_000;

/// The number of measured cycles.
const CYCLES: u64 = 2_000;

/// The sessions of the waiters and of the other caller.
const MANY: u64 = 1;
const ONE: u64 = 2;

/// Returns the time of the cycles at an uncontended lock.
async fn cycles(lock: &Hosted<Lock>, first: u64) -> Duration {
    let begun = Instant::now();
    for cycle in 0..CYCLES {
        let seq = first + 2 * cycle;
        let grant = lock.call(ONE, seq, Acquire).await;
        lock.call(
            ONE,
            seq + 1,
            Release {
                grant: Proof::own(grant),
            },
        )
        .await;
    }
    begun.elapsed()
}

#[actix::test]
async fn waiters_with_deadlines_do_not_slow_their_neighbours_nor_their_own_lock() {
    let shard = Shard::new();
    let (crowded, quiet) = (
        shard.host::<Lock>(ReleaseBy::Holder),
        shard.host::<Lock>(ReleaseBy::Holder),
    );
    let _many = shard.join(MANY);
    let _one = shard.join(ONE);
    let before = cycles(&quiet, 1).await;

    let mut holder = crowded.call(MANY, 1, Acquire).await;
    let hour = Duration::from_secs(3600);
    for seq in 2..WAITERS + 2 {
        // Deadlines in pseudo-random order.
        let timeout = hour + Duration::from_nanos(seq.wrapping_mul(0x9e37_79b9) % 1_000_000);
        crowded.call_within(MANY, seq, Acquire, timeout).await;
    }
    assert_eq!(shard.deadlines(), usize::try_from(WAITERS).unwrap());

    let beside = cycles(&quiet, 1_000_000).await;
    assert!(
        beside < before * 20,
        "{before:?} before, {beside:?} beside them"
    );

    let begun = Instant::now();
    for seq in 2..CYCLES + 2 {
        let release = Release {
            grant: Proof::own(holder),
        };
        crowded.call(MANY, 10_000_000 + seq, release).await;
        holder = shard::id(MANY, seq);
    }
    let handoffs = begun.elapsed();
    assert!(
        handoffs < before * 20,
        "{before:?} before, {handoffs:?} with waiters"
    );

    let begun = Instant::now();
    for seq in (WAITERS - CYCLES..WAITERS).rev() {
        let withdraw = Input::Withdraw(shard::id(MANY, seq));
        crowded.send([withdraw]).await;
    }
    let withdrawals = begun.elapsed();
    assert!(
        withdrawals < before * 20,
        "{before:?} before, {withdrawals:?} to withdraw"
    );
    let left = WAITERS - 2 * CYCLES;
    assert_eq!(shard.deadlines(), usize::try_from(left).unwrap());
}

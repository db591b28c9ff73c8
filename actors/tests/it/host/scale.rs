//! The cost of many waiters at one object for the calls of others: none that grows with their
//! number.
//!
//! Times are compared with each other in one run, by wide margins: a step that walks through all
//! waiters is a thousand times slower.

use std::time::{Duration, Instant};

use lockkeeper_actors::{
    Input, Proof,
    sync::{Acquire, Lock, Release, ReleaseBy},
};

use crate::host::shard::{self, Hosted, Shard};

/// How many wait with deadlines.
const CROWD: u64 = 100_000;

/// How many cycles are timed.
const CYCLES: u64 = 2_000;

/// The sessions of the crowd and of the neighbour.
const MANY: u64 = 1;
const ONE: u64 = 2;

/// The time of so many cycles at an uncontended lock.
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
    for seq in 2..CROWD + 2 {
        // Deadlines in no order.
        let timeout = hour + Duration::from_nanos(seq.wrapping_mul(0x9e37_79b9) % 1_000_000);
        crowded.call_timeout(MANY, seq, Acquire, timeout).await;
    }
    assert_eq!(shard.deadlines(), usize::try_from(CROWD).unwrap());

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
        "{before:?} before, {handoffs:?} in the crowd"
    );

    let begun = Instant::now();
    for seq in (CROWD - CYCLES..CROWD).rev() {
        let withdraw = Input::Withdraw(shard::id(MANY, seq));
        crowded.send([withdraw]).await;
    }
    let withdrawals = begun.elapsed();
    assert!(
        withdrawals < before * 20,
        "{before:?} before, {withdrawals:?} to withdraw"
    );
    let left = CROWD - 2 * CYCLES;
    assert_eq!(shard.deadlines(), usize::try_from(left).unwrap());
}

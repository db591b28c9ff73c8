//! What processes do with readers-writer locks.
//!
//! Each mode takes a share of the ledger, so that modes which exclude each other do not fit
//! together.

use lockkeeper::{
    RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard,
    guards::{Guard, Guarded},
};
use rand::Rng;

use super::{
    exclusive::{look_at, release},
    ledger::{Entry, Ledger},
    scene::Known,
    worker::Hand,
};

/// What a writer takes: all there is.
pub(crate) const ALL: u32 = 100;

/// What the reader takes who may become the writer: more than half, since there is one.
const UPGRADABLE: u64 = 51;

/// What a reader takes. There are fewer tasks than would fit.
const READER: u64 = 1;

/// Reads or writes, or first the one and then the other.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<RwLock>) {
    match hand.random.random_range(0..5) {
        0 | 1 => read(hand, known).await,
        2 => write(hand, known).await,
        _ => read_and_write(hand, known).await,
    }
}

async fn read(hand: &mut Hand, known: &Known<RwLock>) {
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let lock = &known.object;
    let (wait, attempt) = (|| lock.read(), || lock.try_read());
    let limit = |time| lock.read().timeout(time);
    if let Some(guard) = hand.obtain(known, "read", wait, limit, attempt).await {
        let entry = ledger.enter(READER, guard.fence(), highest);
        let (guard, entry) = look_at(hand, known, guard, entry);
        go_out(hand, known, guard, entry).await;
    }
}

async fn write(hand: &mut Hand, known: &Known<RwLock>) {
    let ledger = known.ledger(&hand.notes);
    let lock = &known.object;
    let (wait, attempt) = (|| lock.write(), || lock.try_write());
    let limit = |time| lock.write().timeout(time);
    if let Some(guard) = hand.obtain(known, "write", wait, limit, attempt).await {
        let entry = ledger.enter(ALL.into(), guard.fence(), 0);
        let (guard, entry) = look_at(hand, known, guard, entry);
        written(hand, known, &ledger, guard, entry).await;
    }
}

async fn read_and_write(hand: &mut Hand, known: &Known<RwLock>) {
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let lock = &known.object;
    let wait = || lock.upgradable_read();
    let limit = |time| lock.upgradable_read().timeout(time);
    let attempt = || lock.try_upgradable_read();
    let guard = hand.obtain(known, "upgradable read", wait, limit, attempt);
    if let Some(guard) = guard.await {
        let entry = ledger.enter(UPGRADABLE, guard.fence(), highest);
        let (guard, entry) = look_at(hand, known, guard, entry);
        hand.linger().await;
        go_up(hand, known, &ledger, guard, entry).await;
    }
}

/// Becomes the writer in one of the ways that there are, or one of many readers.
async fn go_up(
    hand: &mut Hand,
    known: &Known<RwLock>,
    ledger: &Ledger,
    guard: RwLockUpgradableReadGuard,
    mut entry: Entry,
) {
    let outcome = match hand.random.random_range(0..6) {
        0 | 1 => {
            hand.does(known, "upgrade");
            guard.upgrade().await.map(Ok)
        }
        2 => {
            hand.does(known, "try_upgrade with a timeout");
            let brief = hand.brief();
            guard.try_upgrade().timeout(brief).await
        }
        3 => {
            hand.does(known, "try_upgrade");
            guard.try_upgrade().await
        }
        4 => {
            hand.does(known, "upgrade and drop");
            // The guard goes with the call.
            ledger.leave(entry);
            let outcome = hand.give_up(guard.upgrade()).await;
            if let Some(guard) = hand.granted(&known.name, outcome) {
                let entry = ledger.enter(ALL.into(), guard.fence(), 0);
                written(hand, known, ledger, guard, entry).await;
            }
            return;
        }
        _ => {
            hand.does(known, "give the right on");
            ledger.leave_in_part(&mut entry, UPGRADABLE - READER);
            let lowered = guard.downgrade().await;
            return stay(hand, known, lowered, entry).await;
        }
    };
    match hand.granted(&known.name, Some(outcome)) {
        Some(Ok(guard)) => {
            hand.count(known, "upgraded");
            // What this reader has seen since then was not changed by another writer.
            ledger.take_all(&mut entry, guard.fence());
            written(hand, known, ledger, guard, entry).await;
        }
        Some(Err(guard)) => {
            hand.count(known, "not upgraded");
            go_out(hand, known, guard, entry).await;
        }
        None => ledger.leave(entry),
    }
}

/// Leaves after a write, perhaps by way of reading.
async fn written(
    hand: &mut Hand,
    known: &Known<RwLock>,
    ledger: &Ledger,
    guard: RwLockWriteGuard,
    mut entry: Entry,
) {
    // For as long as it takes to be killed there often.
    tokio::time::sleep(hand.brief() * 2).await;
    let all = u64::from(ALL);
    match hand.random.random_range(0..4) {
        0 => {
            hand.does(known, "downgrade");
            ledger.leave_in_part(&mut entry, all - READER);
            let lowered = guard.downgrade().await;
            stay(hand, known, lowered, entry).await;
        }
        1 => {
            hand.does(known, "downgrade_to_upgradable");
            ledger.leave_in_part(&mut entry, all - UPGRADABLE);
            let lowered = guard.downgrade_to_upgradable().await;
            stay(hand, known, lowered, entry).await;
        }
        _ => go_out(hand, known, guard, entry).await,
    }
}

/// Reads on with what a hold was made of, which is still the same.
async fn stay<P: Guarded>(
    hand: &mut Hand,
    known: &Known<RwLock>,
    lowered: Result<Guard<P>, lockkeeper::CallError>,
    entry: Entry,
) {
    match hand.granted(&known.name, Some(lowered)) {
        Some(guard) => {
            hand.count(known, "downgraded");
            go_out(hand, known, guard, entry).await;
        }
        None => known.ledger(&hand.notes).leave(entry),
    }
}

async fn go_out<P: Guarded>(hand: &mut Hand, known: &Known<RwLock>, guard: Guard<P>, entry: Entry) {
    hand.linger().await;
    known.ledger(&hand.notes).leave(entry);
    release(hand, known, guard).await;
}

//! The actions of processes on readers-writer locks.
//!
//! Each mode has an amount in the hold record, so that incompatible modes exceed the maximum together.

use lockkeeper::{
    RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard,
    guards::{Guard, Guarded},
};
use rand::Rng;

use super::{
    exclusive::{check_grant, release},
    hold_record::{Entry, HoldRecord},
    setup::Named,
    worker::Runner,
};

/// The amount of a writer: the maximum.
pub(crate) const ALL: u32 = 100;

/// The amount of an upgradable reader: more than half, because there may be only one.
const UPGRADABLE: u64 = 51;

/// The amount of a reader. There are fewer tasks than would fit.
const READER: u64 = 1;

/// Reads, writes, or reads and then writes.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<RwLock>) {
    match runner.random.random_range(0..5) {
        0 | 1 => read(runner, named).await,
        2 => write(runner, named).await,
        _ => read_and_write(runner, named).await,
    }
}

async fn read(runner: &mut Runner, named: &Named<RwLock>) {
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let lock = &named.object;
    let (wait, attempt) = (|| lock.read(), || lock.try_read());
    let limit = |time| lock.read().timeout(time);
    if let Some(guard) = runner.obtain(named, "read", wait, limit, attempt).await {
        let entry = hold_record.enter(READER, guard.fence(), highest);
        let (guard, entry) = check_grant(runner, named, guard, entry);
        leave_and_release(runner, named, guard, entry).await;
    }
}

async fn write(runner: &mut Runner, named: &Named<RwLock>) {
    let hold_record = named.hold_record(&runner.notes);
    let lock = &named.object;
    let (wait, attempt) = (|| lock.write(), || lock.try_write());
    let limit = |time| lock.write().timeout(time);
    if let Some(guard) = runner.obtain(named, "write", wait, limit, attempt).await {
        let entry = hold_record.enter(ALL.into(), guard.fence(), 0);
        let (guard, entry) = check_grant(runner, named, guard, entry);
        written(runner, named, &hold_record, guard, entry).await;
    }
}

async fn read_and_write(runner: &mut Runner, named: &Named<RwLock>) {
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let lock = &named.object;
    let wait = || lock.upgradable_read();
    let limit = |time| lock.upgradable_read().timeout(time);
    let attempt = || lock.try_upgradable_read();
    let guard = runner.obtain(named, "upgradable read", wait, limit, attempt);
    if let Some(guard) = guard.await {
        let entry = hold_record.enter(UPGRADABLE, guard.fence(), highest);
        let (guard, entry) = check_grant(runner, named, guard, entry);
        runner.pause().await;
        upgrade_randomly(runner, named, &hold_record, guard, entry).await;
    }
}

/// Upgrades in a randomly chosen way, or downgrades to a reader.
async fn upgrade_randomly(
    runner: &mut Runner,
    named: &Named<RwLock>,
    hold_record: &HoldRecord,
    guard: RwLockUpgradableReadGuard,
    mut entry: Entry,
) {
    let outcome = match runner.random.random_range(0..6) {
        0 | 1 => {
            runner.trace(named, "upgrade");
            guard.upgrade().await.map(Ok)
        }
        2 => {
            runner.trace(named, "try_upgrade with a timeout");
            let brief = runner.brief();
            guard.try_upgrade().timeout(brief).await
        }
        3 => {
            runner.trace(named, "try_upgrade");
            guard.try_upgrade().await
        }
        4 => {
            runner.trace(named, "upgrade and drop");
            // Dropping the call drops the guard.
            hold_record.leave(entry);
            let outcome = runner.give_up(guard.upgrade()).await;
            if let Some(guard) = runner.granted(&named.name, outcome) {
                let entry = hold_record.enter(ALL.into(), guard.fence(), 0);
                written(runner, named, hold_record, guard, entry).await;
            }
            return;
        }
        _ => {
            runner.trace(named, "downgrade to a reader");
            hold_record.leave_in_part(&mut entry, UPGRADABLE - READER);
            let lowered = guard.downgrade().await;
            return stay(runner, named, lowered, entry).await;
        }
    };
    match runner.granted(&named.name, Some(outcome)) {
        Some(Ok(guard)) => {
            runner.count(named, "upgraded");
            // No other writer was granted since this reader's grant.
            hold_record.take_all(&mut entry, guard.fence());
            written(runner, named, hold_record, guard, entry).await;
        }
        Some(Err(guard)) => {
            runner.count(named, "not upgraded");
            leave_and_release(runner, named, guard, entry).await;
        }
        None => hold_record.leave(entry),
    }
}

/// Releases after a write, sometimes after a downgrade.
async fn written(
    runner: &mut Runner,
    named: &Named<RwLock>,
    hold_record: &HoldRecord,
    guard: RwLockWriteGuard,
    mut entry: Entry,
) {
    // Long enough that processes are often killed here.
    tokio::time::sleep(runner.brief() * 2).await;
    let all = u64::from(ALL);
    match runner.random.random_range(0..4) {
        0 => {
            runner.trace(named, "downgrade");
            hold_record.leave_in_part(&mut entry, all - READER);
            let lowered = guard.downgrade().await;
            stay(runner, named, lowered, entry).await;
        }
        1 => {
            runner.trace(named, "downgrade_to_upgradable");
            hold_record.leave_in_part(&mut entry, all - UPGRADABLE);
            let lowered = guard.downgrade_to_upgradable().await;
            stay(runner, named, lowered, entry).await;
        }
        _ => leave_and_release(runner, named, guard, entry).await,
    }
}

/// Keeps reading with a downgraded hold, which has the same fence.
async fn stay<P: Guarded>(
    runner: &mut Runner,
    named: &Named<RwLock>,
    lowered: Result<Guard<P>, lockkeeper::CallError>,
    entry: Entry,
) {
    match runner.granted(&named.name, Some(lowered)) {
        Some(guard) => {
            runner.count(named, "downgraded");
            leave_and_release(runner, named, guard, entry).await;
        }
        None => named.hold_record(&runner.notes).leave(entry),
    }
}

async fn leave_and_release<P: Guarded>(
    runner: &mut Runner,
    named: &Named<RwLock>,
    guard: Guard<P>,
    entry: Entry,
) {
    runner.pause().await;
    named.hold_record(&runner.notes).leave(entry);
    release(runner, named, guard).await;
}

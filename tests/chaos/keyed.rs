//! The actions of processes on keyed locks and semaphores. Each key has its own hold record.

use std::time::Duration;

use lockkeeper::{
    CallError, KeyedLock, KeyedSemaphore,
    errors::Refusal,
    guards::Guard,
    kind::sync::Keyed,
    lock_all,
    proxies::{KeyedKind, KeyedOf},
};
use lockkeeper_test_support::until;
use rand::{Rng, seq::SliceRandom};

use super::{
    exclusive::{check_grant, release},
    hold_record::{Entry, HoldRecord},
    notes::Notes,
    setup::Named,
    worker::Runner,
};

/// The contended keys. All other keys are used once.
const KEYS: [&str; 3] = ["here", "there", ""];

fn hold_record<T>(named: &Named<T>, key: &str, notes: &Notes) -> HoldRecord {
    let name = format!("{} {key:?}", named.name);
    HoldRecord::new(&name, named.most.into(), notes)
}

fn one_of_all(runner: &mut Runner) -> &'static str {
    KEYS[runner.random.random_range(0..KEYS.len())]
}

/// Holds one key or several.
pub(crate) async fn act_on_locks(runner: &mut Runner, named: &Named<KeyedLock>) {
    if runner.chance(8) {
        return use_once(runner, named).await;
    }
    if runner.chance(3) {
        return hold_several(runner, named).await;
    }
    let (locks, key) = (&named.object, one_of_all(runner));
    let (wait, attempt) = (|| locks.acquire(key), || locks.try_acquire(key));
    let limit = |time| locks.acquire(key).timeout(time);
    if let Some(guard) = runner.obtain(named, "acquire", wait, limit, attempt).await {
        if guard.key() != key {
            let words = format!("{}: {guard:?} is not of {key:?}", named.name);
            runner.notes.violation(&words);
        }
        let entry = hold_record(named, key, &runner.notes).enter(1, guard.fence(), 0);
        leave_and_release(runner, named, key, guard, entry).await;
    }
}

async fn hold_several(runner: &mut Runner, named: &Named<KeyedLock>) {
    let mut keys = KEYS;
    keys.shuffle(&mut runner.random);
    let keys = &keys[..runner.random.random_range(1..=KEYS.len())];
    let wanted = || keys.iter().map(|key| (&named.object, key));
    let wait = || lock_all(wanted());
    let limit = |time| lock_all(wanted()).timeout(time);
    let attempt = || async {
        match lock_all(wanted()).timeout(Duration::ZERO).await {
            Err(CallError::TimedOut(_)) => Ok(None),
            locked => locked.map(Some),
        }
    };
    let Some(guards) = runner.obtain(named, "lock_all", wait, limit, attempt).await else {
        return;
    };
    let mut held = Vec::new();
    for (&key, guard) in keys.iter().zip(guards) {
        let entry = hold_record(named, key, &runner.notes).enter(1, guard.fence(), 0);
        held.push((key, guard, entry));
    }
    held.shuffle(&mut runner.random);
    for (key, guard, entry) in held {
        leave_and_release(runner, named, key, guard, entry).await;
    }
}

/// Holds some of a key's permits.
pub(crate) async fn act_on_semaphores(runner: &mut Runner, named: &Named<KeyedSemaphore>) {
    if runner.chance(8) {
        return use_once(runner, named).await;
    }
    let (semaphores, key) = (&named.object, one_of_all(runner));
    let many = runner.random.random_range(1..=named.most);
    let hold_record = hold_record(named, key, &runner.notes);
    let highest = hold_record.highest();
    let wait = || semaphores.acquire_many(key, many);
    let limit = |time| semaphores.acquire_many(key, many).timeout(time);
    let attempt = || semaphores.try_acquire_many(key, many);
    let permits = runner.obtain(named, "acquire_many", wait, limit, attempt);
    if let Some(permits) = permits.await {
        let entry = hold_record.enter(permits.permits().into(), permits.fence(), highest);
        leave_and_release(runner, named, key, permits, entry).await;
    }
}

/// Holds for a while, and releases with the guard, or with a ticket after an adoption by the same
/// ticket.
async fn leave_and_release<F: KeyedKind>(
    runner: &mut Runner,
    named: &Named<KeyedOf<F>>,
    key: &str,
    guard: Guard<Keyed<F>>,
    entry: Entry,
) {
    let (guard, entry) = check_grant(runner, named, guard, entry);
    runner.pause().await;
    let hold_record = hold_record(named, key, &runner.notes);
    hold_record.leave(entry);
    if !runner.chance(6) {
        return release(runner, named, guard).await;
    }
    runner.trace(named, "into_ticket");
    let (permits, ticket) = (guard.permits(), guard.into_ticket());
    let adopted = named.object.adopt(ticket.clone()).await;
    let late = named.object.release_ticket(ticket).await;
    if late != Err(CallError::refused(Refusal::NotHeld)) {
        let words = format!("{}: {late:?}, of what was adopted", named.name);
        runner.notes.violation(&words);
    }
    if let Some(guard) = runner.granted(&named.name, Some(adopted)) {
        let entry = hold_record.enter(permits.into(), guard.fence(), 0);
        let (guard, entry) = check_grant(runner, named, guard, entry);
        hold_record.leave(entry);
        release(runner, named, guard).await;
    }
}

/// Holds a key that no other task uses.
async fn use_once<F: KeyedKind>(runner: &mut Runner, named: &Named<KeyedOf<F>>) {
    runner.trace(named, "use once");
    let key = format!("once {}", runner.random.random::<u64>());
    let guard = named.object.try_acquire(&key).await;
    match runner.granted(&named.name, Some(guard)) {
        Some(Some(guard)) => {
            runner.pause().await;
            release(runner, named, guard).await;
        }
        Some(None) => {
            let words = format!("{}: {key:?} is held", named.name);
            runner.notes.violation(&words);
        }
        None => {}
    }
}

/// Checks that no key is held, and that only keys with a mark are left.
pub(crate) async fn find_fresh<F: KeyedKind>(named: &Named<KeyedOf<F>>, notes: &Notes) {
    let objects = &named.object;
    until(&format!("no key of {} is held", named.name), || async {
        let count = objects.status().await.unwrap();
        (count.keys, count.grants, count.waiting) == (0, 0, 0)
    })
    .await;
    assert_eq!(objects.keys().await.unwrap(), []);
    let before = objects.status().await.unwrap().abandoned;
    let mut mended = 0;
    for key in KEYS {
        let status = objects.key_status(key).await.unwrap();
        assert_eq!(status.available, u64::from(named.most), "{key:?}");
        let guard = objects.try_acquire(key).await.unwrap();
        let mut guard = guard.expect("it is free");
        let highest = hold_record(named, key, notes).highest();
        assert!(guard.fence().number() > highest, "{}: {key:?}", named.name);
        assert_eq!(guard.abandoned().is_some(), status.is_abandoned);
        mended += u64::from(status.is_abandoned);
        guard.mark_consistent();
        guard.release().await.unwrap();
    }
    // The marks of keys that were used once stay.
    let left = objects.status().await.unwrap();
    assert_eq!((left.keys, left.abandoned), (0, before - mended));
}

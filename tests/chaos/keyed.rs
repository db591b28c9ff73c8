//! What processes do with keyed locks and semaphores. Each key has a ledger of its own.

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
    exclusive::{look_at, release},
    ledger::{Entry, Ledger},
    notes::Notes,
    scene::Known,
    worker::Hand,
};

/// The keys that all want. Others are used once.
const KEYS: [&str; 3] = ["here", "there", ""];

fn ledger<T>(known: &Known<T>, key: &str, notes: &Notes) -> Ledger {
    let name = format!("{} {key:?}", known.name);
    Ledger::new(&name, known.most.into(), notes)
}

fn one_of_all(hand: &mut Hand) -> &'static str {
    KEYS[hand.random.random_range(0..KEYS.len())]
}

/// Holds one key or several.
pub(crate) async fn visit_locks(hand: &mut Hand, known: &Known<KeyedLock>) {
    if hand.chance(8) {
        return use_once(hand, known).await;
    }
    if hand.chance(3) {
        return hold_several(hand, known).await;
    }
    let (locks, key) = (&known.object, one_of_all(hand));
    let (wait, attempt) = (|| locks.acquire(key), || locks.try_acquire(key));
    let limit = |time| locks.acquire(key).timeout(time);
    if let Some(guard) = hand.obtain(known, "acquire", wait, limit, attempt).await {
        if guard.key() != key {
            let words = format!("{}: {guard:?} is not of {key:?}", known.name);
            hand.notes.violation(&words);
        }
        let entry = ledger(known, key, &hand.notes).enter(1, guard.fence(), 0);
        go_out(hand, known, key, guard, entry).await;
    }
}

async fn hold_several(hand: &mut Hand, known: &Known<KeyedLock>) {
    let mut keys = KEYS;
    keys.shuffle(&mut hand.random);
    let keys = &keys[..hand.random.random_range(1..=KEYS.len())];
    let wanted = || keys.iter().map(|key| (&known.object, key));
    let wait = || lock_all(wanted());
    let limit = |time| lock_all(wanted()).timeout(time);
    let attempt = || async {
        match lock_all(wanted()).timeout(Duration::ZERO).await {
            Err(CallError::TimedOut(_)) => Ok(None),
            locked => locked.map(Some),
        }
    };
    let Some(guards) = hand.obtain(known, "lock_all", wait, limit, attempt).await else {
        return;
    };
    let mut held = Vec::new();
    for (&key, guard) in keys.iter().zip(guards) {
        let entry = ledger(known, key, &hand.notes).enter(1, guard.fence(), 0);
        held.push((key, guard, entry));
    }
    held.shuffle(&mut hand.random);
    for (key, guard, entry) in held {
        go_out(hand, known, key, guard, entry).await;
    }
}

/// Holds some of a key's permits.
pub(crate) async fn visit_semaphores(hand: &mut Hand, known: &Known<KeyedSemaphore>) {
    if hand.chance(8) {
        return use_once(hand, known).await;
    }
    let (semaphores, key) = (&known.object, one_of_all(hand));
    let many = hand.random.random_range(1..=known.most);
    let ledger = ledger(known, key, &hand.notes);
    let highest = ledger.highest();
    let wait = || semaphores.acquire_many(key, many);
    let limit = |time| semaphores.acquire_many(key, many).timeout(time);
    let attempt = || semaphores.try_acquire_many(key, many);
    let permits = hand.obtain(known, "acquire_many", wait, limit, attempt);
    if let Some(permits) = permits.await {
        let entry = ledger.enter(permits.permits().into(), permits.fence(), highest);
        go_out(hand, known, key, permits, entry).await;
    }
}

/// Stays, and releases by the guard, or by a ticket that another task adopts before.
async fn go_out<F: KeyedKind>(
    hand: &mut Hand,
    known: &Known<KeyedOf<F>>,
    key: &str,
    guard: Guard<Keyed<F>>,
    entry: Entry,
) {
    let (guard, entry) = look_at(hand, known, guard, entry);
    hand.linger().await;
    let ledger = ledger(known, key, &hand.notes);
    ledger.leave(entry);
    if !hand.chance(6) {
        return release(hand, known, guard).await;
    }
    hand.does(known, "into_ticket");
    let (permits, ticket) = (guard.permits(), guard.into_ticket());
    let adopted = known.object.adopt(ticket.clone()).await;
    let late = known.object.release(ticket).await;
    if late != Err(CallError::refused(Refusal::NotHeld)) {
        let words = format!("{}: {late:?}, of what was adopted", known.name);
        hand.notes.violation(&words);
    }
    if let Some(guard) = hand.granted(&known.name, Some(adopted)) {
        let entry = ledger.enter(permits.into(), guard.fence(), 0);
        let (guard, entry) = look_at(hand, known, guard, entry);
        ledger.leave(entry);
        release(hand, known, guard).await;
    }
}

/// Holds a key that no other task ever wants.
async fn use_once<F: KeyedKind>(hand: &mut Hand, known: &Known<KeyedOf<F>>) {
    hand.does(known, "use once");
    let key = format!("once {}", hand.random.random::<u64>());
    let guard = known.object.try_acquire(&key).await;
    match hand.granted(&known.name, Some(guard)) {
        Some(Some(guard)) => {
            hand.linger().await;
            release(hand, known, guard).await;
        }
        Some(None) => {
            let words = format!("{}: somebody has {key:?}", known.name);
            hand.notes.violation(&words);
        }
        None => {}
    }
}

/// Looks whether no key is held, and none is left but for its mark.
pub(crate) async fn find_fresh<F: KeyedKind>(known: &Known<KeyedOf<F>>, notes: &Notes) {
    let objects = &known.object;
    until(&format!("no key of {} is held", known.name), || async {
        let count = objects.status().await.unwrap();
        (count.keys, count.grants, count.waiting) == (0, 0, 0)
    })
    .await;
    assert_eq!(objects.keys().await.unwrap(), []);
    let before = objects.status().await.unwrap().abandoned;
    let mut mended = 0;
    for key in KEYS {
        let status = objects.key_status(key).await.unwrap();
        assert_eq!(status.available, u64::from(known.most), "{key:?}");
        let guard = objects.try_acquire(key).await.unwrap();
        let mut guard = guard.expect("it is free");
        let highest = ledger(known, key, notes).highest();
        assert!(guard.fence().number() > highest, "{}: {key:?}", known.name);
        assert_eq!(guard.abandoned().is_some(), status.abandoned);
        mended += u64::from(status.abandoned);
        guard.mark_consistent();
        guard.release().await.unwrap();
    }
    // Those of keys that were used once stay.
    let left = objects.status().await.unwrap();
    assert_eq!((left.keys, left.abandoned), (0, before - mended));
}

//! What processes do with queues. Each item is a unique number, and all steps of it are logged.

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lockkeeper::{Queue, Taken};
use lockkeeper_test_support::until;
use rand::Rng;

use super::{barriers::GRACE, items::Deed, notes::Notes, scene::Known, worker::Hand};

/// How many numbers a process has, for items and for waits.
const NUMBERS: u64 = 10_000_000;

/// How many items the caretaker takes in a round: more than it puts, so that there is an end.
const A_FEW: usize = 8;

/// Puts or takes an item, or waits until there is none.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<Queue<u64>>) {
    match hand.random.random_range(0..24) {
        0..11 => put(hand, known).await,
        11..23 => take(hand, known).await,
        _ => join(hand, known).await,
    }
}

async fn join(hand: &mut Hand, known: &Known<Queue<u64>>) {
    let (queue, number) = (&known.object, next_number());
    note(&hand.notes, known, number, Deed::Joins);
    let limit = |time| queue.join().timeout(time);
    let attempt = || async { queue.join().timeout(Duration::ZERO).await.map(Some) };
    let joined = hand.obtain(known, "join", || queue.join(), limit, attempt);
    if joined.await.is_some() {
        note(&hand.notes, known, number, Deed::HasJoined);
        hand.count(known, "joined");
    }
}

/// A number that no other process has, and this one has not had.
fn next_number() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    u64::from(process::id()) * NUMBERS + SERIAL.fetch_add(1, Ordering::Relaxed)
}

fn note(notes: &Notes, known: &Known<Queue<u64>>, item: u64, deed: Deed) {
    notes.record(&known.name, &format!("{item} {deed}"));
}

/// Puts in one of the ways that there are.
async fn put(hand: &mut Hand, known: &Known<Queue<u64>>) {
    let item = next_number();
    note(&hand.notes, known, item, Deed::Puts);
    let (queue, begun) = (&known.object, Instant::now());
    let outcome = match hand.random.random_range(0..5) {
        0 | 1 => {
            hand.does(known, "put");
            Some(queue.put(item).await)
        }
        2 => {
            hand.does(known, "put with a timeout");
            Some(queue.put(item).timeout(hand.brief()).await)
        }
        3 => {
            hand.does(known, "try_put");
            Some(queue.try_put(item).await)
        }
        _ => {
            hand.does(known, "put and drop");
            hand.give_up(queue.put(item)).await
        }
    };
    match outcome {
        Some(Ok(())) => note(&hand.notes, known, item, Deed::HasPut),
        Some(Err(put)) if put.is_full() && put.item == item => {
            // A manager that stood still has not told that there is no room.
            let was_told = begun.elapsed() < GRACE;
            let deed = if was_told { Deed::NotPut } else { Deed::Puts };
            hand.count(known, "full");
            note(&hand.notes, known, item, deed);
        }
        Some(Err(put)) => {
            let words = format!("{}: {put}, with {}", known.name, put.item);
            hand.notes.violation(&words);
        }
        None => {}
    }
}

/// Takes an item, and says that it is done, or gives it back.
async fn take(hand: &mut Hand, known: &Known<Queue<u64>>) {
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let queue = &known.object;
    // Each item can be decoded: an error that it cannot is a violation as any other.
    let wait = || async { Ok(queue.get().await?) };
    let attempt = || async { Ok(queue.try_get().await?) };
    let limit = |time| async move { Ok(queue.get().timeout(time).await?) };
    let Some(taken) = hand.obtain(known, "get", wait, limit, attempt).await else {
        return;
    };
    let entry = ledger.enter_with(*taken, 1, taken.fence(), highest);
    if !taken.is_valid() || taken.attempts() == 0 {
        let words = format!("{}: {taken:?} is not valid", known.name);
        hand.notes.violation(&words);
    }
    hand.inspect(known, taken.abandoned());
    // For as long as it takes to be killed with it often.
    tokio::time::sleep(hand.brief() * 20).await;
    ledger.leave(entry);
    part_with(hand, known, taken).await;
}

async fn part_with(hand: &mut Hand, known: &Known<Queue<u64>>, taken: Taken<u64>) {
    let (notes, item) = (hand.notes.clone(), *taken);
    match hand.random.random_range(0..10) {
        0 | 1 => {
            hand.does(known, "into_inner");
            note(&notes, known, item, Deed::LetsGo(process::id()));
            taken.into_inner();
        }
        2 => {
            hand.does(known, "put_back");
            hand.granted(&known.name, Some(taken.put_back().await));
        }
        3 => {
            hand.does(known, "drop an item");
            drop(taken);
        }
        4 => {
            hand.does(known, "done and drop");
            note(&notes, known, item, Deed::Ends);
            let outcome = hand.give_up(taken.done()).await;
            if hand.granted(&known.name, outcome) == Some(item) {
                note(&notes, known, item, Deed::IsDone);
            }
        }
        _ => {
            hand.does(known, "done");
            finish(&notes, known, taken).await;
        }
    }
}

async fn finish(notes: &Notes, known: &Known<Queue<u64>>, taken: Taken<u64>) {
    let item = *taken;
    note(notes, known, item, Deed::Ends);
    match taken.done().await {
        Ok(done) if done == item => note(notes, known, item, Deed::IsDone),
        outcome => notes.violation(&format!("{}: {item} is {outcome:?}", known.name)),
    }
}

/// Gives something to those who wait for an item, and makes room for those who wait for that.
pub(crate) async fn tend(hand: &mut Hand, known: &Known<Queue<u64>>) {
    if known.object.status().await.unwrap().getting > 0 {
        put(hand, known).await;
    }
    take_some(&hand.notes, known, A_FEW).await;
}

async fn take_some(notes: &Notes, known: &Known<Queue<u64>>, most: usize) {
    let ledger = known.ledger(notes);
    for _ in 0..most {
        let highest = ledger.highest();
        let Some(taken) = known.object.try_get().await.unwrap() else {
            return;
        };
        let entry = ledger.enter_with(*taken, 1, taken.fence(), highest);
        ledger.leave(entry);
        finish(notes, known, taken).await;
    }
}

/// Does all that is left, after which it is as one that was just made.
pub(crate) async fn find_fresh(known: &Known<Queue<u64>>, notes: &Notes) {
    until(&format!("nobody is at {}", known.name), || async {
        let status = known.object.status().await.unwrap();
        (status.taken, status.getting, status.putting, status.joining) == (0, 0, 0, 0)
    })
    .await;
    take_some(notes, known, usize::MAX).await;
    let patience = Duration::from_secs(10);
    assert_eq!(known.object.join().timeout(patience).await, Ok(()));
    assert!(known.object.is_empty().await.unwrap());
}

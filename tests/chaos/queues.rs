//! The actions of processes on queues. Each item is a unique number, and all of its steps are
//! logged.

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lockkeeper::{Queue, Taken};
use lockkeeper_test_support::until;
use rand::Rng;

use super::{barriers::LATE_ANSWER, items::ItemEvent, notes::Notes, setup::Named, worker::Runner};

/// The count of numbers of a process, for items and waits.
const NUMBERS: u64 = 10_000_000;

/// The number of items that the coordinator takes in a round: more than it puts, so that the queue
/// becomes empty.
const A_FEW: usize = 8;

/// Puts or takes an item, or waits until all items are done.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<Queue<u64>>) {
    match runner.random.random_range(0..24) {
        0..11 => put(runner, named).await,
        11..23 => take(runner, named).await,
        _ => join(runner, named).await,
    }
}

async fn join(runner: &mut Runner, named: &Named<Queue<u64>>) {
    let (queue, number) = (&named.object, next_number());
    note(&runner.notes, named, number, ItemEvent::BeginsJoin);
    let limit = |time| queue.join().timeout(time);
    let attempt = || async { queue.join().timeout(Duration::ZERO).await.map(Some) };
    let joined = runner.obtain(named, "join", || queue.join(), limit, attempt);
    if joined.await.is_some() {
        note(&runner.notes, named, number, ItemEvent::Joined);
        runner.count(named, "joined");
    }
}

/// Returns a new unique number.
fn next_number() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    u64::from(process::id()) * NUMBERS + SERIAL.fetch_add(1, Ordering::Relaxed)
}

fn note(notes: &Notes, named: &Named<Queue<u64>>, item: u64, event: ItemEvent) {
    notes.record(&named.name, &format!("{item} {event}"));
}

/// Puts an item in a randomly chosen way.
async fn put(runner: &mut Runner, named: &Named<Queue<u64>>) {
    let item = next_number();
    note(&runner.notes, named, item, ItemEvent::BeginsPut);
    let (queue, begun) = (&named.object, Instant::now());
    let outcome = match runner.random.random_range(0..5) {
        0 | 1 => {
            runner.trace(named, "put");
            Some(queue.put(item).await)
        }
        2 => {
            runner.trace(named, "put with a timeout");
            Some(queue.put(item).timeout(runner.brief()).await)
        }
        3 => {
            runner.trace(named, "try_put");
            Some(queue.try_put(item).await)
        }
        _ => {
            runner.trace(named, "put and drop");
            runner.give_up(queue.put(item)).await
        }
    };
    match outcome {
        Some(Ok(())) => note(&runner.notes, named, item, ItemEvent::Put),
        Some(Err(put)) if put.error.is_timeout() && put.item == item => {
            // A stopped manager has not answered that there is no room.
            let was_told = begun.elapsed() < LATE_ANSWER;
            let event = if was_told {
                ItemEvent::NotPut
            } else {
                ItemEvent::BeginsPut
            };
            runner.count(named, "full");
            note(&runner.notes, named, item, event);
        }
        Some(Err(put)) => {
            let words = format!("{}: {put}, with {}", named.name, put.item);
            runner.notes.violation(&words);
        }
        None => {}
    }
}

/// Takes an item, and reports it as done or puts it back.
async fn take(runner: &mut Runner, named: &Named<Queue<u64>>) {
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let queue = &named.object;
    // Every item can be decoded, so a decoding error is a violation.
    let wait = || async { Ok(queue.get().await?) };
    let attempt = || async { Ok(queue.try_get().await?) };
    let limit = |time| async move { Ok(queue.get().timeout(time).await?) };
    let Some(taken) = runner.obtain(named, "get", wait, limit, attempt).await else {
        return;
    };
    let entry = hold_record.enter_with(*taken, 1, taken.fence(), highest);
    if !taken.is_valid() || taken.attempts() == 0 {
        let words = format!("{}: {taken:?} is not valid", named.name);
        runner.notes.violation(&words);
    }
    runner.inspect(named, taken.abandoned());
    // Long enough that processes are often killed with a taken item.
    tokio::time::sleep(runner.brief() * 20).await;
    hold_record.leave(entry);
    part_with(runner, named, taken).await;
}

async fn part_with(runner: &mut Runner, named: &Named<Queue<u64>>, taken: Taken<u64>) {
    let (notes, item) = (runner.notes.clone(), *taken);
    match runner.random.random_range(0..10) {
        0 | 1 => {
            runner.trace(named, "into_inner");
            note(&notes, named, item, ItemEvent::Dropped(process::id()));
            taken.into_inner();
        }
        2 => {
            runner.trace(named, "put_back");
            runner.granted(&named.name, Some(taken.put_back().await));
        }
        3 => {
            runner.trace(named, "drop an item");
            drop(taken);
        }
        4 => {
            runner.trace(named, "done and drop");
            note(&notes, named, item, ItemEvent::BeginsDone);
            let outcome = runner.give_up(taken.done()).await;
            if runner.granted(&named.name, outcome) == Some(item) {
                note(&notes, named, item, ItemEvent::Done);
            }
        }
        _ => {
            runner.trace(named, "done");
            finish(&notes, named, taken).await;
        }
    }
}

async fn finish(notes: &Notes, named: &Named<Queue<u64>>, taken: Taken<u64>) {
    let item = *taken;
    note(notes, named, item, ItemEvent::BeginsDone);
    match taken.done().await {
        Ok(done) if done == item => note(notes, named, item, ItemEvent::Done),
        outcome => notes.violation(&format!("{}: {item} is {outcome:?}", named.name)),
    }
}

/// Puts items for waiting takers, and makes room for waiting puts.
pub(crate) async fn unblock(runner: &mut Runner, named: &Named<Queue<u64>>) {
    if named.object.status().await.unwrap().getting > 0 {
        put(runner, named).await;
    }
    take_some(&runner.notes, named, A_FEW).await;
}

async fn take_some(notes: &Notes, named: &Named<Queue<u64>>, most: usize) {
    let hold_record = named.hold_record(notes);
    for _ in 0..most {
        let highest = hold_record.highest();
        let Some(taken) = named.object.try_get().await.unwrap() else {
            return;
        };
        let entry = hold_record.enter_with(*taken, 1, taken.fence(), highest);
        hold_record.leave(entry);
        finish(notes, named, taken).await;
    }
}

/// Takes all remaining items, and checks that the queue is then like a new one.
pub(crate) async fn find_fresh(named: &Named<Queue<u64>>, notes: &Notes) {
    until(&format!("no call waits at {}", named.name), || async {
        let status = named.object.status().await.unwrap();
        (status.taken, status.getting, status.putting, status.joining) == (0, 0, 0, 0)
    })
    .await;
    take_some(notes, named, usize::MAX).await;
    let patience = Duration::from_secs(10);
    assert_eq!(named.object.join().timeout(patience).await, Ok(()));
    assert_eq!(named.object.len().await.unwrap(), 0);
}

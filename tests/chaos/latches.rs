//! What processes do with latches. A latch opens only once, so the caretaker makes one after the
//! other.

use std::fs;

use lockkeeper::{CallError, Latch, Manager, errors::Refusal};
use rand::Rng;

use super::{notes::Notes, scene::Known, worker::Hand};

/// From how many each counts down.
const COUNT: u32 = 40;

/// What is counted down at most at a time.
const MOST: u32 = 3;

/// Where the latch is laid out that is counted down next.
const CURRENT: &str = "current";

/// The sums of what is counted down: begun, answered and refused.
fn begun(latch: &Known<Latch>) -> String {
    format!("{} begun", latch.name)
}

fn counted(latch: &Known<Latch>) -> String {
    format!("{} counted", latch.name)
}

fn refused(latch: &Known<Latch>) -> String {
    format!("{} refused", latch.name)
}

/// How much was counted down at most, which is never less than what was.
fn at_most(latch: &Known<Latch>, notes: &Notes) -> u64 {
    // What was refused was begun before.
    let refused = notes.sum(&refused(latch));
    notes.sum(&begun(latch)) - refused
}

/// Counts down the latch that is laid out, waits for it, or does both.
pub(crate) async fn visit(hand: &mut Hand) {
    let Ok(bytes) = fs::read(hand.notes.path("latches", CURRENT)) else {
        return;
    };
    let known: Known<Latch> = serde_json::from_slice(&bytes).expect("it is whole");
    let latch = &known.object;
    let by = hand.random.random_range(1..=MOST);
    match hand.random.random_range(0..8) {
        0..3 => {
            hand.does(&known, "count_down");
            hand.notes.add(&begun(&known), by);
            let outcome = Some(latch.count_down(by).await);
            conclude(hand, &known, by, outcome);
        }
        3 => {
            hand.does(&known, "count_down and drop");
            hand.notes.add(&begun(&known), by);
            let outcome = hand.give_up(latch.count_down(by)).await;
            conclude(hand, &known, by, outcome);
        }
        4 => {
            hand.does(&known, "arrive_and_wait");
            hand.notes.add(&begun(&known), by);
            let outcome = if hand.random.random() {
                let brief = hand.brief();
                let waited = latch.arrive_and_wait(by).timeout(brief);
                Some(hand.within(brief, waited).await)
            } else if hand.random.random() {
                hand.give_up(latch.arrive_and_wait(by)).await
            } else {
                Some(latch.arrive_and_wait(by).await)
            };
            match outcome {
                // Whether it was counted before its time was over is not told.
                None | Some(Err(CallError::TimedOut(_))) => {}
                Some(Err(CallError::Refused(Refusal::Invalid(_), _))) => {
                    hand.notes.add(&refused(&known), by);
                }
                outcome => {
                    if hand.granted(&known.name, outcome).is_some() {
                        hand.notes.add(&counted(&known), by);
                        see_open(hand, &known);
                    }
                }
            }
        }
        _ => {
            let limit = |time| latch.wait().timeout(time);
            let attempt = || async { Ok(latch.status().await?.is_open().then_some(())) };
            let waited = hand.obtain(&known, "wait", || latch.wait(), limit, attempt);
            if waited.await.is_some() {
                see_open(hand, &known);
            }
        }
    }
}

/// Takes note of what a count was answered with.
fn conclude(hand: &Hand, known: &Known<Latch>, by: u32, outcome: Option<Result<u32, CallError>>) {
    if let Some(Err(CallError::Refused(Refusal::Invalid(_), _))) = outcome {
        hand.notes.add(&refused(known), by);
    } else if let Some(left) = hand.granted(&known.name, outcome) {
        hand.notes.add(&counted(known), by);
        // No two counts leave as much: none was counted twice, or not at all.
        hand.notes.fence(&known.name, left.into());
        if left == 0 {
            see_open(hand, known);
        }
    }
}

/// Looks whether enough was counted down.
fn see_open(hand: &Hand, known: &Known<Latch>) {
    hand.count(known, "seen open");
    let at_most = at_most(known, &hand.notes);
    if at_most < known.most.into() {
        let words = format!("{}: open after {at_most}", known.name);
        hand.notes.violation(&words);
    }
}

/// Counts down what others may not, and lays out another latch once one is open.
pub(crate) async fn tend(hand: &Hand, latches: &mut Vec<Known<Latch>>, manager: &Manager) {
    if let Some(known) = latches.last() {
        hand.notes.add(&begun(known), 1);
        let outcome = Some(known.object.count_down(1).await);
        conclude(hand, known, 1, outcome);
        if !known.object.status().await.unwrap().is_open() {
            return;
        }
    }
    let known = Known {
        object: manager.latch(COUNT).await.unwrap(),
        name: format!("latch {}", latches.len()),
        most: COUNT,
    };
    let draft = hand.notes.path("now", CURRENT);
    let bytes = serde_json::to_vec(&known).expect("a latch is plain data");
    fs::write(&draft, bytes).expect("a latch can be written");
    let path = hand.notes.path("latches", CURRENT);
    fs::rename(draft, path).expect("a file can be renamed");
    latches.push(known);
}

/// Looks whether each was open once enough was counted down, and not before.
pub(crate) async fn find_right(latches: &[Known<Latch>], notes: &Notes) {
    println!("{} latches", latches.len());
    for known in latches {
        let name = &known.name;
        let status = known.object.status().await.unwrap();
        let down = u64::from(known.most - status.count);
        let least = notes.sum(&counted(known));
        assert!(least <= down, "{name}: {down} of at least {least}");
        assert!(down <= at_most(known, notes), "{name}: {down}");
        assert_eq!(status.waiting, 0, "{name}");
        let is_open = known.object.status().await.unwrap().is_open();
        assert_eq!(is_open, status.count == 0, "{name}");
        if status.count > 0 {
            assert_eq!(known.object.count_down(status.count).await, Ok(0));
        }
        assert_eq!(known.object.wait().await, Ok(()), "{name}");
        assert!(known.object.count_down(1).await.is_err(), "{name}");
    }
}

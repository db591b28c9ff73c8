//! The actions of processes on latches. A latch opens only once, so the coordinator makes one after
//! the other.

use std::fs;

use lockkeeper::{CallError, Latch, Manager, errors::Refusal};
use rand::Rng;

use super::{notes::Notes, setup::Named, worker::Runner};

/// The initial count of each latch.
const COUNT: u32 = 40;

/// The most by which one call counts down.
const MOST: u32 = 3;

/// The file with the current latch.
const CURRENT: &str = "current";

/// The sums of the counts: begun, answered and refused.
fn begun(latch: &Named<Latch>) -> String {
    format!("{} begun", latch.name)
}

fn counted(latch: &Named<Latch>) -> String {
    format!("{} counted", latch.name)
}

fn refused(latch: &Named<Latch>) -> String {
    format!("{} refused", latch.name)
}

/// Returns an upper bound of how far the latch was counted down.
fn at_most(latch: &Named<Latch>, notes: &Notes) -> u64 {
    // Refused counts are read first, because each of them was begun before.
    let refused = notes.sum(&refused(latch));
    notes.sum(&begun(latch)) - refused
}

/// Counts down the current latch, waits for it, or does both.
pub(crate) async fn act_on(runner: &mut Runner) {
    let Ok(bytes) = fs::read(runner.notes.path("latches", CURRENT)) else {
        return;
    };
    let named: Named<Latch> = serde_json::from_slice(&bytes).expect("the file is complete");
    let latch = &named.object;
    let by = runner.random.random_range(1..=MOST);
    match runner.random.random_range(0..8) {
        0..3 => {
            runner.trace(&named, "count_down");
            runner.notes.add(&begun(&named), by);
            let outcome = Some(latch.count_down(by).await);
            conclude(runner, &named, by, outcome);
        }
        3 => {
            runner.trace(&named, "count_down and drop");
            runner.notes.add(&begun(&named), by);
            let outcome = runner.give_up(latch.count_down(by)).await;
            conclude(runner, &named, by, outcome);
        }
        4 => {
            runner.trace(&named, "arrive_and_wait");
            runner.notes.add(&begun(&named), by);
            let outcome = if runner.random.random() {
                let brief = runner.brief();
                let waited = latch.arrive_and_wait(by).timeout(brief);
                Some(runner.within(brief, waited).await)
            } else if runner.random.random() {
                runner.give_up(latch.arrive_and_wait(by)).await
            } else {
                Some(latch.arrive_and_wait(by).await)
            };
            match outcome {
                // It is unknown whether the call counted before its timeout.
                None | Some(Err(CallError::TimedOut(_))) => {}
                Some(Err(CallError::Refused(Refusal::Invalid(_), _))) => {
                    runner.notes.add(&refused(&named), by);
                }
                outcome => {
                    if runner.granted(&named.name, outcome).is_some() {
                        runner.notes.add(&counted(&named), by);
                        see_open(runner, &named);
                    }
                }
            }
        }
        _ => {
            let limit = |time| latch.wait().timeout(time);
            let attempt = || async { Ok(latch.status().await?.is_open().then_some(())) };
            let waited = runner.obtain(&named, "wait", || latch.wait(), limit, attempt);
            if waited.await.is_some() {
                see_open(runner, &named);
            }
        }
    }
}

/// Records the answer to a count.
fn conclude(
    runner: &Runner,
    named: &Named<Latch>,
    by: u32,
    outcome: Option<Result<u32, CallError>>,
) {
    if let Some(Err(CallError::Refused(Refusal::Invalid(_), _))) = outcome {
        runner.notes.add(&refused(named), by);
    } else if let Some(left) = runner.granted(&named.name, outcome) {
        runner.notes.add(&counted(named), by);
        // The remaining counts are all different, so no call was counted twice or lost.
        runner.notes.fence(&named.name, left.into());
        if left == 0 {
            see_open(runner, named);
        }
    }
}

/// Checks that enough was counted down.
fn see_open(runner: &Runner, named: &Named<Latch>) {
    runner.count(named, "seen open");
    let at_most = at_most(named, &runner.notes);
    if at_most < named.most.into() {
        let words = format!("{}: open after {at_most}", named.name);
        runner.notes.violation(&words);
    }
}

/// Counts down the rest, and publishes another latch once one is open.
pub(crate) async fn unblock(runner: &Runner, latches: &mut Vec<Named<Latch>>, manager: &Manager) {
    if let Some(named) = latches.last() {
        runner.notes.add(&begun(named), 1);
        let outcome = Some(named.object.count_down(1).await);
        conclude(runner, named, 1, outcome);
        if !named.object.status().await.unwrap().is_open() {
            return;
        }
    }
    let named = Named {
        object: manager.latch(COUNT).await.unwrap(),
        name: format!("latch {}", latches.len()),
        most: COUNT,
    };
    let draft = runner.notes.path("now", CURRENT);
    let bytes = serde_json::to_vec(&named).expect("a latch is plain data");
    fs::write(&draft, bytes).expect("a latch can be written");
    let path = runner.notes.path("latches", CURRENT);
    fs::rename(draft, path).expect("a file can be renamed");
    latches.push(named);
}

/// Checks that each latch opened when enough was counted down, and not before.
pub(crate) async fn find_right(latches: &[Named<Latch>], notes: &Notes) {
    println!("{} latches", latches.len());
    for named in latches {
        let name = &named.name;
        let status = named.object.status().await.unwrap();
        let down = u64::from(named.most - status.count);
        let least = notes.sum(&counted(named));
        assert!(least <= down, "{name}: {down} of at least {least}");
        assert!(down <= at_most(named, notes), "{name}: {down}");
        assert_eq!(status.waiting, 0, "{name}");
        let is_open = named.object.status().await.unwrap().is_open();
        assert_eq!(is_open, status.count == 0, "{name}");
        if status.count > 0 {
            assert_eq!(named.object.count_down(status.count).await, Ok(0));
        }
        assert_eq!(named.object.wait().await, Ok(()), "{name}");
        assert!(named.object.count_down(1).await.is_err(), "{name}");
    }
}

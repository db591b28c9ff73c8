//! The actions of processes on values: they only increment. So a value equals the number of its
//! increments, and no two increments start from the same number.

use std::time::Duration;

use futures::StreamExt;
use lockkeeper::{CallError, Value, guards::Versioned};
use rand::Rng;

use super::{notes::Notes, setup::Named, worker::Runner};

/// The sums of begun and of answered increments.
fn begun(named: &Named<Value<u64>>) -> String {
    format!("{} begun", named.name)
}

fn added(named: &Named<Value<u64>>) -> String {
    format!("{} added", named.name)
}

/// Increments or reads a value.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<Value<u64>>) {
    if runner.random.random() {
        add(runner, named).await;
    } else {
        look(runner, named).await;
    }
}

/// Increments in a randomly chosen way.
async fn add(runner: &mut Runner, named: &Named<Value<u64>>) {
    let value = &named.object;
    let highest = named.hold_record(&runner.notes).highest();
    runner.notes.add(&begun(named), 1);
    let outcome = match runner.random.random_range(0..5) {
        0 | 1 => {
            runner.trace(named, "fetch_add");
            Some(value.fetch_add(1).await.map(|before| before + 1))
        }
        2 => {
            runner.trace(named, "update");
            Some(
                value
                    .update(|number| number + 1)
                    .await
                    .map(|before| before + 1),
            )
        }
        3 => {
            runner.trace(named, "compare_exchange");
            Some(exchange(value).await)
        }
        // For one of the values, all increments except those of killed processes have a known
        // outcome.
        _ if named.name.ends_with('0') => {
            runner.trace(named, "try_update");
            let updated = value.try_update(|number| number.checked_add(1)).await;
            Some(updated.map(|before| before.expect("the number does not overflow") + 1))
        }
        _ => {
            runner.trace(named, "fetch_add and drop");
            let added = runner.give_up(value.fetch_add(1)).await;
            added.map(|before| before.map(|before| before + 1))
        }
    };
    if let Some(number) = runner.granted(&named.name, outcome) {
        runner.notes.add(&added(named), 1);
        runner.count(named, "added");
        named.hold_record(&runner.notes).pass(number, highest);
    }
}

/// Repeats compare-and-set until no other process has changed the value in between.
async fn exchange(value: &Value<u64>) -> Result<u64, CallError> {
    let mut found = value.get().await?;
    loop {
        match value.compare_exchange(found, found + 1).await? {
            Ok(_) => return Ok(found + 1),
            Err(other) => found = other,
        }
    }
}

/// Reads the value or waits for a change, in a randomly chosen way.
async fn look(runner: &mut Runner, named: &Named<Value<u64>>) {
    let value = &named.object;
    let highest = named.hold_record(&runner.notes).highest();
    let (least, seen) = match runner.random.random_range(0..4) {
        0 => {
            runner.trace(named, "versioned");
            (highest, Some(value.versioned().await))
        }
        1 => {
            runner.trace(named, "watch");
            let mut changes = Box::pin(value.watch().skip(1));
            (highest + 1, runner.give_up(changes.next()).await.flatten())
        }
        2 => {
            let wait = || value.wait_for(move |number| *number > highest);
            let limit = |time| {
                value
                    .wait_for(move |number| *number > highest)
                    .timeout(time)
            };
            let attempt = || async {
                let seen = value
                    .wait_for(move |number| *number > highest)
                    .timeout(Duration::ZERO);
                seen.await.map(Some)
            };
            let seen = runner.obtain(named, "wait_for", wait, limit, attempt).await;
            (highest + 1, seen.map(Ok))
        }
        _ => {
            let wait = || value.wait_since(highest);
            let limit = |time| value.wait_since(highest).timeout(time);
            let attempt = || async {
                let changed = value.wait_since(highest).timeout(Duration::ZERO).await;
                changed.map(Some)
            };
            let seen = runner.obtain(named, "wait_since", wait, limit, attempt);
            (highest + 1, seen.await.map(Ok))
        }
    };
    if let Some(Versioned { version, value }) = runner.granted(&named.name, seen) {
        runner.count(named, "seen");
        if value < least || version != value {
            let words = format!("{}: {value} of {version}, after {least}", named.name);
            runner.notes.violation(&words);
        }
    }
}

/// Increments the value, to end waits for a change.
pub(crate) async fn unblock(runner: &Runner, named: &Named<Value<u64>>) {
    let highest = named.hold_record(&runner.notes).highest();
    runner.notes.add(&begun(named), 1);
    let before = named.object.fetch_add(1).await.unwrap();
    runner.notes.add(&added(named), 1);
    named.hold_record(&runner.notes).pass(before + 1, highest);
}

/// Checks that the value is the number of all increments, and that it has no waiters.
pub(crate) async fn find_fresh(named: &Named<Value<u64>>, notes: &Notes) {
    let Versioned { version, value } = named.object.versioned().await.unwrap();
    let (added, begun) = (notes.sum(&added(named)), notes.sum(&begun(named)));
    println!("{}: {value} of {added} to {begun}", named.name);
    assert!(added <= value && value <= begun, "{}", named.name);
    assert_eq!(version, value, "{}", named.name);
    assert_eq!(named.object.status().await.unwrap().waiting, 0);
}

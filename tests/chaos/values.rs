//! What processes do with values: they only ever count up by one. So a value equals the number of
//! its sets, and no two processes see the same one before they set it.

use std::time::Duration;

use futures::StreamExt;
use lockkeeper::{CallError, Value, guards::Versioned};
use rand::Rng;

use super::{notes::Notes, scene::Known, worker::Hand};

/// The sums of the additions that were begun, and of those that were answered.
fn begun(known: &Known<Value<u64>>) -> String {
    format!("{} begun", known.name)
}

fn added(known: &Known<Value<u64>>) -> String {
    format!("{} added", known.name)
}

/// Adds one, or looks at it.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<Value<u64>>) {
    if hand.random.random() {
        add(hand, known).await;
    } else {
        look(hand, known).await;
    }
}

/// Adds one in one of the ways that there are.
async fn add(hand: &mut Hand, known: &Known<Value<u64>>) {
    let value = &known.object;
    let highest = known.ledger(&hand.notes).highest();
    hand.notes.add(&begun(known), 1);
    let outcome = match hand.random.random_range(0..5) {
        0 | 1 => {
            hand.does(known, "fetch_add");
            Some(value.fetch_add(1).await.map(|before| before + 1))
        }
        2 => {
            hand.does(known, "update");
            Some(value.update(|number| number + 1).await)
        }
        3 => {
            hand.does(known, "compare_exchange");
            Some(exchange(value).await)
        }
        // Of one of them every addition that was not killed is known.
        _ if known.name.ends_with('0') => {
            hand.does(known, "try_update");
            let updated = value.try_update(|number| number.checked_add(1)).await;
            Some(updated.map(|number| number.expect("it is far from the end")))
        }
        _ => {
            hand.does(known, "fetch_add and drop");
            let added = hand.give_up(value.fetch_add(1)).await;
            added.map(|before| before.map(|before| before + 1))
        }
    };
    if let Some(number) = hand.granted(&known.name, outcome) {
        hand.notes.add(&added(known), 1);
        hand.count(known, "added");
        known.ledger(&hand.notes).pass(number, highest);
    }
}

/// Tries until no other process was quicker.
async fn exchange(value: &Value<u64>) -> Result<u64, CallError> {
    let mut found = value.get().await?;
    loop {
        match value.compare_exchange(&found, found + 1).await? {
            Ok(_) => return Ok(found + 1),
            Err(other) => found = other,
        }
    }
}

/// Looks at it in one of the ways that there are: at what is, or at what comes.
async fn look(hand: &mut Hand, known: &Known<Value<u64>>) {
    let value = &known.object;
    let highest = known.ledger(&hand.notes).highest();
    let (least, seen) = match hand.random.random_range(0..4) {
        0 => {
            hand.does(known, "versioned");
            (highest, Some(value.versioned().await))
        }
        1 => {
            hand.does(known, "watch");
            let mut changes = Box::pin(value.watch().skip(1));
            (highest + 1, hand.give_up(changes.next()).await.flatten())
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
            let seen = hand.obtain(known, "wait_for", wait, limit, attempt).await;
            (highest + 1, seen.map(Ok))
        }
        _ => {
            let wait = || value.changed_since(highest);
            let limit = |time| value.changed_since(highest).timeout(time);
            let attempt = || async {
                let changed = value.changed_since(highest).timeout(Duration::ZERO).await;
                changed.map(Some)
            };
            let seen = hand.obtain(known, "changed_since", wait, limit, attempt);
            (highest + 1, seen.await.map(Ok))
        }
    };
    if let Some(Versioned { version, value }) = hand.granted(&known.name, seen) {
        hand.count(known, "seen");
        if value < least || version != value {
            let words = format!("{}: {value} of {version}, after {least}", known.name);
            hand.notes.violation(&words);
        }
    }
}

/// Adds one, for those who wait for a change.
pub(crate) async fn tend(hand: &Hand, known: &Known<Value<u64>>) {
    let highest = known.ledger(&hand.notes).highest();
    hand.notes.add(&begun(known), 1);
    let before = known.object.fetch_add(1).await.unwrap();
    hand.notes.add(&added(known), 1);
    known.ledger(&hand.notes).pass(before + 1, highest);
}

/// Checks that it is the sum of all additions, and that it has no waiters.
pub(crate) async fn find_fresh(known: &Known<Value<u64>>, notes: &Notes) {
    let Versioned { version, value } = known.object.versioned().await.unwrap();
    let (added, begun) = (notes.sum(&added(known)), notes.sum(&begun(known)));
    println!("{}: {value} of {added} to {begun}", known.name);
    assert!(added <= value && value <= begun, "{}", known.name);
    assert_eq!(version, value, "{}", known.name);
    assert_eq!(known.object.status().await.unwrap().waiting, 0);
}

//! What processes do with events.

use lockkeeper::Event;
use rand::Rng;

use super::{scene::Known, worker::Hand};

/// Sets, clears or waits. What is told is never less than what was told before.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<Event>) {
    let event = &known.object;
    let ledger = known.ledger(&hand.notes);
    let highest = ledger.highest();
    let brief = hand.brief();
    let (least, outcome) = match hand.random.random_range(0..10) {
        0 => {
            hand.does(known, "set");
            if let Some(generation) = hand.granted(&known.name, Some(event.set().await)) {
                ledger.pass(generation, highest);
            }
            return;
        }
        1..4 => {
            hand.does(known, "clear");
            hand.granted(&known.name, Some(event.clear().await));
            return;
        }
        4 => {
            hand.does(known, "wait");
            (highest, Some(event.wait().await))
        }
        5 | 6 => {
            hand.does(known, "wait with a timeout");
            let waited = hand.within(brief, event.wait().timeout(brief));
            (highest, Some(waited.await))
        }
        7 => {
            hand.does(known, "wait and drop");
            (highest, hand.give_up(event.wait()).await)
        }
        8 => {
            hand.does(known, "wait_since with a timeout");
            let waited = event.wait_since(highest).timeout(brief);
            (highest + 1, Some(hand.within(brief, waited).await))
        }
        _ => {
            hand.does(known, "wait_since");
            (highest + 1, Some(event.wait_since(highest).await))
        }
    };
    if let Some(generation) = hand.granted(&known.name, outcome) {
        hand.count(known, "seen");
        if generation < least {
            let words = format!("{}: {generation} after {least}", known.name);
            hand.notes.violation(&words);
        }
    }
}

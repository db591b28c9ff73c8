//! What processes do with barriers. Each call is logged before it and after it.

use std::time::{Duration, Instant};

use lockkeeper::{
    Barrier, CallError,
    errors::{ActionError, Breach, Refusal},
    guards::Passed,
};
use rand::Rng;

use super::{
    log::{Arrival, Event, Line},
    notes::Notes,
    scene::Known,
    worker::Hand,
};

/// How much later than its deadline a client gives up a call to a manager that keeps no time.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

type Outcome = Result<Passed, ActionError<()>>;

/// Waits, or breaks or mends the barrier.
pub(crate) async fn visit(hand: &mut Hand, known: &Known<Barrier>) {
    let barrier = &known.object;
    match hand.random.random_range(0..60) {
        0 => {
            hand.does(known, "abort");
            hand.granted(&known.name, Some(barrier.abort().await));
        }
        1 => mend(hand, known).await,
        _ => {
            let arrival = Arrival::new();
            note(&hand.notes, known, arrival, Event::Comes);
            let begun = Instant::now();
            let mut outcome = wait(hand, known, arrival).await;
            if outcome == Some(Err(CallError::timed_out().into())) && begun.elapsed() >= GRACE {
                // The client may have said so by itself: the wait may have passed.
                outcome = None;
            }
            conclude(hand, known, arrival, outcome).await;
        }
    }
}

async fn mend(hand: &Hand, known: &Known<Barrier>) {
    hand.does(known, "reset");
    hand.granted(&known.name, Some(known.object.reset().await));
}

/// Waits in one of the ways that there are.
async fn wait(hand: &mut Hand, known: &Known<Barrier>, arrival: Arrival) -> Option<Outcome> {
    let barrier = &known.object;
    let timeout = Duration::from_micros(hand.random.random_range(100..60_000));
    let pause = hand.brief() / 2;
    let succeeds = !hand.chance(8);
    let notes = hand.notes.clone();
    let (named, what) = (known.clone(), arrival);
    let act = move || async move {
        tokio::time::sleep(pause).await;
        if succeeds {
            note(&notes, &named, what, Event::HasActed);
            Ok(())
        } else {
            Err(())
        }
    };
    Some(match hand.random.random_range(0..8) {
        0 => {
            hand.does(known, "wait");
            barrier.wait().await.map_err(Into::into)
        }
        1 | 2 => {
            hand.does(known, "wait with a timeout");
            let waited = hand.within(timeout, barrier.wait().timeout(timeout));
            waited.await.map_err(Into::into)
        }
        3 => {
            hand.does(known, "wait and drop");
            hand.give_up(barrier.wait()).await?.map_err(Into::into)
        }
        4 => {
            hand.does(known, "wait_with");
            barrier.wait_with(act).await
        }
        5 | 6 => {
            hand.does(known, "wait_with with a timeout");
            let waited = barrier.wait_with(act).timeout(timeout);
            hand.within(timeout, waited).await
        }
        _ => {
            hand.does(known, "wait_with and drop");
            hand.give_up(barrier.wait_with(act)).await?
        }
    })
}

/// Writes down what has become of a call.
async fn conclude(
    hand: &mut Hand,
    known: &Known<Barrier>,
    arrival: Arrival,
    outcome: Option<Outcome>,
) {
    let error = match outcome {
        None => {
            // The answer comes after the arrival was taken back.
            hand.granted(&known.name, Some(known.object.status().await));
            return note(&hand.notes, known, arrival, Event::Dropped);
        }
        Some(Ok(Passed {
            generation,
            index,
            is_leader,
            ..
        })) => {
            let passed = Event::Passed {
                generation,
                index,
                is_leader,
            };
            hand.count(known, "passed");
            return note(&hand.notes, known, arrival, passed);
        }
        Some(Err(error)) => error,
    };
    note(&hand.notes, known, arrival, Event::Failed);
    match error {
        ActionError::Call(CallError::TimedOut(_)) => hand.count(known, "broken by timeout"),
        ActionError::Failed(()) => hand.count(known, "broken by action"),
        ActionError::Call(CallError::Refused(Refusal::Broken(breach), _)) => {
            hand.count(known, "told that it is broken");
            if let Breach::Died(peer) = &breach {
                hand.count(known, "broken by death");
                hand.must_be_dead(&known.name, peer.pid);
            }
            if breach != Breach::Reset && hand.random.random() {
                mend(hand, known).await;
            }
        }
        ActionError::Call(error) => {
            hand.notes.violation(&format!("{}: {error}", known.name));
        }
    }
}

fn note(notes: &Notes, known: &Known<Barrier>, arrival: Arrival, event: Event) {
    notes.record(&known.name, &Line::Call(arrival, event).to_string());
}

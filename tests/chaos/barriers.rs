//! The actions of processes on barriers. Each call is logged before and after.

use std::time::{Duration, Instant};

use lockkeeper::{
    Barrier, CallError,
    errors::{ActionError, BreakReason, Refusal},
    guards::BarrierWaitResult,
};
use rand::Rng;

use super::{
    log::{Arrival, Event, Line},
    notes::Notes,
    setup::Named,
    worker::Runner,
};

/// How long after its deadline a client abandons a call that the manager has not answered.
pub(crate) const LATE_ANSWER: Duration = Duration::from_secs(2);

type Outcome = Result<BarrierWaitResult, ActionError<()>>;

/// Waits at the barrier, or aborts or resets it.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<Barrier>) {
    let barrier = &named.object;
    match runner.random.random_range(0..60) {
        0 => {
            runner.trace(named, "abort");
            runner.granted(&named.name, Some(barrier.abort().await));
        }
        1 => reset_or_abort(runner, named).await,
        _ => {
            let arrival = Arrival::new();
            note(&runner.notes, named, arrival, Event::Begins);
            let begun = Instant::now();
            let mut outcome = wait(runner, named, arrival).await;
            if outcome == Some(Err(CallError::timed_out().into())) && begun.elapsed() >= LATE_ANSWER
            {
                // The client may have made this answer itself, and the wait may have passed.
                outcome = None;
            }
            conclude(runner, named, arrival, outcome).await;
        }
    }
}

async fn reset_or_abort(runner: &Runner, named: &Named<Barrier>) {
    runner.trace(named, "reset");
    runner.granted(&named.name, Some(named.object.reset().await));
}

/// Waits in a randomly chosen way.
async fn wait(runner: &mut Runner, named: &Named<Barrier>, arrival: Arrival) -> Option<Outcome> {
    let barrier = &named.object;
    let timeout = Duration::from_micros(runner.random.random_range(100..60_000));
    let pause = runner.brief() / 2;
    let succeeds = !runner.chance(8);
    let notes = runner.notes.clone();
    let (object, what) = (named.clone(), arrival);
    let act = move || async move {
        tokio::time::sleep(pause).await;
        if succeeds {
            note(&notes, &object, what, Event::HasActed);
            Ok(())
        } else {
            Err(())
        }
    };
    Some(match runner.random.random_range(0..8) {
        0 => {
            runner.trace(named, "wait");
            barrier.wait().await.map_err(Into::into)
        }
        1 | 2 => {
            runner.trace(named, "wait with a timeout");
            let waited = runner.within(timeout, barrier.wait().timeout(timeout));
            waited.await.map_err(Into::into)
        }
        3 => {
            runner.trace(named, "wait and drop");
            runner.give_up(barrier.wait()).await?.map_err(Into::into)
        }
        4 => {
            runner.trace(named, "wait_with");
            barrier.wait_with(act).await
        }
        5 | 6 => {
            runner.trace(named, "wait_with with a timeout");
            let waited = barrier.wait_with(act).timeout(timeout);
            runner.within(timeout, waited).await
        }
        _ => {
            runner.trace(named, "wait_with and drop");
            runner.give_up(barrier.wait_with(act)).await?
        }
    })
}

/// Logs the outcome of a call.
async fn conclude(
    runner: &mut Runner,
    named: &Named<Barrier>,
    arrival: Arrival,
    outcome: Option<Outcome>,
) {
    let error = match outcome {
        None => {
            // The barrier answers this call after the arrival was withdrawn.
            runner.granted(&named.name, Some(named.object.status().await));
            return note(&runner.notes, named, arrival, Event::Dropped);
        }
        Some(Ok(result)) => {
            let passed = Event::Passed {
                generation: result.generation(),
                index: result.index(),
                is_leader: result.is_leader(),
            };
            runner.count(named, "passed");
            return note(&runner.notes, named, arrival, passed);
        }
        Some(Err(error)) => error,
    };
    note(&runner.notes, named, arrival, Event::Failed);
    match error {
        ActionError::Call(CallError::TimedOut(_)) => runner.count(named, "broken by timeout"),
        ActionError::Failed(()) => runner.count(named, "broken by action"),
        ActionError::Call(CallError::Refused(Refusal::Broken(reason), _)) => {
            runner.count(named, "refused as broken");
            if let BreakReason::Died(peer) = &reason {
                runner.count(named, "broken by death");
                runner.must_be_dead(&named.name, peer.pid);
            }
            if reason != BreakReason::Reset && runner.random.random() {
                reset_or_abort(runner, named).await;
            }
        }
        error => {
            runner
                .notes
                .violation(&format!("{}: {error:?}", named.name));
        }
    }
}

fn note(notes: &Notes, named: &Named<Barrier>, arrival: Arrival, event: Event) {
    notes.record(&named.name, &Line::Call(arrival, event).to_string());
}

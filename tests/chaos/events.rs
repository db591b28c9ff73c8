//! The actions of processes on events.

use lockkeeper::Event;
use rand::Rng;

use super::{setup::Named, worker::Runner};

/// Sets, clears or waits. The count of an answer is never lower than that of an earlier answer.
pub(crate) async fn act_on(runner: &mut Runner, named: &Named<Event>) {
    let event = &named.object;
    let hold_record = named.hold_record(&runner.notes);
    let highest = hold_record.highest();
    let brief = runner.brief();
    let (least, outcome) = match runner.random.random_range(0..10) {
        0 => {
            runner.trace(named, "set");
            if let Some(generation) = runner.granted(&named.name, Some(event.set().await)) {
                hold_record.pass(generation, highest);
            }
            return;
        }
        1..4 => {
            runner.trace(named, "clear");
            runner.granted(&named.name, Some(event.clear().await));
            return;
        }
        4 => {
            runner.trace(named, "wait");
            (highest, Some(event.wait().await))
        }
        5 | 6 => {
            runner.trace(named, "wait with a timeout");
            let waited = runner.within(brief, event.wait().timeout(brief));
            (highest, Some(waited.await))
        }
        7 => {
            runner.trace(named, "wait and drop");
            (highest, runner.give_up(event.wait()).await)
        }
        8 => {
            runner.trace(named, "wait_since with a timeout");
            let waited = event.wait_since(highest).timeout(brief);
            (highest + 1, Some(runner.within(brief, waited).await))
        }
        _ => {
            runner.trace(named, "wait_since");
            (highest + 1, Some(event.wait_since(highest).await))
        }
    };
    if let Some(generation) = runner.granted(&named.name, outcome) {
        runner.count(named, "seen");
        if generation < least {
            let words = format!("{}: {generation} after {least}", named.name);
            runner.notes.violation(&words);
        }
    }
}

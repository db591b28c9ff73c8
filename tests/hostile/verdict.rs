//! What must hold after the attacks: the only file that says which findings fail the test.

use std::{collections::BTreeSet, time::Duration};

use super::{attacks::chosen, client::Findings, honest::HonestReport};

/// The longest that one round trip of the honest client may take where the manager has a processor for
/// itself: as long as a client waits for the answer to a call whose own time is over.
const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(2);

/// How many different faults are told.
const MOST_REPORTED: usize = 20;

/// What must occur, or the test has missed its subject.
const MUST_OCCUR: [&str; 14] = [
    "valid: answers",
    "mutated: hung up",
    "lengths: hung up",
    "lengths: lies",
    "opens: objects",
    "unread: large answers",
    "connections: made",
    "thefts: tried",
    "numbers: hung up",
    "numbers: permits came back",
    "names: answered",
    "waits: refused",
    "replaced: values",
    "crowds: locked",
];

/// The honest client has its session, its guards and its history, and was served meanwhile.
///
/// `share` is what the manager had of a processor that others used too.
pub(crate) fn of_the_honest_client(report: HonestReport, share: f64) -> Vec<String> {
    let HonestReport {
        mut faults,
        mut round_trips,
        counted,
        items,
        large_reads,
        refused,
    } = report;
    round_trips.sort_unstable();
    let at = |hundredths: usize| {
        let place = (round_trips.len() * hundredths / 100).min(round_trips.len().saturating_sub(1));
        Duration::from_micros(round_trips.get(place).copied().unwrap_or_default().into())
    };
    let (half, p99, longest) = (at(50), at(99), at(100));
    println!(
        "the honest client: {} round trips, p50 {half:?}, p99 {p99:?}, longest {longest:?}; \
         {counted} counted, {items} items, {large_reads} large reads, {refused} times over the budget; \
         the manager had {share:.2} of a processor",
        round_trips.len()
    );
    if longest > ROUND_TRIP_LIMIT.div_f64(share) {
        faults.push(format!(
            "a round trip of the honest client took {longest:?}, where the manager had {share:.2} of a processor"
        ));
    }
    if [counted, items, large_reads].contains(&0) {
        faults.push("the honest client got nothing done".to_owned());
    }
    faults
}

/// The attackers have tried all that they should, and found nothing.
pub(crate) fn of_the_attackers(found: Findings) -> Vec<String> {
    let Findings { counts, faults } = found;
    let told = counts.iter().map(|(what, count)| format!("{what} {count}"));
    println!("{}", told.collect::<Vec<_>>().join(", "));
    // Thousands of thefts are one fault.
    let different: BTreeSet<_> = faults.into_iter().collect();
    let mut faults: Vec<_> = different.into_iter().take(MOST_REPORTED).collect();
    for (name, _) in chosen() {
        let of_it = |what: &&str| what.split(':').next() == Some(name);
        let runs = format!("{name}: runs");
        for what in MUST_OCCUR.into_iter().filter(of_it).chain([&*runs]) {
            if !counts.contains_key(what) {
                faults.push(format!("never: {what}"));
            }
        }
    }
    faults
}

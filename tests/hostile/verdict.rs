//! The checks after the attacks. Only this file determines which findings fail the test.

use std::{collections::BTreeSet, time::Duration};

use super::{attacks::chosen, client::Findings, honest::HonestReport};

/// The time limit of one round trip of the honest client, if the manager has a processor to itself. A
/// client waits this long for the answer to a call whose timeout has passed.
const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(2);

/// The number of different faults that are reported.
const MOST_REPORTED: usize = 20;

/// The counts that must occur, because the test would otherwise not have tested them.
const MUST_OCCUR: [&str; 19] = [
    "valid: answers",
    "valid: goodbyes",
    "mutated: hung up",
    "lengths: hung up",
    "lengths: lies",
    "opens: objects",
    "unread: large answers",
    "connections: made",
    "thefts: tried",
    "numbers: hung up",
    "numbers: permits released",
    "stores: stored",
    "stores: refused",
    "pipes: refused",
    "turns: taken",
    "names: answered",
    "waits: refused",
    "replaced: values",
    "crowds: locked",
];

/// Checks that the honest client kept its session and its guards, saw consistent data, and was
/// served throughout.
///
/// `share` is the manager's share of a processor.
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

/// Checks that the attackers ran all attacks and found no fault.
pub(crate) fn of_the_attackers(found: Findings) -> Vec<String> {
    let Findings { counts, faults } = found;
    let lines = counts.iter().map(|(what, count)| format!("{what} {count}"));
    println!("{}", lines.collect::<Vec<_>>().join(", "));
    // Equal faults are reported once.
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

//! The condition against a picture of it, drawn with plain lists: over all short schedules, and
//! over long ones drawn by chance.
//!
//! The picture is written from SEMANTICS.md and knows the condition only through its calls and their
//! answers. Invariant: after each step both agree on who holds the lock, who stands in its line, who
//! sleeps, and what each caller was told.

#[path = "support/picture.rs"]
mod picture;
#[path = "support/seeds.rs"]
mod seeds;

use picture::{Step, Trial};
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// One, two and three sleep, the first two in the set without a name and one of them with a
/// deadline; the fourth has the lock.
const CROWDED: &[Step] = &[
    Step::Acquire(1),
    Step::Sleep(1, "", true),
    Step::Acquire(2),
    Step::Sleep(2, "", false),
    Step::Acquire(3),
    Step::Sleep(3, "b", false),
    Step::Acquire(4),
];

/// One has been notified and waits for the lock, which the third holds; two sleeps still.
const NOTIFIED: &[Step] = &[
    Step::Acquire(1),
    Step::Sleep(1, "", true),
    Step::Acquire(2),
    Step::Sleep(2, "", true),
    Step::Acquire(3),
    Step::NotifyOne(3, ""),
];

/// Tries all schedules of so many steps behind a beginning, and counts them.
fn explore(path: &mut Vec<Step>, sessions: u64, depth: u32) -> u64 {
    // Each shorter schedule is compared as the last step of its own path.
    let trial = Trial::replay(path, sessions);
    if depth == 0 {
        trial.end();
        return 1;
    }
    let mut tried = 0;
    for step in trial.picture().possible() {
        path.push(step);
        tried += explore(path, sessions, depth - 1);
        path.pop();
    }
    tried
}

fn all_agree(beginning: &[Step], sessions: u64, depth: u32, at_least: u64) {
    let mut path = beginning.to_vec();
    let tried = explore(&mut path, sessions, depth);
    println!("{tried} schedules");
    assert!(tried >= at_least, "only {tried} schedules were tried");
}

#[test]
fn all_short_schedules_of_three_callers_agree_with_the_picture() {
    all_agree(&[], 3, 6, 10_000);
}

#[test]
fn all_short_schedules_behind_sleepers_of_two_sets_agree_with_the_picture() {
    all_agree(CROWDED, 4, 4, 10_000);
}

#[test]
fn all_short_schedules_behind_a_notification_agree_with_the_picture() {
    all_agree(NOTIFIED, 3, 4, 5_000);
}

/// All orders of some steps.
fn permutations(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for place in 0..steps.len() {
        let mut rest = steps.to_vec();
        let first = rest.remove(place);
        for mut order in permutations(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

#[test]
fn no_order_of_notify_timeout_drop_and_death_loses_the_notification() {
    let events = [
        Step::NotifyOne(4, ""),
        Step::Tick,
        Step::Drop(1),
        Step::Kill(2),
        Step::Release(4),
        Step::NotifyOne(4, "b"),
        Step::Kill(4),
    ];
    let mut tried = 0;
    for order in permutations(&events) {
        let mut trial = Trial::replay(CROWDED, 4);
        for step in order {
            // What has become impossible, as a release by the dead, does not happen.
            if trial.picture().possible().contains(&step) {
                trial.take(step);
            }
        }
        trial.end();
        tried += 1;
    }
    assert_eq!(tried, 5_040);
}

#[test]
fn long_random_schedules_agree_with_the_picture() {
    let must_occur = [
        "acquire",
        "sleep",
        "notify one",
        "notify all",
        "release",
        "drop of a sleeper",
        "drop in the line",
        "drop of a grant",
        "death asleep",
        "death in the line",
        "death of the holder",
        "time passes",
        "force_unlock",
        "notification handed on",
        "notification that nobody is left for",
        "woken by the end of its time",
    ];
    let test = "long_random_schedules_agree_with_the_picture";
    seeds::each(test, 300, &must_occur, |seed, tally| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut trial = Trial::replay(&[], 6);
        for _ in 0..120 {
            let steps = trial.picture().possible();
            let step = *steps.choose(&mut random).expect("time can always pass");
            if seeds::only().is_some() {
                eprintln!("{step:?}");
            }
            trial.take(step);
        }
        for what in trial.picture().occurred() {
            tally.note(what);
        }
        trial.end();
    });
}

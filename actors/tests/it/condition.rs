//! Tests the condition in all schedules of a few callers, and against a reference in long random
//! schedules.
//!
//! The tests use only its calls and answers. They cover all schedules in two ways: every order of a
//! few steps, and every step in every reachable state.

mod calls;
mod record;
mod reference;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    mem::discriminant,
};

use lockkeeper_actors::sync::Wake;

use crate::{
    condition::{
        record::Record,
        reference::ConditionReference,
        steps::{Entry, Patience, Place, Set, Step},
    },
    models::agree,
};

#[test]
fn condition_agrees_with_its_reference() {
    agree::<ConditionReference>(
        "condition_agrees_with_its_reference",
        1_500,
        &[
            "sleep",
            "sleep without the lock",
            "sleep in a set with too long a name",
            "notification without the lock",
            "notification that wakes no sleeper",
            "notification of one",
            "notification of several",
            "notification of all",
            "notification used",
            "notification of a withdrawn waiter passed on",
            "notification of a dead waiter passed on",
            "notification of a holder passed on",
            "notification of a dead holder passed on",
            "passed-on notification that wakes a sleeper",
            "passed-on notification that wakes no sleeper",
            "sleeper woken by its deadline",
            "deadline of a woken sleeper",
            "deadline of a waiter for the lock",
            "withdrawn sleeper",
            "adoption with a notification",
            "adoption without a notification",
            "force_unlock",
            "mark left",
        ],
    );
}

/// The limits of callers in a schedule.
#[derive(Clone, Copy)]
struct Limits {
    sessions: usize,
    calls: usize,
}

/// Returns all possible next steps. Sessions without a call are equivalent, so only one new session
/// may come.
fn possible(record: &Record, limits: Limits) -> Vec<Step> {
    let live: Vec<(usize, &Entry)> = record
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.place != Place::Over)
        .collect();
    let session = |entry: &Entry| entry.id.session().number();
    let sessions: BTreeSet<u64> = live.iter().map(|(_, entry)| session(entry)).collect();
    let mut comers = sessions.clone();
    if sessions.len() < limits.sessions {
        let known = record.entries().iter().map(session);
        comers.insert(known.max().unwrap_or(0) + 1);
    }
    let mut steps = vec![Step::Misuse];
    if live
        .iter()
        .any(|(_, entry)| entry.patience == Patience::UntilTick)
    {
        steps.push(Step::Tick);
    }
    if live.len() < limits.calls {
        for patience in [Patience::Endless, Patience::UntilTick] {
            steps.extend(
                comers
                    .iter()
                    .map(|session| Step::Acquire(*session, patience)),
            );
        }
    }
    steps.extend(live.iter().map(|(call, _)| Step::Withdraw(*call)));
    steps.extend(sessions.into_iter().map(Step::HangUp));
    if let Some(call) = record.inside() {
        steps.extend([Step::Release(call), Step::ForceUnlock]);
        steps.extend(comers.iter().map(|session| Step::Adopt(*session, call)));
        for set in Set::ALL {
            steps.extend([
                Step::NotifyOne(call, set),
                Step::NotifyAll(call, set),
                Step::Sleep(call, set, Patience::Endless),
                Step::Sleep(call, set, Patience::UntilTick),
            ]);
        }
    }
    steps
}

/// A state without the names of sessions and sets.
type Shape = Vec<(usize, CallState)>;

/// The state of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum CallState {
    Inside(Option<usize>),
    InLine(Option<Woken>, Patience, Option<usize>),
    Asleep(usize, Patience),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Woken {
    Notified,
    TimedOut,
}

/// Returns the shape of a state, which is equal for states that differ only in names.
fn shape(record: &Record) -> Shape {
    let [as_they_are, swapped] = [Set::ALL, [Set::Named, Set::Unnamed]].map(|sets| {
        let number = |set: Set| usize::from(set == sets[1]);
        let mut sessions = BTreeMap::new();
        let mut sleepers = record.asleep().to_vec();
        sleepers.sort_by_key(|call| match record.entries()[*call].place {
            Place::Asleep(set) => number(set),
            Place::InLine(_) | Place::Inside | Place::Over => usize::MAX,
        });
        let calls = record.inside().into_iter();
        let calls = calls.chain(record.line().iter().copied()).chain(sleepers);
        calls
            .map(|call| {
                let entry = record.entries()[call];
                let known = sessions.len();
                let session = *sessions.entry(entry.id.session()).or_insert(known);
                let carries = entry.carries.map(number);
                let whereabouts = match entry.place {
                    Place::Asleep(set) => CallState::Asleep(number(set), entry.patience),
                    Place::InLine(wake) => {
                        let woken = wake.map(|wake| match wake {
                            Wake::Notified => Woken::Notified,
                            Wake::TimedOut => Woken::TimedOut,
                        });
                        CallState::InLine(woken, entry.patience, carries)
                    }
                    Place::Inside | Place::Over => CallState::Inside(carries),
                };
                (session, whereabouts)
            })
            .collect::<Shape>()
    });
    as_they_are.min(swapped)
}

/// Takes every possible step in every state that can be reached in `most_steps` steps. Returns the
/// number of states and of taken steps.
///
/// The condition may have hidden state that depends on the path and that the record does not see.
/// So states are also distinguished by the kind of the step before them.
fn reach(limits: Limits, most_steps: usize) -> (usize, usize) {
    let mut known = HashSet::from([(shape(&Record::new()), discriminant(&Step::Misuse))]);
    let mut paths = VecDeque::from([Vec::new()]);
    let mut taken = 0;
    while let Some(mut path) = paths.pop_front() {
        for step in possible(&Record::replay(&path), limits) {
            path.push(step);
            taken += 1;
            let record = Record::replay(&path);
            if known.insert((shape(&record), discriminant(&step))) {
                // Misuse changes nothing, which was checked already, so no further steps follow it.
                if path.len() < most_steps && step != Step::Misuse {
                    paths.push_back(path.clone());
                }
                record.end();
            }
            path.pop();
        }
    }
    (known.len(), taken)
}

/// Takes all steps of all schedules of `depth` steps. Returns the number of schedules.
fn explore(path: &mut Vec<Step>, record: Record, limits: Limits, depth: usize) -> usize {
    if depth == 0 {
        record.end();
        return 1;
    }
    let mut tried = 0;
    for step in possible(&record, limits) {
        path.push(step);
        tried += explore(path, Record::replay(path), limits, depth - 1);
        path.pop();
    }
    tried
}

#[test]
fn every_state_that_three_callers_can_reach_keeps_the_promises() {
    let limits = Limits {
        sessions: 3,
        calls: 3,
    };
    let (states, steps) = reach(limits, usize::MAX);
    println!("{states} states, {steps} steps");
    assert!(states >= 5_400 && steps >= 83_000, "{states}, {steps}");
}

#[test]
fn every_state_that_four_callers_can_reach_in_six_steps_keeps_the_promises() {
    let limits = Limits {
        sessions: 4,
        calls: 4,
    };
    let (states, steps) = reach(limits, 6);
    println!("{states} states, {steps} steps");
    assert!(states >= 4_200 && steps >= 29_000, "{states}, {steps}");
}

#[test]
fn every_schedule_of_four_steps_keeps_the_promises() {
    let limits = Limits {
        sessions: 3,
        calls: 4,
    };
    let schedules = explore(&mut Vec::new(), Record::new(), limits, 4);
    println!("{schedules} schedules");
    assert!(schedules >= 9_700, "{schedules}");
}

/// Runs a test for all orders of some steps.
fn in_every_order(done: &mut Vec<Step>, left: &[Step], run: &mut impl FnMut(&[Step])) {
    if left.is_empty() {
        run(done);
    }
    for place in 0..left.len() {
        let mut left = left.to_vec();
        done.push(left.remove(place));
        in_every_order(done, &left, run);
        done.pop();
    }
}

/// Returns steps after which sessions from 1 on sleep, one in each of the sets, and the next session
/// holds the lock. The sleeping calls have the numbers 1, 3, 5 and so on, and the holder's call has
/// the next number.
fn asleep(sleepers: &[(Set, Patience)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (set, patience) in sleepers {
        let call = steps.len();
        let session = u64::try_from(call / 2).expect("few sleep") + 1;
        steps.push(Step::Acquire(session, Patience::Endless));
        steps.push(Step::Sleep(call, *set, *patience));
    }
    let holder = u64::try_from(sleepers.len()).expect("few sleep") + 1;
    steps.push(Step::Acquire(holder, Patience::Endless));
    steps
}

/// Takes steps, except those that have become impossible, such as a release by an ended session,
/// and then grants the lock to all waiters. Returns the number of notifications.
fn take_possible(record: &mut Record, steps: &[Step]) -> usize {
    let mut given = 0;
    for step in steps {
        if record.allows(*step) {
            record.take(*step);
            record.check();
            given += usize::from(matches!(step, Step::NotifyOne(..)));
        }
    }
    record.settle();
    given
}

#[test]
fn no_order_of_notify_timeout_drop_and_death_loses_the_notification() {
    let (mut orders, mut notified) = (0, 0);
    let patience = [Patience::Endless, Patience::UntilTick];
    for [first, second, third] in patience
        .iter()
        .flat_map(|a| patience.iter().map(move |b| (a, b)))
        .flat_map(|(a, b)| patience.iter().map(move |c| [*a, *b, *c]))
    {
        let beginning = asleep(&[first, second, third].map(|patience| (Set::Unnamed, patience)));
        for way_out in [Step::Release(6), Step::HangUp(4), Step::ForceUnlock] {
            let events = [
                Step::NotifyOne(6, Set::Unnamed),
                Step::Tick,
                Step::Withdraw(1),
                Step::HangUp(2),
                way_out,
            ];
            in_every_order(&mut Vec::new(), &events, &mut |order| {
                let mut record = Record::replay(&beginning);
                let given = take_possible(&mut record, order);
                let observed = match (given, third) {
                    // The first sleeper was dropped and the second died, so the third gets the
                    // notification.
                    (1, Patience::Endless) => record.wake_of(5) == Some(Wake::Notified),
                    (_, Patience::Endless) => record.wake_of(5).is_none(),
                    (1, Patience::UntilTick) => record.wake_of(5).is_some(),
                    (_, Patience::UntilTick) => record.wake_of(5) == Some(Wake::TimedOut),
                };
                assert!(observed, "{:?}", record.wake_of(5));
                orders += 1;
                notified += given;
                record.end();
            });
        }
    }
    println!("{orders} orders, {notified} notifications");
    assert!(orders == 2_880 && notified >= 1_440, "{orders}, {notified}");
}

#[test]
fn no_order_of_two_notifications_and_the_ends_of_their_receivers_loses_or_swaps_one() {
    let (unnamed, named) = (Set::Unnamed, Set::Named);
    let mut orders = 0;
    for sets in [
        [unnamed, unnamed, unnamed, unnamed],
        [unnamed, named, unnamed, named],
        [unnamed, named, named, unnamed],
    ] {
        let beginning = asleep(&sets.map(|set| (set, Patience::Endless)));
        let events = [
            Step::NotifyOne(8, sets[0]),
            Step::NotifyOne(8, sets[1]),
            Step::Withdraw(1),
            Step::HangUp(2),
            Step::Acquire(6, Patience::Endless),
            Step::Release(8),
        ];
        in_every_order(&mut Vec::new(), &events, &mut |order| {
            let mut record = Record::replay(&beginning);
            let notifies = |step: &&Step| matches!(step, Step::NotifyOne(..));
            let before = order.iter().take_while(|step| **step != Step::Release(8));
            let given: Vec<Step> = before.filter(notifies).copied().collect();
            take_possible(&mut record, order);
            // The two remaining sleepers get the notifications of their sets, in order of arrival.
            let mut due = given;
            for (call, set) in [(5, sets[2]), (7, sets[3])] {
                let notification = Step::NotifyOne(8, set);
                let place = due.iter().position(|step| *step == notification);
                let expected = place.map(|place| {
                    due.remove(place);
                    Wake::Notified
                });
                assert_eq!(record.wake_of(call), expected, "{call}");
            }
            orders += 1;
            record.end();
        });
    }
    println!("{orders} orders");
    assert_eq!(orders, 2_160);
}

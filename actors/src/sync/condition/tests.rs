//! Tests of the condition, one fact each.

use lockkeeper_protocol::{Fault, Proof, SessionId};

use crate::bench::Bench;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A condition whose lock the last session holds, with one sleeper in a set for each session.
fn asleep(set: &str, sessions: &[u64]) -> (Bench<Condition>, Vec<CallId>) {
    let mut bench = Bench::new(ReleaseBy::Holder).unwrap();
    let sleepers = sessions.iter().map(|session| {
        let grant = bench.call(*session, Acquire);
        sleep(&mut bench, grant, set)
    });
    let sleepers = sleepers.collect();
    (bench, sleepers)
}

fn sleep(bench: &mut Bench<Condition>, grant: CallId, set: &str) -> CallId {
    let set = set.to_owned();
    bench.call(
        grant.session().number(),
        Sleep {
            grant: Proof::own(grant),
            set,
        },
    )
}

fn notify(bench: &mut Bench<Condition>, grant: CallId, most: Option<u64>) -> Result<u64, Refusal> {
    notify_set(bench, grant, "", most)
}

fn notify_set(
    bench: &mut Bench<Condition>,
    grant: CallId,
    set: &str,
    most: Option<u64>,
) -> Result<u64, Refusal> {
    let set = set.to_owned();
    let id = bench.call(
        grant.session().number(),
        Notify {
            grant: Proof::own(grant),
            set,
            most: most.map(i128::from),
        },
    );
    bench.reply::<Notify>(id).unwrap().unwrap()
}

fn acquire(bench: &mut Bench<Condition>, session: u64) -> CallId {
    let id = bench.call(session, Acquire);
    assert!(bench.is_answered(id), "the lock is not free");
    id
}

fn release(bench: &mut Bench<Condition>, grant: CallId) {
    let id = bench.call(
        grant.session().number(),
        Release {
            grant: Proof::own(grant),
        },
    );
    assert_eq!(bench.reply::<Release>(id), Some(Ok(Ok(()))));
}

/// Why a sleeper that has the lock again woke up.
fn woken(bench: &Bench<Condition>, id: CallId) -> Option<Wake> {
    let told = bench.reply::<Sleep>(id)?.expect("no fault");
    Some(told.expect("no refusal").wake)
}

fn sleepers(bench: &mut Bench<Condition>, set: &str) -> u64 {
    let set = set.to_owned();
    let id = bench.call(99, CountSleepers { set });
    bench.reply::<CountSleepers>(id).unwrap().unwrap().unwrap()
}

#[test]
fn to_wait_frees_the_lock_in_the_same_turn() {
    let (mut bench, _) = asleep("", &[]);
    let holder = acquire(&mut bench, 1);
    let next = bench.call(2, Acquire);
    let sleeper = sleep(&mut bench, holder, "");
    assert!(bench.is_answered(next) && !bench.is_answered(sleeper));
    assert_eq!(sleepers(&mut bench, ""), 1);
}

#[test]
fn notified_waiters_move_to_the_locks_line_in_order() {
    let (mut bench, asleep) = asleep("", &[1, 2, 3]);
    let notifier = acquire(&mut bench, 4);
    let fresh = bench.call(5, Acquire);
    assert_eq!(notify(&mut bench, notifier, Some(2)), Ok(2));
    assert!(!asleep.iter().any(|id| bench.is_answered(*id)));
    release(&mut bench, notifier);
    release(&mut bench, fresh);
    for id in &asleep[..2] {
        assert_eq!(woken(&bench, *id), Some(Wake::Notified));
        release(&mut bench, *id);
    }
    assert_eq!(woken(&bench, asleep[2]), None);
}

#[test]
fn notification_without_a_sleeper_is_not_stored() {
    let (mut bench, _) = asleep("", &[]);
    let notifier = acquire(&mut bench, 1);
    assert_eq!(notify(&mut bench, notifier, Some(3)), Ok(0));
    assert_eq!(notify(&mut bench, notifier, None), Ok(0));
    let sleeper = sleep(&mut bench, notifier, "");
    assert!(!bench.is_answered(sleeper));
}

#[test]
fn neither_waiting_nor_notifying_goes_without_the_lock() {
    let (mut bench, asleep) = asleep("", &[1]);
    let holder = acquire(&mut bench, 2);
    for stranger in [asleep[0], CallId::new(SessionId::new(3), 77)] {
        assert_eq!(notify(&mut bench, stranger, None), Err(Refusal::NotHeld));
        let refused = sleep(&mut bench, stranger, "");
        assert_eq!(
            bench.reply::<Sleep>(refused),
            Some(Ok(Err(Refusal::NotHeld)))
        );
    }
    assert!(bench.primitive().unwrap().lock.is_held_by(holder));
    assert_eq!(sleepers(&mut bench, ""), 1);
}

#[test]
fn timeout_bounds_the_sleep_and_not_the_way_back_to_the_lock() {
    let (mut bench, _) = asleep("", &[]);
    let grant = acquire(&mut bench, 1);
    let set = String::new();
    let sleeper = bench.call_within(
        1,
        Sleep {
            grant: Proof::own(grant),
            set,
        },
        SECOND,
    );
    let holder = acquire(&mut bench, 2);
    bench.advance(SECOND * 10);
    assert_eq!(woken(&bench, sleeper), None);
    assert_eq!(
        notify(&mut bench, holder, Some(1)),
        Ok(0),
        "it sleeps no longer"
    );
    release(&mut bench, holder);
    assert_eq!(woken(&bench, sleeper), Some(Wake::TimedOut));
    release(&mut bench, sleeper);
}

#[test]
fn waiter_that_timed_out_swallows_no_notification() {
    let (mut bench, _) = asleep("", &[]);
    let grant = acquire(&mut bench, 1);
    let set = String::new();
    let late = bench.call_within(
        1,
        Sleep {
            grant: Proof::own(grant),
            set,
        },
        SECOND,
    );
    let grant = acquire(&mut bench, 2);
    let patient = sleep(&mut bench, grant, "");
    let notifier = acquire(&mut bench, 3);
    bench.advance(SECOND * 2);
    assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
    release(&mut bench, notifier);
    release(&mut bench, late);
    assert_eq!(woken(&bench, patient), Some(Wake::Notified));
}

#[test]
fn deadline_of_one_that_was_notified_changes_nothing() {
    let (mut bench, _) = asleep("", &[]);
    let grant = acquire(&mut bench, 1);
    let set = String::new();
    let sleeper = bench.call_within(
        1,
        Sleep {
            grant: Proof::own(grant),
            set,
        },
        SECOND,
    );
    let notifier = acquire(&mut bench, 2);
    assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
    bench.advance(SECOND * 2);
    release(&mut bench, notifier);
    assert_eq!(woken(&bench, sleeper), Some(Wake::Notified));
    assert_eq!(bench.times_answered(sleeper), 1);
}

#[test]
fn acquire_in_the_line_times_out_as_that_of_any_lock() {
    let (mut bench, _) = asleep("", &[]);
    acquire(&mut bench, 1);
    let fresh = bench.call_within(2, Acquire, SECOND);
    bench.advance(SECOND);
    assert_eq!(bench.reply::<Acquire>(fresh), Some(Err(Fault::TimedOut)));
}

#[test]
fn sleeper_that_is_dropped_or_dead_gets_no_notification() {
    let (mut bench, asleep) = asleep("", &[1, 2, 3]);
    bench.withdraw(asleep[0]);
    bench.hang_up(2);
    let notifier = acquire(&mut bench, 4);
    assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
    release(&mut bench, notifier);
    assert_eq!(woken(&bench, asleep[2]), Some(Wake::Notified));
    assert_eq!(bench.reply::<Sleep>(asleep[0]), Some(Err(Fault::Withdrawn)));
    assert!(!bench.is_answered(asleep[1]));
}

/// Notifies one of two sleepers, which leaves by `leave` in the line or as the holder, and asserts that the
/// other one wakes up in its place.
fn passes_on(is_inside: bool, leave: fn(&mut Bench<Condition>, CallId)) {
    let (mut bench, asleep) = asleep("", &[1, 2]);
    let notifier = acquire(&mut bench, 3);
    assert_eq!(notify(&mut bench, notifier, Some(1)), Ok(1));
    if is_inside {
        release(&mut bench, notifier);
        assert_eq!(woken(&bench, asleep[0]), Some(Wake::Notified));
        leave(&mut bench, asleep[0]);
    } else {
        leave(&mut bench, asleep[0]);
        assert_eq!(woken(&bench, asleep[1]), None, "the lock is held");
        release(&mut bench, notifier);
    }
    assert_eq!(woken(&bench, asleep[1]), Some(Wake::Notified));
    assert_eq!(sleepers(&mut bench, ""), 0);
    release(&mut bench, asleep[1]);
}

#[test]
fn notification_of_one_dropped_in_the_line_passes_to_the_next_sleeper() {
    passes_on(false, Bench::withdraw);
}

#[test]
fn notification_of_one_dead_in_the_line_passes_to_the_next_sleeper() {
    passes_on(false, |bench, id| bench.hang_up(id.session().number()));
}

#[test]
fn grant_that_was_never_seen_is_released_and_its_notification_passed_on() {
    passes_on(true, Bench::withdraw);
}

#[test]
fn notification_of_one_that_dies_before_it_releases_passes_to_the_next_sleeper() {
    passes_on(true, |bench, id| bench.hang_up(id.session().number()));
}

#[test]
fn notification_of_one_whose_lock_is_forced_open_passes_to_the_next_sleeper() {
    passes_on(true, |bench, _| {
        bench.call(9, ForceUnlock);
    });
}

#[test]
fn notification_goes_with_a_hold_that_is_handed_on() {
    passes_on(true, |bench, grant| {
        let ticket = bench.signed(grant);
        bench.call(8, Adopt { grant: ticket });
        assert!(bench.is_revoked(grant));
        bench.hang_up(8);
    });
}

#[test]
fn notification_is_used_by_who_releases_or_sleeps_again() {
    for sleeps_again in [false, true] {
        let (mut bench, asleep) = asleep("", &[1, 2]);
        let notifier = acquire(&mut bench, 3);
        notify(&mut bench, notifier, Some(1)).unwrap();
        release(&mut bench, notifier);
        if sleeps_again {
            sleep(&mut bench, asleep[0], "another set");
        } else {
            release(&mut bench, asleep[0]);
        }
        bench.hang_up(1);
        assert_eq!(woken(&bench, asleep[1]), None);
    }
}

#[test]
fn of_a_notification_of_all_nothing_is_passed_on() {
    let (mut bench, asleep) = asleep("", &[1]);
    let notifier = acquire(&mut bench, 2);
    assert_eq!(notify(&mut bench, notifier, None), Ok(1));
    let later = sleep(&mut bench, notifier, "");
    assert_eq!(woken(&bench, asleep[0]), Some(Wake::Notified));
    bench.hang_up(1);
    assert_eq!(woken(&bench, later), None);
}

#[test]
fn notifier_that_dies_has_notified() {
    let (mut bench, asleep) = asleep("", &[1]);
    let notifier = acquire(&mut bench, 2);
    notify(&mut bench, notifier, Some(1)).unwrap();
    bench.hang_up(2);
    let told = bench.reply::<Sleep>(asleep[0]).unwrap().unwrap().unwrap();
    assert_eq!(told.wake, Wake::Notified);
    assert!(told.granted.abandoned.is_some());
}

#[test]
fn wait_sets_share_the_lock_and_are_notified_apart() {
    let (mut bench, not_full) = asleep("not full", &[1]);
    let grant = acquire(&mut bench, 2);
    let not_empty = sleep(&mut bench, grant, "not empty");
    let holder = acquire(&mut bench, 3);
    assert_eq!(notify_set(&mut bench, holder, "not empty", Some(9)), Ok(1));
    assert_eq!(notify_set(&mut bench, holder, "", None), Ok(0));
    release(&mut bench, holder);
    assert_eq!(woken(&bench, not_empty), Some(Wake::Notified));
    assert_eq!(woken(&bench, not_full[0]), None);
    let asleep = &bench.primitive().unwrap().sleepers;
    assert_eq!((asleep.sets.len(), asleep.set_of.len()), (1, 1));
}

#[test]
fn survey_lists_so_many_sleepers_in_all_and_counts_the_others() {
    let mut bench: Bench<Condition> = Bench::new(ReleaseBy::Holder).unwrap();
    let sleepers = Survey::MOST + 20;
    for number in 0..sleepers {
        let grant = bench.call(1, Acquire);
        sleep(&mut bench, grant, &format!("{:02}", number % 10));
    }
    let survey = bench.primitive().unwrap().survey();
    let listed: usize = survey.parts.iter().map(|part| part.waiters.len()).sum();
    let more: u64 = survey.parts.iter().map(|part| part.more_waiters).sum();
    assert_eq!((listed, more), (Survey::MOST, 20));
    assert_eq!(survey.parts.len(), 11);
}

#[test]
fn name_of_a_wait_set_that_is_too_long_is_refused_and_the_lock_stays_held() {
    let (mut bench, _) = asleep("", &[]);
    let holder = acquire(&mut bench, 1);
    let (fits, too_long) = ("x".repeat(255), "x".repeat(256));
    let refusal = Refusal::Invalid("the name of a wait set has at most 255 bytes, not 256".into());
    let refused = sleep(&mut bench, holder, &too_long);
    assert_eq!(
        bench.reply::<Sleep>(refused),
        Some(Ok(Err(refusal.clone())))
    );
    let counted = bench.call(
        1,
        CountSleepers {
            set: too_long.clone(),
        },
    );
    assert_eq!(
        bench.reply::<CountSleepers>(counted),
        Some(Ok(Err(refusal.clone())))
    );
    assert_eq!(
        notify_set(&mut bench, holder, &too_long, None),
        Err(refusal)
    );
    assert_eq!(notify_set(&mut bench, holder, &fits, None), Ok(0));
    let sleeper = sleep(&mut bench, holder, &fits);
    assert!(!bench.is_answered(sleeper));
}

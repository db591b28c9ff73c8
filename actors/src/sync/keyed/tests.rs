//! Tests of keyed locks and semaphores, one fact each.

use std::time::Duration;

use lockkeeper_protocol::{
    Abandoned, CallId, Fault, Fence, Proof, Refusal,
    operations::{
        AcquireKey, AcquireKeyMany, AdoptKey, ForceUnlockKey, GetKeyStatus, GetKeyedStatus,
        Granted, Key, KeyStatus, KeyedStatus, ListKeys, MarkConsistent, Release, ReleaseBy,
        SemaphoreSpec,
    },
};

use crate::{
    bench::Bench,
    kind::{
        primitive::Primitive,
        survey::{Part, Survey},
    },
    sync::keyed::{
        calls::Hold,
        entries::Entry,
        keyed::{Keyed, KeyedVariant},
        variants::{KeyedLock, KeyedSemaphore},
    },
};

fn locks() -> Bench<KeyedLock> {
    Bench::new(ReleaseBy::Holder).unwrap()
}

fn permits(permits: i64) -> Bench<KeyedSemaphore> {
    Bench::new(SemaphoreSpec {
        permits: permits.into(),
        release_by: ReleaseBy::Holder,
    })
    .unwrap()
}

fn acquire(bench: &mut Bench<KeyedLock>, session: u64, key: &str) -> CallId {
    bench.call(session, AcquireKey { key: key.into() })
}

fn acquire_many(
    bench: &mut Bench<KeyedSemaphore>,
    session: u64,
    key: &str,
    permits: u32,
) -> CallId {
    let key = key.into();
    bench.call(
        session,
        AcquireKeyMany {
            key,
            permits: permits.into(),
        },
    )
}

/// The fence and the mark of a granted call.
fn grant<F: KeyedVariant>(bench: &Bench<Keyed<F>>, id: CallId) -> Granted {
    let granted = bench.reply::<AcquireKey>(id).expect("granted");
    granted.expect("no fault").expect("no refusal")
}

fn release<F: KeyedVariant>(bench: &mut Bench<Keyed<F>>, grant: CallId) -> Result<(), Refusal> {
    let id = bench.call(
        grant.session().number(),
        Release {
            grant: Proof::own(grant),
        },
    );
    bench.reply::<Release>(id).unwrap().unwrap()
}

fn status<F: KeyedVariant>(bench: &mut Bench<Keyed<F>>, key: &str) -> KeyStatus {
    let id = bench.call(99, GetKeyStatus { key: key.into() });
    bench.reply::<GetKeyStatus>(id).unwrap().unwrap().unwrap()
}

fn all<F: KeyedVariant>(bench: &mut Bench<Keyed<F>>) -> KeyedStatus {
    let id = bench.call(99, GetKeyedStatus);
    bench.reply::<GetKeyedStatus>(id).unwrap().unwrap()
}

fn keys<F: KeyedVariant>(bench: &mut Bench<Keyed<F>>) -> Vec<String> {
    let (mut keys, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let id = bench.call(99, ListKeys { from: place });
        let page = bench.reply::<ListKeys>(id).unwrap().unwrap();
        keys.extend(page.keys.iter().map(Key::to_string));
        from = page.next;
    }
    keys.sort();
    keys
}

#[test]
fn each_key_is_granted_in_order_of_arrival_and_no_key_waits_for_another() {
    let mut bench = locks();
    let calls: Vec<CallId> = (1..=6)
        .map(|session| acquire(&mut bench, session, ["a", "b"][session as usize % 2]))
        .collect();
    for turn in 0..3 {
        for id in &calls[turn * 2..turn * 2 + 2] {
            assert!(bench.is_answered(*id));
        }
        assert!(
            calls[turn * 2 + 2..]
                .iter()
                .all(|id| !bench.is_answered(*id))
        );
        for id in &calls[turn * 2..turn * 2 + 2] {
            release(&mut bench, *id).unwrap();
        }
    }
}

#[test]
fn an_entry_is_there_only_while_somebody_holds_or_waits() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    let second = acquire(&mut bench, 2, "a");
    let other = acquire(&mut bench, 2, "");
    assert_eq!(keys(&mut bench), ["", "a"]);
    let (keys_held, waiting) = (all(&mut bench).keys, all(&mut bench).waiting);
    assert_eq!((keys_held, waiting), (2, 1));
    release(&mut bench, first).unwrap();
    release(&mut bench, other).unwrap();
    assert_eq!(keys(&mut bench), ["a"]);
    release(&mut bench, second).unwrap();
    assert_eq!(all(&mut bench), KeyedStatus::default());
    assert!(bench.primitive().unwrap().entries.at(0).is_none());
}

#[test]
fn fences_grow_over_all_keys() {
    let mut bench = locks();
    let mut last = Fence::new(0);
    for key in ["a", "b", "a", "c", "a"] {
        let id = acquire(&mut bench, 1, key);
        let fence = grant(&bench, id).fence;
        assert!(fence > last);
        last = fence;
        release(&mut bench, id).unwrap();
    }
}

#[test]
fn late_or_second_release_is_refused_and_frees_nobody_else() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    release(&mut bench, first).unwrap();
    let second = acquire(&mut bench, 2, "a");
    let third = acquire(&mut bench, 3, "a");
    assert_eq!(release(&mut bench, first), Err(Refusal::NotHeld));
    assert_eq!(release(&mut bench, third), Err(Refusal::NotHeld));
    assert!(bench.is_answered(second) && !bench.is_answered(third));
}

#[test]
fn a_try_never_overtakes_and_leaves_nothing() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    let key = || AcquireKey { key: "a".into() };
    let tried = bench.call_within(2, key(), Duration::ZERO);
    assert_eq!(bench.reply::<AcquireKey>(tried), Some(Err(Fault::TimedOut)));
    let late = bench.call_within(3, key(), Duration::from_secs(1));
    bench.advance(Duration::from_secs(2));
    assert_eq!(bench.reply::<AcquireKey>(late), Some(Err(Fault::TimedOut)));
    assert_eq!(status(&mut bench, "a").waiting, 0);
    release(&mut bench, first).unwrap();
    assert_eq!(all(&mut bench), KeyedStatus::default());
}

#[test]
fn withdrawn_waiter_is_skipped_and_a_withdrawn_grant_passed_on_unmarked() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    let second = acquire(&mut bench, 2, "a");
    let third = acquire(&mut bench, 3, "a");
    bench.withdraw(second);
    assert_eq!(
        bench.reply::<AcquireKey>(second),
        Some(Err(Fault::Withdrawn))
    );
    bench.withdraw(first);
    assert_eq!(grant(&bench, third).abandoned, None);
    bench.withdraw(third);
    bench.withdraw(third);
    assert_eq!(all(&mut bench), KeyedStatus::default());
}

#[test]
fn dead_holders_keys_are_passed_on_marked_and_their_marks_are_kept_by_the_key() {
    let mut bench = locks();
    let died = acquire(&mut bench, 1, "a");
    acquire(&mut bench, 1, "b");
    let next = acquire(&mut bench, 2, "a");
    let fence = grant(&bench, died).fence;
    bench.advance(Duration::from_secs(3));
    bench.hang_up(1);
    let mark = |bench: &Bench<KeyedLock>, id| {
        let Abandoned { held, fence, .. } = grant(bench, id).abandoned?;
        Some((held, fence))
    };
    assert_eq!(mark(&bench, next), Some((Duration::from_secs(3), fence)));
    // "b" has no holder, and each later holder gets the mark.
    assert_eq!(keys(&mut bench), ["a"]);
    assert!(status(&mut bench, "b").is_abandoned && all(&mut bench).abandoned == 1);
    for _ in 0..2 {
        let successor = acquire(&mut bench, 2, "b");
        assert!(mark(&bench, successor).is_some());
        assert_eq!(all(&mut bench).abandoned, 0);
        release(&mut bench, successor).unwrap();
    }
    let successor = acquire(&mut bench, 2, "b");
    let stranger = bench.call(
        3,
        MarkConsistent {
            grant: Proof::own(died),
        },
    );
    let refused = bench.reply::<MarkConsistent>(stranger);
    assert_eq!(refused, Some(Ok(Err(Refusal::NotHeld))));
    bench.call(
        2,
        MarkConsistent {
            grant: Proof::own(successor),
        },
    );
    release(&mut bench, successor).unwrap();
    assert_eq!(all(&mut bench).abandoned, 0);
    release(&mut bench, next).unwrap();
    // The mark of "a" is a different one.
    assert!(status(&mut bench, "a").is_abandoned && !status(&mut bench, "b").is_abandoned);
}

#[test]
fn dead_waiters_are_granted_nothing() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    let dead = acquire(&mut bench, 2, "a");
    acquire(&mut bench, 2, "b");
    let successor = acquire(&mut bench, 3, "b");
    bench.hang_up(2);
    release(&mut bench, first).unwrap();
    assert!(!bench.is_answered(dead) && bench.is_answered(successor));
    assert_eq!(keys(&mut bench), ["b"]);
}

#[test]
fn session_that_dies_holding_and_waiting_for_one_key_leaves_it_to_others() {
    let mut bench = locks();
    acquire(&mut bench, 1, "a");
    let again = acquire(&mut bench, 1, "a");
    let successor = acquire(&mut bench, 2, "a");
    bench.hang_up(1);
    assert!(!bench.is_answered(again) && bench.is_answered(successor));
}

#[test]
fn hold_moves_with_its_key_to_whoever_adopts_it() {
    let mut bench = permits(2);
    let first = acquire_many(&mut bench, 1, "a", 2);
    let waiter = acquire_many(&mut bench, 3, "a", 1);
    let ticket = AdoptKey {
        grant: bench.signed(first),
    };
    let successor = bench.call(2, ticket);
    let adopted = bench
        .reply::<AdoptKey>(successor)
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((adopted.key.as_str(), adopted.permits), ("a", 2));
    assert!(bench.is_revoked(first) && !bench.is_answered(waiter));
    assert_eq!(release(&mut bench, first), Err(Refusal::NotHeld));
    let late = bench.call(2, ticket);
    let refused = bench.reply::<AdoptKey>(late);
    assert_eq!(refused, Some(Ok(Err(Refusal::NotHeld))));
    bench.hang_up(1);
    assert!(!bench.is_answered(waiter), "the hold is no longer theirs");
    release(&mut bench, successor).unwrap();
    assert!(bench.is_answered(waiter));
}

#[test]
fn forced_key_goes_to_the_next_in_line_and_other_keys_stay() {
    let mut bench = locks();
    let first = acquire(&mut bench, 1, "a");
    let other = acquire(&mut bench, 1, "b");
    let next = acquire(&mut bench, 2, "a");
    let force = |bench: &mut Bench<KeyedLock>, key: &str| {
        let id = bench.call(9, ForceUnlockKey { key: key.into() });
        bench.reply::<ForceUnlockKey>(id).unwrap().unwrap()
    };
    assert_eq!(force(&mut bench, "c"), Ok(false));
    assert_eq!(force(&mut bench, "a"), Ok(true));
    assert!(bench.is_revoked(first) && !bench.is_revoked(other));
    assert_eq!(grant(&bench, next).abandoned, None);
    assert_eq!(release(&mut bench, first), Err(Refusal::NotHeld));
    assert_eq!(keys(&mut bench), ["a", "b"]);
    assert_eq!(force(&mut bench, "a"), Ok(true));
    assert_eq!(keys(&mut bench), ["b"]);
}

#[test]
fn keys_that_are_too_long_are_refused_with_what_is_allowed() {
    let mut bench = locks();
    let (fits, too_long) = ("x".repeat(255), "x".repeat(256));
    let refusal = || Refusal::Invalid("a key has at most 255 bytes, not 256".to_owned());
    let id = acquire(&mut bench, 1, &fits);
    assert!(grant(&bench, id).abandoned.is_none());
    let id = acquire(&mut bench, 1, &too_long);
    assert_eq!(bench.reply::<AcquireKey>(id), Some(Ok(Err(refusal()))));
    let key = || Key::from(too_long.as_str());
    let id = bench.call(1, GetKeyStatus { key: key() });
    assert_eq!(bench.reply::<GetKeyStatus>(id), Some(Ok(Err(refusal()))));
    let id = bench.call(1, ForceUnlockKey { key: key() });
    assert_eq!(bench.reply::<ForceUnlockKey>(id), Some(Ok(Err(refusal()))));
    assert_eq!(keys(&mut bench), [fits]);
}

#[test]
fn permits_of_a_key_are_granted_all_or_none_and_nobody_overtakes() {
    let mut bench = permits(3);
    let granted = |bench: &Bench<KeyedSemaphore>, id| bench.is_answered(id);
    let first = acquire_many(&mut bench, 1, "a", 2);
    let big = acquire_many(&mut bench, 2, "a", 2);
    let small = acquire_many(&mut bench, 3, "a", 1);
    let elsewhere = acquire_many(&mut bench, 3, "b", 3);
    assert!(granted(&bench, first) && granted(&bench, elsewhere));
    assert!(!granted(&bench, big) && !granted(&bench, small));
    let KeyStatus {
        available,
        held,
        waiting,
        ..
    } = status(&mut bench, "a");
    assert_eq!((available, held, waiting), (1, 2, 2));
    release(&mut bench, first).unwrap();
    assert!(granted(&bench, big) && granted(&bench, small));
    assert_eq!(all(&mut bench).grants, 3);
}

#[test]
fn withdrawing_the_head_lets_in_those_behind_it_that_fit() {
    let mut bench = permits(2);
    let first = acquire_many(&mut bench, 1, "a", 1);
    let big = acquire_many(&mut bench, 2, "a", 2);
    let small = acquire_many(&mut bench, 3, "a", 1);
    assert!(bench.is_answered(first) && !bench.is_answered(small));
    bench.withdraw(big);
    assert!(bench.is_answered(small));
}

#[test]
fn numbers_of_permits_that_can_never_be_granted_are_refused() {
    for spec in [0, -1, 1 << 32] {
        let refusal = Bench::<KeyedSemaphore>::new(SemaphoreSpec {
            permits: spec,
            release_by: ReleaseBy::Holder,
        });
        let told = refusal.unwrap_err().to_string();
        assert!(told.contains("a key has 1 to 4294967295 permits"), "{told}");
    }
    let mut bench = permits(2);
    let id = acquire_many(&mut bench, 1, "a", 3);
    let refusal = Refusal::TooMany { asked: 3, most: 2 };
    assert_eq!(bench.reply::<AcquireKeyMany>(id), Some(Ok(Err(refusal))));
    let id = acquire_many(&mut bench, 1, "a", 0);
    let refused = bench.reply::<AcquireKeyMany>(id).unwrap().unwrap();
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("1 to 2 permits of a key, not 0"), "{told}");
    assert_eq!(all(&mut bench), KeyedStatus::default());
}

#[test]
fn survey_lists_so_many_holders_and_waiters_in_all_and_counts_the_others() {
    let mut bench = permits(i64::from(u32::MAX));
    let many = Survey::MOST + 20;
    for number in 0..many {
        acquire_many(&mut bench, 1, ["a", "b"][number % 2], 1);
    }
    for number in 0..many {
        acquire_many(&mut bench, 2, ["a", "b"][number % 2], u32::MAX);
    }
    let survey = bench.primitive().unwrap().survey();
    let sum = |count: fn(&Part) -> usize| survey.parts.iter().map(count).sum::<usize>();
    assert_eq!(sum(|part| part.holders.len()), Survey::MOST);
    assert_eq!(sum(|part| part.waiters.len()), Survey::MOST);
    let rest = survey.parts.last().unwrap();
    assert_eq!((rest.more_holders, rest.more_waiters), (20, 20));
}

#[test]
fn survey_tells_holders_and_waiters_of_each_key_in_order() {
    let mut bench = permits(2);
    acquire_many(&mut bench, 9, "gone", 1);
    bench.hang_up(9);
    let first = acquire_many(&mut bench, 1, "b", 1);
    bench.advance(Duration::from_secs(1));
    let waiters = [2, 1].map(|permits| acquire_many(&mut bench, 2, "b", permits));
    let other = acquire_many(&mut bench, 3, "a", 2);
    let survey = bench.primitive().unwrap().survey();
    assert_eq!(survey.state, "2 keys held, 1 free but abandoned");
    let told = survey.parts.iter().map(|part| {
        let holders = part.holders.iter().map(|one| (one.call, one.units));
        let waiters = part.waiters.iter().map(|one| (one.call, one.units));
        let key = part.key.clone().unwrap();
        (
            key,
            holders.collect::<Vec<_>>(),
            waiters.collect::<Vec<_>>(),
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("a".to_owned(), vec![(other, 2)], vec![]),
            (
                "b".to_owned(),
                vec![(first, 1)],
                vec![(waiters[0], 2), (waiters[1], 1)]
            ),
        ]
    );
    let second = Duration::from_secs(1);
    let b = &survey.parts[1];
    assert_eq!((b.units, b.holders[0].since), (Some(2), Duration::ZERO));
    assert!(b.holders[0].fence.is_some());
    assert!(b.waiters.iter().all(|waiter| waiter.since == second));
}

#[test]
fn a_held_key_takes_few_bytes() {
    assert!(size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
    assert!(size_of::<Hold>() <= 40, "{}", size_of::<Hold>());
}

#[test]
fn marks_take_nothing_of_the_room_that_is_reserved_for_holds() {
    const KEYS: usize = 100;
    // Seven eighths are open to data, so most of the marks are forgotten.
    let mut bench = Bench::<KeyedLock>::within(ReleaseBy::Holder, 16 * 256).unwrap();
    for session in 0..KEYS {
        let session = session.try_into().unwrap();
        let id = acquire(&mut bench, session, &format!("key {session}"));
        assert!(grant(&bench, id).abandoned.is_none());
        bench.hang_up(session);
    }
    let marked = all(&mut bench).abandoned;
    assert!((1..16).contains(&marked), "{marked}");
    // The latest marks stay, and the reserved room is free.
    assert!(status(&mut bench, &format!("key {}", KEYS - 1)).is_abandoned);
    assert!(!status(&mut bench, "key 0").is_abandoned);
    for (session, key) in [(1000, "new"), (1001, "newer")] {
        let id = acquire(&mut bench, session, key);
        assert!(grant(&bench, id).abandoned.is_none());
    }
}

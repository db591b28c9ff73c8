//! Tests of the readers-writer lock, one fact each.

use std::time::Duration;

use lockkeeper_protocol::{
    Fault, Fence, SessionId,
    operations::Access::{Read, Upgradable, Write},
};

use crate::bench::Bench;

use super::*;

fn bench() -> Bench<RwLock> {
    Bench::new(ReleaseBy::Holder).unwrap()
}

fn acquire(bench: &mut Bench<RwLock>, session: u64, access: Access) -> CallId {
    bench.call(session, AcquireFor { access })
}

fn upgrade(bench: &mut Bench<RwLock>, grant: CallId) -> CallId {
    bench.call(
        grant.session().number(),
        Upgrade {
            grant: Proof::own(grant),
        },
    )
}

fn granted(bench: &Bench<RwLock>, id: CallId) -> Option<Granted> {
    let told = bench.reply::<AcquireFor>(id)?;
    told.ok()?.ok()
}

fn are_granted<const N: usize>(bench: &Bench<RwLock>, ids: [CallId; N]) -> [bool; N] {
    ids.map(|id| granted(bench, id).is_some())
}

fn release(bench: &mut Bench<RwLock>, grant: CallId) -> Result<(), Refusal> {
    let id = bench.call(
        grant.session().number(),
        Release {
            grant: Proof::own(grant),
        },
    );
    bench.reply::<Release>(id).unwrap().unwrap()
}

fn downgrade(bench: &mut Bench<RwLock>, grant: CallId, to: Access) -> Result<(), Refusal> {
    let id = bench.call(
        grant.session().number(),
        Downgrade {
            grant: Proof::own(grant),
            to,
        },
    );
    bench.reply::<Downgrade>(id).unwrap().unwrap()
}

/// The number of readers, whether there is an upgradable hold, whether there is a writer, and the number of
/// waiting calls.
fn status(bench: &mut Bench<RwLock>) -> (u64, bool, bool, u64) {
    let id = bench.call(99, GetRwLockStatus);
    let told = bench.reply::<GetRwLockStatus>(id).unwrap().unwrap();
    (
        told.readers,
        told.has_upgradable,
        told.has_writer,
        told.waiting,
    )
}

fn why(refused: Result<impl std::fmt::Debug, Refusal>) -> String {
    let Err(Refusal::Invalid(why)) = refused else {
        panic!("not refused as invalid: {refused:?}");
    };
    why
}

#[test]
fn readers_that_stand_together_enter_together() {
    let mut bench = bench();
    let writer = acquire(&mut bench, 1, Write);
    let readers = [2, 3, 4].map(|session| acquire(&mut bench, session, Read));
    let last = acquire(&mut bench, 5, Write);
    let behind = acquire(&mut bench, 6, Read);
    assert_eq!(are_granted(&bench, readers), [false; 3]);
    release(&mut bench, writer).unwrap();
    assert_eq!(are_granted(&bench, readers), [true; 3]);
    assert_eq!(are_granted(&bench, [last, behind]), [false; 2]);
    for reader in readers {
        assert!(granted(&bench, last).is_none());
        release(&mut bench, reader).unwrap();
    }
    assert_eq!(are_granted(&bench, [last, behind]), [true, false]);
}

#[test]
fn nobody_overtakes_a_writer_that_waits() {
    let mut bench = bench();
    let first = acquire(&mut bench, 1, Read);
    let writer = acquire(&mut bench, 2, Write);
    let late = acquire(&mut bench, 3, Read);
    let tried = [Read, Upgradable, Write]
        .map(|access| bench.call_within(4, AcquireFor { access }, Duration::ZERO));
    for tried in tried {
        let told = bench.reply::<AcquireFor>(tried);
        assert_eq!(told, Some(Err(Fault::TimedOut)));
    }
    assert_eq!(status(&mut bench), (1, false, false, 2));
    release(&mut bench, first).unwrap();
    assert_eq!(are_granted(&bench, [writer, late]), [true, false]);
    release(&mut bench, writer).unwrap();
    assert!(granted(&bench, late).is_some());
}

#[test]
fn one_that_may_upgrade_stands_beside_readers_and_no_other_like_it() {
    let mut bench = bench();
    let before = acquire(&mut bench, 1, Read);
    let first = acquire(&mut bench, 2, Upgradable);
    let beside = acquire(&mut bench, 3, Read);
    let second = acquire(&mut bench, 4, Upgradable);
    let behind = acquire(&mut bench, 5, Read);
    assert_eq!(are_granted(&bench, [before, first, beside]), [true; 3]);
    assert_eq!(are_granted(&bench, [second, behind]), [false; 2]);
    release(&mut bench, first).unwrap();
    assert_eq!(are_granted(&bench, [second, behind]), [true; 2]);
    assert_eq!(status(&mut bench), (3, true, false, 0));
}

#[test]
fn an_upgrade_waits_for_the_readers_and_goes_before_all_who_wait() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    let reads = acquire(&mut bench, 2, Upgradable);
    let writer = acquire(&mut bench, 3, Write);
    let writes = upgrade(&mut bench, reads);
    let late = acquire(&mut bench, 4, Read);
    assert_eq!(are_granted(&bench, [writes, writer, late]), [false; 3]);
    assert_eq!(status(&mut bench), (1, true, false, 3));
    release(&mut bench, reader).unwrap();
    assert_eq!(
        are_granted(&bench, [writes, writer, late]),
        [true, false, false]
    );
    assert!(granted(&bench, writes).unwrap().fence > granted(&bench, reads).unwrap().fence);
    assert_eq!(release(&mut bench, reads), Err(Refusal::NotHeld));
    assert_eq!(status(&mut bench), (0, false, true, 2));
    release(&mut bench, writes).unwrap();
    assert_eq!(are_granted(&bench, [writer, late]), [true, false]);
}

#[test]
fn an_upgrade_with_no_reader_beside_it_is_granted_before_a_writer_that_waits() {
    let mut bench = bench();
    let reads = acquire(&mut bench, 1, Upgradable);
    let writer = acquire(&mut bench, 2, Write);
    let tried = bench.call_within(
        1,
        Upgrade {
            grant: Proof::own(reads),
        },
        Duration::ZERO,
    );
    assert_eq!(are_granted(&bench, [tried, writer]), [true, false]);
}

#[test]
fn an_upgrade_that_waits_lets_no_reader_in_until_it_is_given_up() {
    for ends_by_time in [true, false] {
        let mut bench = bench();
        let reader = acquire(&mut bench, 1, Read);
        let grant = acquire(&mut bench, 2, Upgradable);
        let waits = bench.call_within(
            2,
            Upgrade {
                grant: Proof::own(grant),
            },
            Duration::from_secs(1),
        );
        let late = acquire(&mut bench, 3, Read);
        assert_eq!(are_granted(&bench, [waits, late]), [false; 2]);
        if ends_by_time {
            bench.advance(Duration::from_secs(1));
            assert_eq!(bench.reply::<Upgrade>(waits), Some(Err(Fault::TimedOut)));
        } else {
            bench.withdraw(waits);
            assert_eq!(bench.reply::<Upgrade>(waits), Some(Err(Fault::Withdrawn)));
        }
        // The hold is unchanged.
        assert!(granted(&bench, late).is_some());
        assert_eq!(status(&mut bench), (2, true, false, 0));
        release(&mut bench, reader).unwrap();
        release(&mut bench, late).unwrap();
        let again = upgrade(&mut bench, grant);
        assert!(granted(&bench, again).is_some());
    }
}

#[test]
fn an_upgrade_that_nobody_saw_is_undone_and_its_hold_is_what_it_was() {
    let mut bench = bench();
    let reads = acquire(&mut bench, 1, Upgradable);
    let writes = upgrade(&mut bench, reads);
    let late = acquire(&mut bench, 2, Read);
    assert_eq!(are_granted(&bench, [writes, late]), [true, false]);
    bench.withdraw(writes);
    assert!(granted(&bench, late).is_some());
    assert_eq!(status(&mut bench), (1, true, false, 0));
    release(&mut bench, reads).unwrap();
    assert_eq!(status(&mut bench), (1, false, false, 0));
}

#[test]
fn undoing_a_hold_undoes_its_upgrade_as_well() {
    let mut bench = bench();
    let reads = acquire(&mut bench, 1, Upgradable);
    upgrade(&mut bench, reads);
    bench.withdraw(reads);
    assert_eq!(status(&mut bench), (0, false, false, 0));
    let reads = acquire(&mut bench, 1, Upgradable);
    let reader = acquire(&mut bench, 2, Read);
    let waits = upgrade(&mut bench, reads);
    bench.withdraw(reads);
    let told = bench.reply::<Upgrade>(waits);
    assert_eq!(told, Some(Ok(Err(Refusal::NotHeld))));
    release(&mut bench, reader).unwrap();
    assert_eq!(status(&mut bench), (0, false, false, 0));
}

#[test]
fn upgrading_twice_at_once_is_refused_and_loses_nothing() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    let grant = acquire(&mut bench, 2, Upgradable);
    let first = upgrade(&mut bench, grant);
    let second = upgrade(&mut bench, grant);
    let told = bench.reply::<Upgrade>(second).unwrap().unwrap();
    assert!(why(told).contains("one upgrade of it at a time"));
    assert!(why(downgrade(&mut bench, grant, Read)).contains("is being upgraded"));
    release(&mut bench, reader).unwrap();
    assert!(granted(&bench, first).is_some());
    let late = upgrade(&mut bench, grant);
    let told = bench.reply::<Upgrade>(late);
    assert_eq!(told, Some(Ok(Err(Refusal::NotHeld))));
    assert_eq!(status(&mut bench), (0, false, true, 0));
}

#[test]
fn only_its_own_session_upgrades_an_upgradable_hold() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    let told = upgrade(&mut bench, reader);
    let told = bench.reply::<Upgrade>(told).unwrap().unwrap();
    assert!(why(told).contains("acquired as upgradable"));
    release(&mut bench, reader).unwrap();
    let writer = acquire(&mut bench, 1, Write);
    let told = upgrade(&mut bench, writer);
    let told = bench.reply::<Upgrade>(told).unwrap().unwrap();
    assert!(why(told).contains("for writing already"));
    release(&mut bench, writer).unwrap();
    let grant = acquire(&mut bench, 1, Upgradable);
    let told = bench.call(
        2,
        Upgrade {
            grant: Proof::own(grant),
        },
    );
    let told = bench.reply::<Upgrade>(told).unwrap().unwrap();
    assert_eq!(told, Err(Refusal::NotHeld));
    assert_eq!(status(&mut bench), (0, true, false, 0));
}

#[test]
fn an_upgrade_of_what_is_released_meanwhile_is_refused() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    let grant = acquire(&mut bench, 2, Upgradable);
    let waits = upgrade(&mut bench, grant);
    let writer = acquire(&mut bench, 3, Write);
    release(&mut bench, grant).unwrap();
    let told = bench.reply::<Upgrade>(waits);
    assert_eq!(told, Some(Ok(Err(Refusal::NotHeld))));
    release(&mut bench, reader).unwrap();
    assert!(granted(&bench, writer).is_some());
}

#[test]
fn a_downgraded_writer_lets_the_readers_at_the_head_in_and_no_writer_between() {
    for to in [Read, Upgradable] {
        let mut bench = bench();
        let writer = acquire(&mut bench, 1, Write);
        let readers = [2, 3].map(|session| acquire(&mut bench, session, Read));
        let next = acquire(&mut bench, 4, Write);
        let behind = acquire(&mut bench, 5, Read);
        downgrade(&mut bench, writer, to).unwrap();
        assert_eq!(are_granted(&bench, readers), [true; 2]);
        assert_eq!(are_granted(&bench, [next, behind]), [false; 2]);
        let upgradable = to == Upgradable;
        let reading = if upgradable { 2 } else { 3 };
        assert_eq!(status(&mut bench), (reading, upgradable, false, 2));
        for reader in readers {
            release(&mut bench, reader).unwrap();
        }
        assert!(granted(&bench, next).is_none());
        release(&mut bench, writer).unwrap();
        assert_eq!(are_granted(&bench, [next, behind]), [true, false]);
    }
}

#[test]
fn an_upgradable_hold_that_is_downgraded_makes_way_for_the_next() {
    let mut bench = bench();
    let first = acquire(&mut bench, 1, Upgradable);
    let second = acquire(&mut bench, 2, Upgradable);
    assert!(granted(&bench, second).is_none());
    downgrade(&mut bench, first, Read).unwrap();
    assert!(granted(&bench, second).is_some());
    assert_eq!(status(&mut bench), (1, true, false, 0));
}

#[test]
fn a_downgraded_upgrade_may_be_upgraded_again() {
    let mut bench = bench();
    let reads = acquire(&mut bench, 1, Upgradable);
    let writes = upgrade(&mut bench, reads);
    downgrade(&mut bench, writes, Upgradable).unwrap();
    assert_eq!(status(&mut bench), (0, true, false, 0));
    let again = upgrade(&mut bench, writes);
    assert!(granted(&bench, again).is_some());
    bench.withdraw(again);
    release(&mut bench, writes).unwrap();
    assert_eq!(status(&mut bench), (0, false, false, 0));
}

#[test]
fn nothing_but_a_lesser_hold_is_what_a_hold_is_downgraded_to() {
    let mut bench = bench();
    assert_eq!(
        downgrade(&mut bench, CallId::new(SessionId::new(1), 7), Read),
        Err(Refusal::NotHeld)
    );
    for (from, allowed) in [(Read, 0), (Upgradable, 1), (Write, 2)] {
        for to in [Read, Upgradable, Write].into_iter().skip(allowed) {
            let grant = acquire(&mut bench, 1, from);
            let why = why(downgrade(&mut bench, grant, to));
            assert!(why.contains("from write to upgradable or read"), "{why}");
            assert!(why.ends_with(&format!("from {} to {}", name(from), name(to))));
            release(&mut bench, grant).unwrap();
        }
    }
    assert_eq!(status(&mut bench), (0, false, false, 0));
}

#[test]
fn a_late_or_second_release_is_refused_and_frees_nobody_else() {
    let mut bench = bench();
    for access in [Read, Upgradable, Write] {
        let first = acquire(&mut bench, 1, access);
        release(&mut bench, first).unwrap();
        let second = acquire(&mut bench, 2, access);
        assert_eq!(release(&mut bench, first), Err(Refusal::NotHeld));
        assert_ne!(status(&mut bench), (0, false, false, 0));
        release(&mut bench, second).unwrap();
    }
}

#[test]
fn fences_only_grow() {
    let mut bench = bench();
    let mut last = Fence::new(0);
    for access in [Read, Upgradable, Read, Write, Read] {
        let id = acquire(&mut bench, 1, access);
        let fence = granted(&bench, id).unwrap().fence;
        assert!(fence > last);
        last = fence;
        release(&mut bench, id).unwrap();
    }
}

#[test]
fn a_dead_writer_leaves_a_mark_and_a_dead_reader_leaves_none() {
    let mut bench = bench();
    acquire(&mut bench, 1, Read);
    acquire(&mut bench, 1, Upgradable);
    bench.hang_up(1);
    let reads = acquire(&mut bench, 2, Upgradable);
    assert_eq!(granted(&bench, reads).unwrap().abandoned, None);
    bench.advance(Duration::from_secs(5));
    let writes = upgrade(&mut bench, reads);
    let fence = granted(&bench, writes).unwrap().fence;
    let next = [Read, Read].map(|access| acquire(&mut bench, 3, access));
    bench.advance(Duration::from_secs(3));
    bench.hang_up(2);
    for next in next {
        let abandoned = granted(&bench, next).unwrap().abandoned.unwrap();
        let held = Duration::from_secs(3);
        assert_eq!((abandoned.held, abandoned.fence), (held, fence));
    }
}

#[test]
fn a_writer_that_died_after_its_downgrade_or_before_its_upgrade_leaves_no_mark() {
    let mut bench = bench();
    for to in [Read, Upgradable] {
        let writer = acquire(&mut bench, 1, Write);
        downgrade(&mut bench, writer, to).unwrap();
        bench.hang_up(1);
    }
    acquire(&mut bench, 2, Read);
    let reads = acquire(&mut bench, 3, Upgradable);
    upgrade(&mut bench, reads);
    bench.hang_up(3);
    bench.hang_up(2);
    let next = acquire(&mut bench, 4, Write);
    assert_eq!(granted(&bench, next).unwrap().abandoned, None);
}

#[test]
fn the_mark_stays_until_a_holder_declares_the_data_consistent() {
    let mut bench = bench();
    acquire(&mut bench, 1, Write);
    bench.hang_up(1);
    assert_eq!(bench.primitive().unwrap().survey().state, "free, abandoned");
    let grant = acquire(&mut bench, 2, Read);
    assert!(granted(&bench, grant).unwrap().abandoned.is_some());
    let marked = bench.call(
        2,
        MarkConsistent {
            grant: Proof::own(grant),
        },
    );
    assert_eq!(bench.reply::<MarkConsistent>(marked), Some(Ok(Ok(()))));
    let next = acquire(&mut bench, 3, Read);
    assert_eq!(granted(&bench, next).unwrap().abandoned, None);
    release(&mut bench, grant).unwrap();
    let late = bench.call(
        2,
        MarkConsistent {
            grant: Proof::own(grant),
        },
    );
    let told = bench.reply::<MarkConsistent>(late);
    assert_eq!(told, Some(Ok(Err(Refusal::NotHeld))));
}

#[test]
fn all_that_an_ended_session_holds_comes_back_in_one_turn() {
    let mut bench = bench();
    acquire(&mut bench, 1, Read);
    acquire(&mut bench, 1, Upgradable);
    acquire(&mut bench, 1, Read);
    acquire(&mut bench, 1, Write);
    let next = acquire(&mut bench, 2, Write);
    bench.hang_up(1);
    assert!(granted(&bench, next).is_some());
    assert_eq!(status(&mut bench), (0, false, true, 0));
}

#[test]
fn a_withdrawn_writer_lets_those_behind_it_in() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    let writer = acquire(&mut bench, 2, Write);
    let behind = acquire(&mut bench, 3, Read);
    bench.withdraw(writer);
    assert!(granted(&bench, behind).is_some());
    // A grant that its caller has not seen is undone too.
    let writer = acquire(&mut bench, 2, Write);
    bench.withdraw(reader);
    bench.withdraw(behind);
    assert!(granted(&bench, writer).is_some());
}

#[test]
fn force_unlock_revokes_all_who_are_inside_and_lets_the_next_in() {
    let mut bench = bench();
    let forced = bench.call(9, ForceUnlock);
    assert_eq!(bench.reply::<ForceUnlock>(forced), Some(Ok(false)));
    let reader = acquire(&mut bench, 1, Read);
    let reads = acquire(&mut bench, 2, Upgradable);
    let waits = upgrade(&mut bench, reads);
    let next = acquire(&mut bench, 3, Write);
    let forced = bench.call(9, ForceUnlock);
    assert_eq!(bench.reply::<ForceUnlock>(forced), Some(Ok(true)));
    assert!(bench.is_revoked(reader) && bench.is_revoked(reads));
    let told = bench.reply::<Upgrade>(waits);
    assert_eq!(told, Some(Ok(Err(Refusal::NotHeld))));
    let granted = granted(&bench, next).unwrap();
    assert_eq!(granted.abandoned, None);
    assert!(!bench.is_revoked(next));
    assert_eq!(release(&mut bench, reader), Err(Refusal::NotHeld));
    assert_eq!(status(&mut bench), (0, false, true, 0));
}

#[test]
fn a_survey_shows_holders_and_waiters_in_the_order_of_their_grants() {
    let mut bench = bench();
    let reader = acquire(&mut bench, 1, Read);
    bench.advance(Duration::from_secs(1));
    let reads = acquire(&mut bench, 2, Upgradable);
    let writer = acquire(&mut bench, 3, Write);
    let behind = acquire(&mut bench, 4, Read);
    bench.advance(Duration::from_secs(1));
    let upgrade = upgrade(&mut bench, reads);
    let survey = bench.primitive().unwrap().survey();
    assert_eq!(survey.state, "1 read, and one that may upgrade");
    let [part] = &survey.parts[..] else {
        panic!("one part: {survey:?}");
    };
    let holders: Vec<_> = part
        .holders
        .iter()
        .map(|holder| (holder.call, holder.mode, holder.since.as_secs()))
        .collect();
    assert_eq!(holders, [(reads, "upgradable", 1), (reader, "read", 0)]);
    let waiters: Vec<_> = part
        .waiters
        .iter()
        .map(|waiter| (waiter.call, waiter.mode, waiter.since.as_secs()))
        .collect();
    assert_eq!(
        waiters,
        [
            (upgrade, "write", 2),
            (writer, "write", 1),
            (behind, "read", 1)
        ]
    );
    assert_eq!(part.units, Some(u64::MAX));
    // With the units of its hold, the upgrade takes all units.
    let units = part.holders[0].units + part.waiters[0].units;
    assert_eq!(Some(units), part.units);
}

#[test]
fn what_may_not_stand_together_does_not_fit_into_all_units() {
    let modes = [Read, Upgradable, Write];
    for (one, other) in modes
        .iter()
        .flat_map(|one| modes.map(|other| (*one, other)))
    {
        let mut bench = bench();
        acquire(&mut bench, 1, one);
        let second = acquire(&mut bench, 2, other);
        let fits = units(one).checked_add(units(other)).is_some();
        assert_eq!(
            granted(&bench, second).is_some(),
            fits,
            "{one:?}, {other:?}"
        );
    }
}

#[test]
fn a_removed_lock_answers_all_its_callers() {
    let mut bench = bench();
    acquire(&mut bench, 1, Read);
    let reads = acquire(&mut bench, 2, Upgradable);
    let waiting = [upgrade(&mut bench, reads), acquire(&mut bench, 3, Write)];
    bench.remove();
    for waiting in waiting {
        let told = bench.reply::<AcquireFor>(waiting);
        assert_eq!(told, Some(Err(Fault::Gone)));
    }
}

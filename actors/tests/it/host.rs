//! Tests the host: kinds whose code panics, and the actor through its mailbox.
//!
//! The first half runs on the bench. The second half runs real actors with real, short deadlines.
//! An awaited message was handled, so no test sleeps to let something happen.

mod endings;
mod fragile;
mod marks;
mod removal;
mod scale;
mod shard;
mod slices;

use std::time::Duration;

use lockkeeper_actors::{
    Bench, BreakReason, CallId, Fault, Input, Inquiry, ObjectReport, Operation, Proof, Refusal,
    sync::{Acquire, Arrive, Barrier, GetLockStatus, Lock, LockStatus, Release, ReleaseBy},
};

use crate::host::{
    fragile::{Bad, Breaks, Fragile, PanicsInDecode, Park, Strike},
    shard::{Answer, Shard},
};

/// Makes a fragile object with two waiting callers, in sessions 1 and 2.
fn fragile(breaks: Breaks) -> (Bench<Fragile>, [CallId; 2]) {
    let mut bench = Bench::new(breaks).expect("every spec is valid");
    let parked = [1, 2].map(|session| bench.call(session, Park));
    assert!(parked.iter().all(|id| !bench.is_answered(*id)));
    (bench, parked)
}

/// Asserts that a call has exactly one answer, which is the given fault.
fn assert_answer<O: Operation>(bench: &Bench<Fragile>, id: CallId, fault: Fault) {
    assert_eq!(bench.times_answered(id), 1, "answers to {id:?}");
    let observed = bench.reply::<O>(id).expect("the call is answered");
    assert_eq!(observed.err(), Some(fault), "{id:?}");
}

/// Asserts that all waiters and all later callers get exactly one answer: the object is gone.
fn assert_gone(mut bench: Bench<Fragile>, parked: &[CallId]) {
    for id in parked {
        assert_answer::<Park>(&bench, *id, Fault::Gone);
        bench.withdraw(*id);
    }
    assert!(bench.is_gone());
    assert!(bench.primitive().is_none());
    let newcomer = bench.call(7, Park);
    let acquaintance = bench.call_within(2, Strike, Duration::ZERO);
    assert_answer::<Park>(&bench, newcomer, Fault::Gone);
    assert_answer::<Strike>(&bench, acquaintance, Fault::Gone);
    bench.advance(Duration::from_secs(9));
    bench.hang_up(7);
    bench.remove();
    for id in parked {
        assert_eq!(bench.times_answered(*id), 1, "answers to {id:?}");
    }
}

#[test]
fn a_kind_that_panics_in_serve_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InServe);
    let strike = bench.call(3, Strike);
    assert_answer::<Strike>(&bench, strike, Fault::Gone);
    assert_gone(bench, &parked);
}

#[test]
fn a_kind_that_panics_in_withdraw_answers_all_its_callers() {
    let (mut bench, [withdrawn, other]) = fragile(Breaks::InWithdraw);
    bench.withdraw(withdrawn);
    assert_answer::<Park>(&bench, withdrawn, Fault::Withdrawn);
    assert_gone(bench, &[other]);
}

#[test]
fn a_kind_that_panics_over_a_deadline_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InWithdraw);
    let late = bench.call_within(3, Park, Duration::from_secs(1));
    bench.advance(Duration::from_secs(1));
    assert_answer::<Park>(&bench, late, Fault::TimedOut);
    assert_gone(bench, &parked);
}

#[test]
fn a_kind_that_panics_over_a_call_that_must_not_wait_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InWithdraw);
    let tried = bench.call_within(3, Park, Duration::ZERO);
    assert_answer::<Park>(&bench, tried, Fault::TimedOut);
    assert_gone(bench, &parked);
}

#[test]
fn a_kind_that_panics_in_hang_up_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InHangUp);
    let dead = bench.call(3, Park);
    bench.hang_up(3);
    assert!(!bench.is_answered(dead));
    assert_gone(bench, &parked);
}

#[test]
fn a_kind_that_panics_when_dropped_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InDrop);
    bench.remove();
    assert_gone(bench, &parked);
}

#[test]
fn a_kind_that_panics_in_serve_and_when_dropped_answers_all_its_callers() {
    let (mut bench, parked) = fragile(Breaks::InServeAndDrop);
    let strike = bench.call(3, Strike);
    assert_answer::<Strike>(&bench, strike, Fault::Gone);
    assert_gone(bench, &parked);
}

#[test]
fn a_reply_that_fails_or_panics_when_it_is_encoded_is_a_fault_of_that_call_alone() {
    for (breaks, words) in [
        (Breaks::Never, "on purpose"),
        (Breaks::InReply, "its code panicked: on purpose, in a reply"),
    ] {
        let (mut bench, parked) = fragile(breaks);
        let bad = bench.call(3, Bad);
        let observed = bench.reply::<Bad>(bad).expect("the call is answered");
        assert!(matches!(observed, Err(Fault::Unencodable(why)) if why.contains(words)));
        assert_still_answers(bench, parked);
    }
}

#[test]
fn arguments_that_panic_when_they_are_decoded_are_a_fault_of_that_call_alone() {
    let (mut bench, parked) = fragile(Breaks::Never);
    let poison = bench.call(3, PanicsInDecode);
    let why = "its code panicked: on purpose, in the arguments".to_owned();
    assert_answer::<PanicsInDecode>(&bench, poison, Fault::BadArguments(why));
    assert_still_answers(bench, parked);
}

/// Checks that an object still answers its waiting callers.
fn assert_still_answers(mut bench: Bench<Fragile>, parked: impl IntoIterator<Item = CallId>) {
    bench.call(3, Strike);
    for id in parked {
        assert_eq!(
            bench.reply::<Park>(id),
            Some(Ok(7)),
            "the object still answers"
        );
    }
}

#[actix::test]
async fn a_panic_leaves_the_second_object_of_its_shard_untouched() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let broken = shard.host::<Fragile>(Breaks::InServe);
    let one = shard.join(1);
    let two = shard.join(2);
    lock.open(1, 10).await;
    broken.open(1, 11).await;
    let holder = lock.call(1, 1, Acquire).await;
    let waiter = lock.call(2, 1, Acquire).await;
    broken.call(1, 2, Park).await;
    broken.call(1, 3, Strike).await;
    assert_eq!(one.answers(2), [Answer::Fault(Fault::Gone)]);
    assert_eq!(one.answers(3), [Answer::Fault(Fault::Gone)]);
    assert_eq!(one.gone(), [11]);
    assert_eq!((one.answers(1).len(), two.answers(1).len()), (1, 0));
    lock.call(
        1,
        4,
        Release {
            grant: Proof::own(holder),
        },
    )
    .await;
    assert!(two.reply::<Acquire>(waiter).is_ok());
}

/// Returns the report of an object.
async fn report(lock: &shard::Hosted<Lock>) -> ObjectReport {
    let (tell, observed) = std::sync::mpsc::channel();
    let inquiry = Inquiry::new(move |report| tell.send(report).expect("the receiver exists"));
    lock.send([Input::Survey(inquiry)]).await;
    observed.try_recv().expect("an awaited message was handled")
}

#[actix::test]
async fn two_objects_of_a_shard_are_measured_separately() {
    let shard = Shard::new();
    let [one, two] = [
        shard.host::<Lock>(ReleaseBy::Holder),
        shard.host::<Lock>(ReleaseBy::Holder),
    ];
    let sink = shard.join(1);
    let first = one.call(1, 1, Acquire).await;
    two.call(1, 2, Acquire).await;
    let next = one.call(1, 3, Acquire).await;
    for seq in [4, 5] {
        two.call(1, seq, Acquire).await;
    }
    one.call(
        1,
        6,
        Release {
            grant: Proof::own(first),
        },
    )
    .await;
    assert!(sink.reply::<Acquire>(next).is_ok());
    two.send([Input::Withdraw(shard::id(1, 4))]).await;
    one.call(
        1,
        7,
        Release {
            grant: Proof::own(next),
        },
    )
    .await;
    let [one, two] = [report(&one).await, report(&two).await];
    let [one, two] = [one, two].map(|report| report.stats.expect("a call had to wait"));
    assert_eq!((one.waits, one.grants, one.cancellations), (1, 1, 0));
    assert_eq!((one.waited.count, one.held.count), (1, 2));
    assert_eq!((two.waits, two.grants, two.cancellations), (2, 0, 1));
    assert_eq!((two.waited.count, two.held.count), (0, 0));
}

#[actix::test]
async fn malformed_call_is_answered_with_a_fault_and_the_object_still_answers() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    // Release has number 1. An array of three elements is not a release, and neither are empty
    // arguments.
    lock.raw(1, 1, 1, vec![0x93, 1, 2, 3]).await;
    lock.raw(1, 2, 1, Vec::new()).await;
    // Acquire has number 0, and takes only nil.
    lock.raw(1, 3, 0, vec![0xc0, 0xc0]).await;
    for seq in 1..=3 {
        let [Answer::Fault(Fault::BadArguments(_))] = one.answers(seq).as_slice() else {
            panic!("call {seq} has the answers {:?}", one.answers(seq));
        };
    }
    for (seq, number) in [(4, 7), (5, u32::MAX)] {
        lock.raw(1, seq, number, vec![0xc0]).await;
        let fault = Fault::UnknownOperation(format!("number {number}"));
        assert_eq!(one.answers(seq), [Answer::Fault(fault)]);
    }
    let holder = lock.call(1, 6, Acquire).await;
    assert!(one.reply::<Acquire>(holder).is_ok());
}

#[actix::test]
async fn inputs_of_one_message_are_handled_in_order() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let [holder, next, last] = [1, 2, 3].map(|seq| shard::id(1, seq));
    lock.send([
        shard::call::<Lock, _>(holder, &Acquire, None),
        shard::call::<Lock, _>(next, &Acquire, None),
        shard::call::<Lock, _>(last, &Acquire, None),
        Input::Withdraw(next),
        shard::call::<Lock, _>(
            shard::id(1, 4),
            &Release {
                grant: Proof::own(holder),
            },
            None,
        ),
        shard::call::<Lock, _>(shard::id(1, 5), &GetLockStatus, None),
    ])
    .await;
    assert_eq!(one.order(), [1, 2, 4, 3, 5]);
    assert_eq!(one.answers(2), [Answer::Fault(Fault::Withdrawn)]);
    let mut status = LockStatus::default();
    (status.is_held, status.depth) = (true, 1);
    assert_eq!(one.reply::<GetLockStatus>(shard::id(1, 5)), Ok(status));
}

/// Makes calls of session 1, each from its number and its deadline in milliseconds.
fn acquire_within(calls: &[(u64, u64)]) -> impl Iterator<Item = Input> {
    calls.iter().map(|(seq, millis)| {
        let deadline = Some(Duration::from_millis(*millis));
        shard::call::<Lock, _>(shard::id(1, *seq), &Acquire, deadline)
    })
}

#[actix::test]
async fn a_call_that_waits_too_long_times_out_and_the_earliest_first() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    lock.call(1, 1, Acquire).await;
    // In one message, so that a slow machine does not change the order of the deadlines.
    lock.send(acquire_within(&[(2, 110), (3, 10), (4, 60), (5, 0)]))
        .await;
    assert_eq!(one.answers(5), [Answer::Fault(Fault::TimedOut)]);
    one.until_answered(2).await;
    assert_eq!(one.order(), [1, 5, 3, 4, 2]);
    for seq in 2..=5 {
        assert_eq!(one.answers(seq), [Answer::Fault(Fault::TimedOut)]);
    }
}

#[actix::test]
async fn an_earlier_deadline_that_is_added_later_is_not_missed() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    lock.call(1, 1, Acquire).await;
    lock.send(acquire_within(&[(2, 3_600_000)])).await;
    // The yield lets the task of the table run, which now sleeps until the first deadline.
    tokio::task::yield_now().await;
    lock.send(acquire_within(&[(3, 1)])).await;
    one.until_answered(3).await;
    assert!(one.answers(2).is_empty());
}

#[actix::test]
async fn a_call_that_was_answered_in_time_never_times_out() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock.call(1, 1, Acquire).await;
    let [granted, withdrawn] = [2, 3].map(|seq| shard::id(1, seq));
    let release = Release {
        grant: Proof::own(holder),
    };
    // In one message, so that the deadlines do not pass too early on a slow machine.
    let inputs = acquire_within(&[(2, 100), (3, 100)]).chain([
        Input::Withdraw(withdrawn),
        shard::call::<Lock, _>(shard::id(1, 4), &release, None),
    ]);
    lock.send(inputs).await;
    // The deadline of a later call shows that the others have passed.
    lock.send(acquire_within(&[(5, 200)])).await;
    one.until_answered(5).await;
    assert_eq!(one.answers(2).len(), 1);
    assert_eq!(one.answers(3), [Answer::Fault(Fault::Withdrawn)]);
    lock.call(
        1,
        6,
        Release {
            grant: Proof::own(granted),
        },
    )
    .await;
    assert_eq!(one.reply::<Release>(shard::id(1, 6)), Ok(Ok(())));
}

#[actix::test]
async fn a_deadline_that_passed_before_a_withdrawal_counts_although_the_table_had_no_turn() {
    let shard = Shard::new();
    let barrier = shard.host::<Barrier>(3.into());
    let one = shard.join(1);
    let arrive = Arrive { acts: false };
    let patient = barrier.call(1, 1, arrive).await;
    let timeout = Duration::from_millis(5);
    let hasty = barrier.call_within(1, 2, arrive, timeout).await;
    // The whole thread blocks, as that of a busy manager.
    std::thread::sleep(timeout * 2);
    barrier.send([Input::Withdraw(hasty)]).await;
    let broken = Refusal::Broken(BreakReason::TimedOut);
    assert_eq!(one.reply::<Arrive>(patient), Ok(Err(broken)));
    assert_eq!(one.answers(2), [Answer::Fault(Fault::TimedOut)]);
}

#[actix::test]
async fn a_kind_that_panics_in_a_call_with_a_deadline_leaves_no_deadline() {
    let shard = Shard::new();
    let fragile = shard.host::<Fragile>(Breaks::InServe);
    let one = shard.join(1);
    let hour = Duration::from_secs(3600);
    fragile.call_within(1, 1, Park, hour).await;
    assert_eq!(shard.deadlines(), 1);
    fragile.call_within(1, 2, Strike, hour).await;
    assert_eq!(one.answers(2), [Answer::Fault(Fault::Gone)]);
    assert_eq!(shard.deadlines(), 0);
}

#[actix::test]
async fn a_deadline_of_a_call_that_was_answered_is_not_that_of_a_later_one() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock.call(1, 1, Acquire).await;
    // The withdrawal frees its slot in the table for the next call, but its time stays in the
    // timer.
    lock.send(acquire_within(&[(2, 20)])).await;
    lock.send([Input::Withdraw(shard::id(1, 2))]).await;
    lock.send(acquire_within(&[(3, 3_600_000), (4, 60)])).await;
    one.until_answered(4).await;
    assert!(
        one.answers(3).is_empty(),
        "its deadline of an hour has not passed"
    );
    lock.call(
        1,
        5,
        Release {
            grant: Proof::own(holder),
        },
    )
    .await;
    assert!(one.reply::<Acquire>(shard::id(1, 3)).is_ok());
}

#[actix::test]
async fn a_host_that_is_gone_is_freed_although_its_calls_had_deadlines() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock.call(1, 1, Acquire).await;
    lock.send(acquire_within(&[(2, 3_600_000)])).await;
    lock.call(
        1,
        3,
        Release {
            grant: Proof::own(holder),
        },
    )
    .await;
    assert!(one.reply::<Acquire>(shard::id(1, 2)).is_ok());
    assert_eq!((shard.deadlines(), shard.hosts_with_deadlines()), (0, 1));
    drop(lock);
    while shard.hosts_with_deadlines() > 0 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn an_expiry_after_the_answer_has_no_effect() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock
        .call_within(1, 1, Acquire, Duration::from_secs(60))
        .await;
    let next = lock
        .call_within(1, 2, Acquire, Duration::from_secs(60))
        .await;
    lock.send([Input::Expire(holder)]).await;
    assert!(one.answers(2).is_empty(), "the holder lost its lock");
    lock.call(
        1,
        3,
        Release {
            grant: Proof::own(holder),
        },
    )
    .await;
    lock.send([Input::Expire(next)]).await;
    lock.call(
        1,
        4,
        Release {
            grant: Proof::own(next),
        },
    )
    .await;
    assert_eq!(one.reply::<Release>(shard::id(1, 4)), Ok(Ok(())));
    assert_eq!(one.order(), [1, 3, 2, 4]);
}

#[actix::test]
async fn a_deadline_too_far_to_be_counted_never_comes() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock.call(1, 1, Acquire).await;
    let patient = lock.call_within(1, 2, Acquire, Duration::MAX).await;
    lock.call(
        1,
        3,
        Release {
            grant: Proof::own(holder),
        },
    )
    .await;
    assert!(one.reply::<Acquire>(patient).is_ok());
}

#[actix::test]
async fn a_removed_object_informs_its_sessions_and_fails_later_calls() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let sinks = [1, 2, 3].map(|session| shard.join(session));
    lock.open(1, 10).await;
    lock.open(2, 20).await;
    lock.call(1, 1, Acquire).await;
    lock.call_within(2, 1, Acquire, Duration::from_secs(60))
        .await;
    lock.send([Input::Remove]).await;
    lock.send([Input::Remove]).await;
    lock.open(3, 30).await;
    lock.call(3, 1, Acquire).await;
    let [one, two, three] = sinks;
    assert_eq!(
        (one.gone(), two.gone(), three.gone()),
        (vec![10], vec![20], vec![30])
    );
    assert_eq!(one.order(), [1]);
    assert_eq!(two.answers(1), [Answer::Fault(Fault::Gone)]);
    assert_eq!(three.answers(1), [Answer::Fault(Fault::Gone)]);
}

#[actix::test]
async fn a_session_that_hung_up_gets_no_answer_and_its_holds_end() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let (one, two) = (shard.join(1), shard.join(2));
    lock.open(1, 10).await;
    lock.call(1, 1, Acquire).await;
    lock.call(1, 2, Acquire).await;
    let next = lock.call(2, 1, Acquire).await;
    shard.leave(1);
    lock.hang_up(1).await;
    let grant = two.reply::<Acquire>(next).expect("the call is granted");
    assert_eq!(
        grant
            .expect("the release is not refused")
            .abandoned
            .map(|left| left.holder),
        Some(shard::peer(1).into())
    );
    lock.send([Input::Remove]).await;
    assert_eq!((one.order(), one.gone()), (vec![1], vec![]));
}

#[actix::test]
async fn a_session_that_hung_up_no_longer_has_the_object_open() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let (one, two) = (shard.join(1), shard.join(2));
    lock.open(1, 10).await;
    lock.open(2, 20).await;
    // The session's sink still exists, so only the host can be the reason for the missing answer.
    lock.hang_up(1).await;
    lock.send([Input::Remove]).await;
    assert_eq!((one.gone(), two.gone()), (vec![], vec![20]));
}

#[actix::test]
async fn a_one_way_call_has_an_effect_and_no_answer() {
    let shard = Shard::new();
    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    let one = shard.join(1);
    let holder = lock.call(1, 1, Acquire).await;
    let next = lock.call(1, 2, Acquire).await;
    let silent = CallId::one_way(holder.session(), 3);
    let release = shard::call::<Lock, _>(
        silent,
        &Release {
            grant: Proof::own(holder),
        },
        None,
    );
    lock.send([release]).await;
    assert!(one.reply::<Acquire>(next).is_ok());
    assert_eq!(one.order(), [1, 2]);
}

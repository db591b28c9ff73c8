//! Tests of the barrier, one fact each.

use std::time::Instant;

use lockkeeper_protocol::{Fault, Peer};

use crate::bench::Bench;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bench(parties: u32) -> Bench<Barrier> {
    Bench::new(parties.into()).unwrap()
}

fn retracting(parties: u32) -> Bench<Barrier> {
    Bench::new(BarrierSpec::from(parties).on_death(OnDeath::Retract)).unwrap()
}

fn arrive(bench: &mut Bench<Barrier>, session: u64) -> CallId {
    bench.call(session, Arrive { acts: false })
}

fn arrive_with_action(bench: &mut Bench<Barrier>, session: u64) -> CallId {
    bench.call(session, Arrive { acts: true })
}

/// The index, whether the party is the leader, and the generation.
type Told = Result<(u32, bool, u64), BreakReason>;

fn told(passed: Result<BarrierWaitResult, Refusal>) -> Told {
    match passed {
        Ok(passed) => Ok((passed.index(), passed.is_leader(), passed.generation())),
        Err(Refusal::Broken(reason)) => Err(reason),
        Err(other) => panic!("no refusal of a barrier: {other:?}"),
    }
}

/// The answer of an arrival that is not to act.
fn passed(bench: &Bench<Barrier>, id: CallId) -> Option<Told> {
    let arrival = bench.reply::<Arrive>(id)?.expect("no fault");
    Some(told(arrival.map(|arrival| match arrival {
        Arrival::Passed(passed) => passed,
        Arrival::Act => panic!("{id:?} was told to act"),
    })))
}

fn acts(bench: &Bench<Barrier>, id: CallId) -> bool {
    bench.reply::<Arrive>(id) == Some(Ok(Ok(Arrival::Act)))
}

fn finish(bench: &mut Bench<Barrier>, turn: CallId) -> CallId {
    bench.call(
        turn.session().number(),
        Finish {
            turn: Proof::own(turn),
        },
    )
}

fn finished(bench: &Bench<Barrier>, id: CallId) -> Option<Told> {
    Some(told(bench.reply::<Finish>(id)?.expect("no fault")))
}

fn status(bench: &mut Bench<Barrier>) -> BarrierStatus {
    let id = bench.call(99, GetBarrierStatus);
    bench.reply::<GetBarrierStatus>(id).unwrap().unwrap()
}

fn died() -> BreakReason {
    BreakReason::Died(Peer::default().into())
}

#[test]
fn all_pass_in_the_order_of_arrival_and_one_of_them_leads() {
    let mut bench = bench(3);
    for generation in 0..3 {
        let arrivals = [2, 1, 3].map(|session| {
            let id = arrive(&mut bench, session);
            assert_eq!(bench.is_answered(id), session == 3);
            id
        });
        assert_eq!(
            arrivals.map(|id| passed(&bench, id)),
            [(0, false), (1, false), (2, true)]
                .map(|(index, leads)| Some(Ok((index, leads, generation))))
        );
    }
}

#[test]
fn no_parties_are_refused_with_what_is_allowed() {
    let Err(Refusal::Invalid(why)) = Bench::<Barrier>::new(0.into()) else {
        panic!("it was made");
    };
    assert_eq!(why, "a barrier has 1 to 4294967295 parties, not 0");
}

#[test]
fn ten_thousand_generations_in_a_row() {
    let mut bench = bench(2);
    for generation in 0..10_000 {
        arrive(&mut bench, 1);
        let last = arrive(&mut bench, 2);
        assert_eq!(passed(&bench, last), Some(Ok((1, true, generation))));
    }
}

#[test]
fn the_last_to_arrive_runs_its_action_before_anyone_is_released() {
    let mut bench = bench(2);
    let first = arrive_with_action(&mut bench, 1);
    let last = arrive_with_action(&mut bench, 2);
    assert!(acts(&bench, last) && !bench.is_answered(first));
    let done = finish(&mut bench, last);
    assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
    assert_eq!(finished(&bench, done), Some(Ok((1, true, 0))));
}

#[test]
fn action_that_fails_breaks_the_barrier() {
    let mut bench = bench(2);
    let first = arrive_with_action(&mut bench, 1);
    let last = arrive_with_action(&mut bench, 2);
    bench.call(
        2,
        Fail {
            turn: Proof::own(last),
        },
    );
    assert_eq!(passed(&bench, first), Some(Err(BreakReason::ActionFailed)));
    let late = arrive(&mut bench, 3);
    assert_eq!(passed(&bench, late), Some(Err(BreakReason::ActionFailed)));
}

#[test]
fn action_that_dies_breaks_the_barrier_whatever_a_death_does_elsewhere() {
    for mut bench in [bench(2), retracting(2)] {
        let first = arrive_with_action(&mut bench, 1);
        assert!(!bench.is_answered(first));
        arrive_with_action(&mut bench, 2);
        bench.hang_up(2);
        assert_eq!(passed(&bench, first), Some(Err(died())));
        assert_eq!(status(&mut bench).broken, Some(died()));
    }
}

#[test]
fn action_that_never_returns_keeps_nobody_beyond_their_time() {
    let mut bench = bench(2);
    let impatient = bench.call_within(1, Arrive { acts: true }, SECOND);
    let last = arrive_with_action(&mut bench, 2);
    bench.advance(SECOND);
    assert_eq!(bench.reply::<Arrive>(impatient), Some(Err(Fault::TimedOut)));
    let done = finish(&mut bench, last);
    assert_eq!(finished(&bench, done), Some(Err(BreakReason::TimedOut)));
}

#[test]
fn early_arrivals_form_the_next_generation() {
    let mut bench = bench(2);
    let first = arrive(&mut bench, 1);
    let leader = arrive_with_action(&mut bench, 2);
    let early = [3, 4, 5].map(|session| arrive(&mut bench, session));
    assert!(!early.iter().any(|id| bench.is_answered(*id)));
    let done = finish(&mut bench, leader);
    assert_eq!(finished(&bench, done), Some(Ok((1, true, 0))));
    assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
    assert_eq!(passed(&bench, early[1]), Some(Ok((1, true, 1))));
    assert_eq!(passed(&bench, early[2]), None);
}

#[test]
fn timeout_breaks_the_barrier_for_all_itself_included() {
    let mut bench = bench(3);
    let other = arrive(&mut bench, 1);
    let late = bench.call_within(2, Arrive { acts: false }, SECOND);
    bench.advance(SECOND);
    assert_eq!(bench.reply::<Arrive>(late), Some(Err(Fault::TimedOut)));
    assert_eq!(passed(&bench, other), Some(Err(BreakReason::TimedOut)));
    let again = arrive(&mut bench, 2);
    assert_eq!(passed(&bench, again), Some(Err(BreakReason::TimedOut)));
}

#[test]
fn reset_mends_it_and_turns_those_away_who_wait() {
    let mut bench = bench(2);
    let waiting = arrive(&mut bench, 1);
    bench.call(3, Reset);
    assert_eq!(passed(&bench, waiting), Some(Err(BreakReason::Reset)));
    bench.call(3, Abort);
    bench.call(3, Reset);
    let [_, last] = [1, 2].map(|session| arrive(&mut bench, session));
    assert_eq!(passed(&bench, last), Some(Ok((1, true, 0))));
}

#[test]
fn abort_breaks_it_until_it_is_reset() {
    let mut bench = bench(2);
    let waiting = arrive(&mut bench, 1);
    bench.call(3, Abort);
    let late = arrive(&mut bench, 2);
    for id in [waiting, late] {
        assert_eq!(passed(&bench, id), Some(Err(BreakReason::Aborted)));
    }
    bench.call(3, Reset);
    let pair = [1, 2].map(|session| arrive(&mut bench, session));
    assert_eq!(passed(&bench, pair[1]), Some(Ok((1, true, 0))));
}

#[test]
fn abort_of_a_broken_barrier_is_what_broke_it_then() {
    let mut bench = bench(2);
    bench.call_within(1, Arrive { acts: false }, Duration::ZERO);
    assert_eq!(status(&mut bench).broken, Some(BreakReason::TimedOut));
    bench.call(3, Abort);
    assert_eq!(status(&mut bench).broken, Some(BreakReason::Aborted));
}

#[test]
fn action_of_a_barrier_that_broke_or_was_reset_lets_nobody_pass() {
    let mut bench = bench(1);
    let turn = arrive_with_action(&mut bench, 1);
    bench.call(2, Abort);
    let done = finish(&mut bench, turn);
    assert_eq!(finished(&bench, done), Some(Err(BreakReason::Aborted)));
    bench.call(2, Reset);
    let done = finish(&mut bench, turn);
    assert_eq!(finished(&bench, done), Some(Err(BreakReason::Reset)));
    bench.call(
        1,
        Fail {
            turn: Proof::own(turn),
        },
    );
    assert_eq!(status(&mut bench).broken, None);
}

#[test]
fn dropped_wait_takes_its_arrival_back() {
    let mut bench = bench(2);
    let dropped = arrive(&mut bench, 1);
    bench.withdraw(dropped);
    let first = arrive(&mut bench, 2);
    assert!(!bench.is_answered(first));
    arrive(&mut bench, 3);
    assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
}

#[test]
fn arrival_taken_back_during_the_action_is_made_good_by_another_party() {
    let mut bench = bench(2);
    let dropped = arrive(&mut bench, 1);
    let leader = arrive_with_action(&mut bench, 2);
    bench.withdraw(dropped);
    let done = finish(&mut bench, leader);
    assert!(!bench.is_answered(done), "one party is missing");
    let other = arrive_with_action(&mut bench, 3);
    assert_eq!(
        passed(&bench, other),
        Some(Ok((1, false, 0))),
        "it has been run"
    );
    assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
}

#[test]
fn early_arrival_makes_one_good_that_is_taken_back_during_the_action() {
    let mut bench = bench(2);
    let dropped = arrive(&mut bench, 1);
    let leader = arrive_with_action(&mut bench, 2);
    let early = arrive_with_action(&mut bench, 3);
    bench.withdraw(dropped);
    let done = finish(&mut bench, leader);
    assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
    assert_eq!(passed(&bench, early), Some(Ok((1, false, 0))));
}

#[test]
fn leader_that_leaves_after_its_action_leaves_the_lead_to_the_last() {
    let mut bench = bench(3);
    let dropped = arrive(&mut bench, 1);
    let waiting = arrive(&mut bench, 2);
    let leader = arrive_with_action(&mut bench, 3);
    bench.withdraw(dropped);
    let done = finish(&mut bench, leader);
    bench.withdraw(done);
    assert_eq!(bench.reply::<Finish>(done), Some(Err(Fault::Withdrawn)));
    arrive_with_action(&mut bench, 4);
    let last = arrive_with_action(&mut bench, 5);
    assert_eq!(passed(&bench, waiting), Some(Ok((0, false, 0))));
    assert_eq!(
        passed(&bench, last),
        Some(Ok((2, true, 0))),
        "not run again"
    );
}

#[test]
fn action_is_run_anew_once_all_have_left_whom_it_was_run_for() {
    let mut bench = bench(2);
    let dropped = arrive(&mut bench, 1);
    let leader = arrive_with_action(&mut bench, 2);
    bench.withdraw(dropped);
    let done = finish(&mut bench, leader);
    bench.withdraw(done);
    arrive_with_action(&mut bench, 3);
    let last = arrive_with_action(&mut bench, 4);
    assert!(acts(&bench, last));
}

#[test]
fn turn_that_was_never_seen_is_taken_back_and_the_action_has_not_begun() {
    let mut bench = bench(2);
    arrive_with_action(&mut bench, 1);
    let unseen = arrive_with_action(&mut bench, 2);
    bench.withdraw(unseen);
    assert_eq!(status(&mut bench).arrived, 1);
    let last = arrive_with_action(&mut bench, 3);
    assert!(acts(&bench, last));
    let stale = finish(&mut bench, unseen);
    assert_eq!(finished(&bench, stale), Some(Err(BreakReason::Reset)));
}

#[test]
fn arrival_does_not_cost_more_the_more_have_arrived() {
    let mut bench = bench(u32::MAX);
    let begun = Instant::now();
    for _ in 0..60_000 {
        arrive(&mut bench, 1);
    }
    // With a walk past all others for each arrival, this takes a quarter of a minute.
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn turn_that_is_taken_back_does_not_cost_more_the_more_have_arrived() {
    const PARTIES: u32 = 30_000;
    // The arrivals behind the generation take the place of the one that is taken back.
    for behind in [0, 20_000] {
        let mut bench = bench(PARTIES);
        for _ in 1..PARTIES {
            arrive(&mut bench, 1);
        }
        let turns: Vec<_> = (0..=behind)
            .map(|_| arrive_with_action(&mut bench, 2))
            .collect();
        let begun = Instant::now();
        for turn in turns {
            assert!(acts(&bench, turn));
            bench.withdraw(turn);
        }
        for _ in behind..20_000 {
            let turn = arrive_with_action(&mut bench, 2);
            assert!(acts(&bench, turn));
            bench.withdraw(turn);
        }
        // With a walk to the last party for each turn, this takes a quarter of a minute.
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(status(&mut bench).arrived, u64::from(PARTIES) - 1);
    }
}

#[test]
fn turn_is_finished_and_failed_by_its_own_session_alone() {
    let mut bench = bench(1);
    let turn = arrive_with_action(&mut bench, 1);
    let stranger = bench.call(
        2,
        Finish {
            turn: Proof::own(turn),
        },
    );
    assert_eq!(finished(&bench, stranger), Some(Err(BreakReason::Reset)));
    let ticket = bench.signed(turn);
    let stranger = bench.call(2, Finish { turn: ticket });
    let told = bench.reply::<Finish>(stranger).unwrap();
    assert_eq!(told, Ok(Err(Refusal::NotHeld)));
    for turn in [Proof::own(turn), ticket] {
        bench.call(2, Fail { turn });
    }
    assert_eq!(status(&mut bench).broken, None);
    let done = finish(&mut bench, turn);
    assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
}

#[test]
fn finish_that_waits_too_long_for_another_party_breaks_the_barrier() {
    let mut bench = bench(2);
    let dropped = arrive(&mut bench, 1);
    let turn = arrive_with_action(&mut bench, 2);
    bench.withdraw(dropped);
    let done = bench.call_within(
        2,
        Finish {
            turn: Proof::own(turn),
        },
        SECOND,
    );
    bench.advance(SECOND);
    assert_eq!(bench.reply::<Finish>(done), Some(Err(Fault::TimedOut)));
    assert_eq!(status(&mut bench).broken, Some(BreakReason::TimedOut));
}

#[test]
fn dead_party_breaks_the_barrier_for_those_who_wait() {
    let mut bench = bench(3);
    let waiting = arrive(&mut bench, 1);
    arrive(&mut bench, 2);
    bench.hang_up(2);
    assert_eq!(passed(&bench, waiting), Some(Err(died())));
    bench.hang_up(3);
    bench.call(1, Reset);
    bench.hang_up(4);
    assert_eq!(status(&mut bench).broken, None, "they were no parties");
}

#[test]
fn dead_party_is_never_counted_as_arrived() {
    let mut bench = retracting(2);
    arrive(&mut bench, 1);
    bench.hang_up(1);
    let waiting = arrive(&mut bench, 2);
    assert!(!bench.is_answered(waiting));
    arrive(&mut bench, 3);
    assert_eq!(passed(&bench, waiting), Some(Ok((0, false, 0))));
    // The same holds if it dies while the action runs.
    arrive(&mut bench, 4);
    let turn = arrive_with_action(&mut bench, 5);
    bench.hang_up(4);
    let done = finish(&mut bench, turn);
    assert!(!bench.is_answered(done));
}

//! Barriers whose waits are dropped, time out, or are reset and aborted while other parties arrive.

use std::{collections::BTreeMap, future::pending, mem, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    Barrier, CallError, Manager,
    errors::{ActionError, BreakReason, Refusal},
};
use lockkeeper_test_support::{Role, Roles, for_turns, report, run_in_turns, sweep};

use crate::{
    barrier::arrivals::{ACTIONS, act, arrived, describe, state, wait},
    program, run,
};

const TIMED_OUT: CallError = CallError::refused(Refusal::Broken(BreakReason::TimedOut));

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("barrier::races::lapper", lap);
    roles.add(
        "barrier::races::one_of_many",
        |barrier: Barrier| async move {
            let mut passes = Vec::new();
            while let Ok(passed) = barrier.wait().await {
                passes.push((passed.generation(), passed.index(), passed.is_leader()));
            }
            report(&serde_json::to_string(&passes).unwrap());
        },
    );
}

/// Passes `laps` generations in different ways, while other processes break the barrier.
async fn lap((barrier, laps): (Barrier, u64)) {
    let (mut lap, mut fails) = (0, true);
    while lap < laps {
        let passed = match lap % 3 {
            0 => barrier.wait().await.map_err(Into::into),
            1 => {
                let fails = mem::take(&mut fails);
                let act = async move || if fails { Err(()) } else { act().await };
                barrier.wait_with(act).await
            }
            _ => {
                let time = if mem::take(&mut fails) { 0 } else { 60 };
                let waited = barrier.wait().timeout(Duration::from_secs(time));
                waited.await.map_err(Into::into)
            }
        };
        match passed {
            Ok(passed) => {
                assert_eq!(passed.generation(), lap, "each passage is the next one");
                (lap, fails) = (lap + 1, true);
            }
            Err(ActionError::Failed(()) | ActionError::Call(CallError::TimedOut(_))) => {}
            Err(error) => assert!(describe(Err(error)).starts_with("broken: ")),
        }
    }
    report("done");
}

async fn manager_and_barrier(parties: u32) -> (Manager, Barrier) {
    let manager = Manager::start().await.unwrap();
    let barrier = manager.barrier(parties).await.unwrap();
    (manager, barrier)
}

/// Yields `turns` times.
async fn pass_turns(turns: u32) {
    for_turns(turns, pending::<()>()).await;
}

#[test]
fn wait_that_is_dropped_at_any_turn_has_passed_or_withdraws_its_arrival() {
    program();
    run_in_turns(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        for (acts, is_last) in [(false, false), (false, true), (true, false), (true, true)] {
            sweep(async |turns| {
                let (_, generation) = state(&barrier).await;
                let hasty = for_turns(turns, wait(&barrier, acts));
                let others = async { [arrived(&barrier).await, arrived(&barrier).await] };
                let (passed, others) = if is_last {
                    let others = others.await;
                    (hasty.await, others)
                } else {
                    tokio::join!(hasty, others)
                };
                let has_passed = passed.is_some();
                let (arrived, reached) = state(&barrier).await;
                let mut words: Vec<_> = passed.into_iter().map(describe).collect();
                if arrived == 2 {
                    assert_eq!(reached, generation, "the dropped wait does not count");
                    words.push(describe(wait(&barrier, false).await));
                }
                for other in others {
                    words.push(other.await.unwrap());
                }
                words.sort();
                if words == ["broken: ActionFailed"; 2] {
                    assert!(acts && (arrived, reached) == (0, generation));
                    barrier.reset().await.unwrap();
                } else {
                    let places = [0, 1, 2].map(|index| format!("{index} in {generation}"));
                    assert!(
                        words.iter().all(|words| places.contains(words)),
                        "{words:?}"
                    );
                    words.dedup();
                    // A dropped wait that has passed got no answer.
                    let is_told = has_passed || arrived == 2;
                    assert_eq!(words.len(), if is_told { 3 } else { 2 });
                }
                assert_eq!(state(&barrier).await.0, 0);
                has_passed
            })
            .await;
        }
    });
}

#[test]
fn action_runs_once_per_generation_if_another_party_is_dropped_at_any_turn() {
    program();
    run_in_turns(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        sweep(async |turns| {
            let before = ACTIONS.get();
            let (_, generation) = state(&barrier).await;
            let hasty = for_turns(turns, wait(&barrier, false));
            let act = async {
                let barrier = barrier.clone();
                [tokio::spawn(
                    async move { describe(wait(&barrier, true).await) },
                )]
            };
            let (passed, [actor]) = tokio::join!(hasty, act);
            let (_, reached) = state(&barrier).await;
            if reached == generation {
                assert_eq!(passed, None, "the dropped wait does not count");
                describe(wait(&barrier, true).await);
            }
            assert!(actor.await.unwrap().ends_with(&format!("in {generation}")));
            assert_eq!(ACTIONS.get(), before + 1);
            assert_eq!(state(&barrier).await, (0, generation + 1));
            passed.is_some()
        })
        .await;
    });
}

#[test]
fn action_does_not_run_again_if_its_party_is_dropped_at_any_turn() {
    program();
    run_in_turns(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        sweep(async |turns| {
            let before = ACTIONS.get();
            let mut leaver = Box::pin(barrier.wait());
            assert!((&mut leaver).now_or_never().is_none());
            let other = arrived(&barrier).await;
            // After this the generation lacks a party.
            let act_and_leave = async move || {
                ACTIONS.set(ACTIONS.get() + 1);
                drop(leaver);
                Ok::<(), ()>(())
            };
            let passed = for_turns(turns, barrier.wait_with(act_and_leave)).await;
            assert_eq!(passed, None);
            assert_eq!(state(&barrier).await.0, 1, "one arrival is left");
            let has_acted = ACTIONS.get() > before;
            let (second, third) = tokio::join!(wait(&barrier, true), wait(&barrier, true));
            let generation = third.unwrap().generation();
            assert_eq!(second.unwrap().generation(), generation);
            assert_eq!(other.await.unwrap(), format!("0 in {generation}"));
            assert_eq!(ACTIONS.get(), before + 1);
            has_acted
        })
        .await;
    });
}

#[test]
fn early_party_runs_the_action_if_the_acting_party_is_dropped_at_any_turn() {
    program();
    run_in_turns(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        sweep(async |turns| {
            let (_, generation) = state(&barrier).await;
            let first = arrived(&barrier).await;
            let hasty = for_turns(turns, wait(&barrier, true));
            let early = async {
                let barrier = barrier.clone();
                [tokio::spawn(
                    async move { describe(wait(&barrier, true).await) },
                )]
            };
            let (passed, [early]) = tokio::join!(hasty, early);
            if state(&barrier).await == (1, generation + 1) {
                assert_eq!(barrier.wait().await.unwrap().generation(), generation + 1);
                assert_eq!(first.await.unwrap(), format!("0 in {generation}"));
                assert_eq!(early.await.unwrap(), format!("0 in {}", generation + 1));
            } else {
                assert_eq!(passed, None);
                let words = [first.await.unwrap(), early.await.unwrap()];
                if words == ["broken: ActionFailed"; 2] {
                    barrier.reset().await.unwrap();
                } else {
                    assert_eq!(
                        words,
                        [0, 1].map(|index| format!("{index} in {generation}"))
                    );
                }
            }
            passed.is_some()
        })
        .await;
    });
}

#[test]
fn timeout_at_the_moment_of_another_arrival_lets_both_pass_or_none() {
    program();
    run_in_turns(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        sweep(async |turns| {
            let (_, generation) = state(&barrier).await;
            let late = async {
                pass_turns(turns).await;
                barrier.wait().await
            };
            let impatient = barrier.wait().timeout(Duration::from_millis(1));
            let outcome = tokio::join!(impatient, late);
            let is_over = outcome == (Err(CallError::timed_out()), Err(TIMED_OUT));
            if is_over {
                assert_eq!(state(&barrier).await, (0, generation));
                barrier.reset().await.unwrap();
            } else {
                assert_eq!(outcome.0.unwrap().index(), 0);
                assert_eq!(outcome.1.unwrap().index(), 1);
            }
            is_over
        })
        .await;
    });
}

#[test]
fn processes_pass_generations_while_the_barrier_breaks_and_is_reset() {
    const LAPS: u64 = 300;
    run(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        let lappers = [(); 3].map(|()| {
            let mut lapper = Role::start("barrier::races::lapper", &(&barrier, LAPS));
            tokio::task::spawn_blocking(move || lapper.next_report())
        });
        let mut turns = 0;
        while state(&barrier).await.1 < LAPS {
            pass_turns(turns % 400).await;
            if turns % 2 == 0 {
                barrier.abort().await.unwrap();
            }
            barrier.reset().await.unwrap();
            turns += 1;
        }
        for lapper in lappers {
            assert_eq!(lapper.await.unwrap(), "done");
        }
        assert_eq!(state(&barrier).await, (0, LAPS));
    });
}

#[test]
fn each_generation_has_its_parties_with_more_processes_than_parties() {
    const LAPS: u64 = 2_000;
    run(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        let mut lappers = [(); 5].map(|()| Role::start("barrier::races::one_of_many", &barrier));
        while state(&barrier).await.1 < LAPS {
            pass_turns(100).await;
        }
        barrier.abort().await.unwrap();
        let mut generations = BTreeMap::<u64, Vec<(u32, bool, u32)>>::new();
        for lapper in &mut lappers {
            let passes: Vec<(u64, u32, bool)> =
                serde_json::from_str(&lapper.next_report()).unwrap();
            for (generation, index, is_leader) in passes {
                let parties = generations.entry(generation).or_default();
                parties.push((index, is_leader, lapper.pid()));
            }
        }
        let (_, reached) = state(&barrier).await;
        assert!(generations.keys().copied().eq(0..reached));
        for (generation, mut parties) in generations {
            parties.sort_unstable();
            let two = matches!(parties[..], [(0, false, one), (1, true, other)] if one != other);
            assert!(two, "generation {generation}: {parties:?}");
        }
    });
}

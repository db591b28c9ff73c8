//! Barriers whose parties are killed or stopped: while they wait, while they run the action, or
//! between the release and its answer.

use std::{future::pending, pin::pin, process, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    Barrier, CallError, Manager, Semaphore,
    builders::{BarrierSpec, OnDeath},
};
use lockkeeper_test_support::{
    Role, Roles, for_turns, kill, report, run_in_turns, signal, stop, sweep, until,
};
use rustix::process::Signal;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    barrier::arrivals::{arrived, describe, state, wait},
    program, run,
};

/// The maximum number of processes at a time.
const MAX_PROCESSES: u32 = 10;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "barrier::deaths::party",
        |(barrier, alive): Tracked| async move {
            let _life = alive.acquire().await.unwrap();
            let passed = barrier.wait().await;
            report(&describe(passed.map_err(Into::into)));
            pending::<()>().await;
        },
    );
    roles.add("barrier::deaths::actor", |barrier: Barrier| async move {
        let passed = barrier.wait_with(|| async { Ok(()) }).await;
        report(&describe(passed));
    });
    roles.add(
        "barrier::deaths::endless_actor",
        |(barrier, alive): Tracked| async move {
            let _life = alive.acquire().await.unwrap();
            let act = || async {
                report("acts");
                pending::<Result<(), ()>>().await
            };
            barrier.wait_with(act).await.unwrap();
        },
    );
    roles.add("barrier::deaths::hasty", die_after);
}

/// A barrier, and a semaphore of which each process holds a permit until the manager notices its
/// death.
type Tracked = (Barrier, Semaphore);

/// Dies after `turns` turns of its wait, or when it has passed.
async fn die_after(((barrier, alive), turns, acts): (Tracked, u32, bool)) {
    let _life = alive.acquire().await.unwrap();
    report("comes");
    let mut wait = pin!(wait(&barrier, acts));
    let passed = for_turns(turns, wait.as_mut()).await;
    report(passed.map_or_else(|| "dying".to_owned(), describe).as_str());
    kill(process::id());
}

async fn manager_and_barrier(spec: impl Into<BarrierSpec>) -> (Manager, Tracked) {
    let manager = Manager::start().await.unwrap();
    let barrier = manager.barrier(spec).await.unwrap();
    let alive = manager.semaphore(MAX_PROCESSES).await.unwrap();
    (manager, (barrier, alive))
}

/// Waits until the manager has noticed the deaths of all processes.
async fn until_dead(alive: &Semaphore) {
    until("the manager has noticed all deaths", || async {
        alive.status().await.unwrap().available == u64::from(MAX_PROCESSES)
    })
    .await;
}

fn retracting(parties: u32) -> BarrierSpec {
    BarrierSpec::from(parties).on_death(OnDeath::Retract)
}

async fn until_arrived(barrier: &Barrier, arrived: u64) {
    until("the parties have arrived or left", || async {
        state(barrier).await.0 == arrived
    })
    .await;
}

async fn until_broken(barrier: &Barrier) {
    until("the barrier is broken", || async {
        barrier.status().await.unwrap().broken.is_some()
    })
    .await;
}

/// Starts a party that arrives and is then stopped.
async fn stopped_party(tracked: &Tracked) -> Role {
    let barrier = &tracked.0;
    let (arrived, _) = state(barrier).await;
    let party = Role::start("barrier::deaths::party", tracked);
    until_arrived(barrier, arrived + 1).await;
    stop(party.pid()).await;
    party
}

#[test]
fn killed_party_breaks_the_barrier_at_every_place_in_the_order() {
    run(async {
        let (_manager, tracked) = manager_and_barrier(4).await;
        let barrier = tracked.0.clone();
        for place in 0..3 {
            let mut parties = Vec::new();
            for _ in 0..3 {
                parties.push(stopped_party(&tracked).await);
            }
            let mut killed = parties.remove(place);
            killed.kill();
            until_broken(&barrier).await;
            let why = format!("broken by the death of {}", killed.pid());
            assert_eq!(arrived(&barrier).await.await.unwrap(), why);
            for mut party in parties {
                signal(party.pid(), Signal::CONT);
                assert_eq!(party.next_report(), why);
                // A refused call is no longer a party.
                party.kill();
            }
            barrier.reset().await.unwrap();
            assert_eq!(barrier.status().await.unwrap().broken, None);
        }
    });
}

#[test]
fn later_parties_replace_killed_parties_that_withdraw() {
    run(async {
        let (_manager, tracked) = manager_and_barrier(retracting(4)).await;
        let barrier = tracked.0.clone();
        for place in 0..3 {
            let (_, generation) = state(&barrier).await;
            let mut parties = Vec::new();
            for _ in 0..3 {
                parties.push(stopped_party(&tracked).await);
            }
            parties.remove(place).kill();
            until_arrived(&barrier, 2).await;
            let third = arrived(&barrier).await;
            assert_eq!(state(&barrier).await, (3, generation));
            let last = arrived(&barrier).await;
            for (mut party, index) in parties.into_iter().zip(0..) {
                signal(party.pid(), Signal::CONT);
                assert_eq!(party.next_report(), format!("{index} in {generation}"));
            }
            assert_eq!(third.await.unwrap(), format!("2 in {generation}"));
            assert_eq!(last.await.unwrap(), format!("3 in {generation}"));
        }
    });
}

#[test]
fn party_that_is_killed_after_the_release_breaks_nothing() {
    run(async {
        let (_manager, tracked) = manager_and_barrier(2).await;
        let (barrier, alive) = &tracked;
        let mut stopped = stopped_party(&tracked).await;
        assert_eq!(barrier.wait().await.unwrap().index(), 1, "the party counts");
        let waiting = arrived(barrier).await;
        stopped.kill();
        until_dead(alive).await;
        assert_eq!(state(barrier).await, (1, 1));
        assert_eq!(barrier.wait().await.unwrap().generation(), 1);
        assert_eq!(waiting.await.unwrap(), "0 in 1");
    });
}

#[test]
fn stopped_party_with_the_action_breaks_the_barrier_when_it_is_killed() {
    run(async {
        for spec in [2.into(), retracting(2)] {
            let (_manager, (barrier, _)) = manager_and_barrier(spec).await;
            let first = arrived(&barrier).await;
            let (end, leader) = acting(&barrier).await;
            let waiting = arrived(&barrier).await;
            let mut actor = Role::start("barrier::deaths::actor", &barrier);
            until_arrived(&barrier, 4).await;
            stop(actor.pid()).await;
            end.send(()).unwrap();
            assert_eq!(leader.await.unwrap(), "1 in 0");
            assert_eq!(first.await.unwrap(), "0 in 0");
            assert_eq!(
                state(&barrier).await,
                (2, 1),
                "the stopped party has to run the action"
            );
            actor.kill();
            let why = format!("broken by the death of {}", actor.pid());
            assert_eq!(waiting.await.unwrap(), why);
        }
    });
}

/// Starts a task whose action runs until the sender is used.
async fn acting(barrier: &Barrier) -> (oneshot::Sender<()>, JoinHandle<String>) {
    let (end, ended) = oneshot::channel();
    let (tell, begun) = oneshot::channel();
    let barrier = barrier.clone();
    let act = || async {
        tell.send(()).unwrap();
        ended.await.map_err(drop)
    };
    let acting = tokio::spawn(async move { describe(barrier.wait_with(act).await) });
    begun.await.unwrap();
    (end, acting)
}

#[test]
fn party_that_is_killed_during_the_action_of_another_breaks_or_is_replaced() {
    run(async {
        for spec in [2.into(), retracting(2)] {
            let (_manager, tracked) = manager_and_barrier(spec).await;
            let barrier = &tracked.0;
            let mut party = stopped_party(&tracked).await;
            let (end, acting) = acting(barrier).await;
            party.kill();
            until_dead(&tracked.1).await;
            end.send(()).unwrap();
            if spec == retracting(2) {
                let other = barrier.wait_with(async || panic!("the action has already run"));
                assert_eq!(describe(other.await), "1 in 0");
                assert_eq!(acting.await.unwrap(), "0 in 0");
            } else {
                let why = format!("broken by the death of {}", party.pid());
                assert_eq!(acting.await.unwrap(), why);
            }
        }
    });
}

#[test]
fn dropped_actor_is_no_longer_a_party() {
    run(async {
        let (_manager, tracked) = manager_and_barrier(2).await;
        let (barrier, alive) = &tracked;
        let mut impatient = pin!(barrier.wait().timeout(Duration::from_millis(300)));
        assert!(impatient.as_mut().now_or_never().is_none());
        let mut actor = Role::start("barrier::deaths::endless_actor", &tracked);
        assert_eq!(actor.next_report(), "acts");
        stop(actor.pid()).await;
        assert_eq!(impatient.await, Err(CallError::timed_out()));
        barrier.reset().await.unwrap();
        let waiting = arrived(barrier).await;
        actor.kill();
        until_dead(alive).await;
        assert_eq!(barrier.wait().await.unwrap().generation(), 0);
        assert_eq!(waiting.await.unwrap(), "0 in 0");
    });
}

#[test]
fn death_at_any_turn_of_a_wait_lets_all_other_parties_pass_or_none() {
    program();
    run_in_turns(async {
        for (spec, acts) in [
            (3.into(), false),
            (3.into(), true),
            (retracting(3), false),
            (retracting(3), true),
        ] {
            let (_manager, tracked) = manager_and_barrier(spec).await;
            let (barrier, alive) = &tracked;
            sweep(async |turns| {
                let (_, generation) = state(barrier).await;
                let mut hasty = Role::start("barrier::deaths::hasty", &(&tracked, turns, acts));
                assert_eq!(hasty.next_report(), "comes");
                let others = [arrived(barrier).await, arrived(barrier).await];
                let has_passed = hasty.next_report() != "dying";
                hasty.kill();
                until_dead(alive).await;
                let (mut arrived, reached) = state(barrier).await;
                if arrived == 2 {
                    assert!(!has_passed && reached == generation);
                    assert_eq!(barrier.wait().await.unwrap().index(), 2);
                    arrived = 0;
                }
                assert_eq!(arrived, 0);
                let mut words = Vec::new();
                for other in others {
                    words.push(other.await.unwrap());
                }
                let why = format!("broken by the death of {}", hasty.pid());
                if words == [why.clone(), why] {
                    assert!(!has_passed && (spec != retracting(3) || acts));
                    assert_eq!(reached, generation);
                    barrier.reset().await.unwrap();
                } else {
                    let all = words
                        .iter()
                        .all(|words| words.ends_with(&format!("in {generation}")));
                    assert!(all && words[0] != words[1], "{words:?}");
                }
                has_passed
            })
            .await;
        }
    });
}

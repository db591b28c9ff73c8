//! The guarantees of a barrier, through its proxy and from other processes.

pub(crate) mod arrivals;
pub(crate) mod deaths;
pub(crate) mod races;

use std::{
    future::{Future, pending, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{
    Barrier, CallError, Manager, Pool, Task,
    builders::{BarrierSpec, OnDeath, Program},
    errors::{ActionError, BreakReason, Fault, Refusal},
    guards::BarrierWaitResult,
};
use lockkeeper_test_support::{Role, Roles, is_running, kill, report, signal, until};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::run;

const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Meet>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("barrier::party", |barrier: Barrier| async move {
        let passed = barrier.wait().await.unwrap();
        report(&format!("{} {}", passed.index(), passed.generation()));
    });
    roles.add(
        "barrier::lapper",
        |(barrier, laps): (Barrier, u64)| async move {
            for lap in 0..laps {
                let passed = barrier.wait().await.unwrap();
                assert_eq!(passed.generation(), lap, "each passage is the next one");
            }
            report("done");
        },
    );
    roles.add("barrier::actor", |barrier: Barrier| async move {
        let action = || async {
            report("acting");
            pending::<Result<(), CallError>>().await
        };
        barrier.wait_with(action).await.unwrap();
    });
}

/// Arrives from a pool task.
#[derive(Serialize, Deserialize)]
struct Meet(Barrier);

impl Task for Meet {
    const NAME: &'static str = "meet";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        Ok(self.0.wait().await?.index())
    }
}

async fn manager_and_barrier(spec: impl Into<BarrierSpec>) -> (Manager, Barrier) {
    let manager = Manager::start().await.unwrap();
    let barrier = manager.barrier(spec).await.unwrap();
    (manager, barrier)
}

async fn until_arrived(barrier: &Barrier, arrived: u64) {
    until("the parties have arrived", || async {
        barrier.status().await.unwrap().arrived == arrived
    })
    .await;
}

/// Starts a task that waits at the barrier. The task has arrived when this returns.
async fn arrived(
    barrier: &Barrier,
) -> tokio::task::JoinHandle<Result<BarrierWaitResult, CallError>> {
    let before = barrier.status().await.unwrap().arrived;
    let waiting = tokio::spawn({
        let barrier = barrier.clone();
        async move { barrier.wait().await }
    });
    until_arrived(barrier, before + 1).await;
    waiting
}

fn broken(reason: BreakReason) -> CallError {
    CallError::refused(Refusal::Broken(reason))
}

/// Returns the process whose death broke the barrier.
fn who_died(outcome: Result<BarrierWaitResult, CallError>) -> u32 {
    match outcome {
        Err(CallError::Refused(Refusal::Broken(BreakReason::Died(peer)), _)) => peer.pid,
        other => panic!("no party died: {other:?}"),
    }
}

#[test]
fn parties_of_several_processes_have_different_indices_and_one_leads() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(4).await;
        for generation in 0..3 {
            let mut parties = [(); 3].map(|()| Role::start("barrier::party", &barrier));
            until_arrived(&barrier, 3).await;
            let last = barrier.wait().await.unwrap();
            assert_eq!((last.index(), last.is_leader()), (3, true));
            assert_eq!(last.generation(), generation);
            let mut heard = parties.each_mut().map(Role::next_report);
            heard.sort();
            assert_eq!(
                heard,
                [0, 1, 2].map(|index| format!("{index} {generation}"))
            );
        }
    });
}

#[test]
fn processes_that_lap_each_other_pass_ten_thousand_generations() {
    const LAPS: u64 = 10_000;
    run(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        let mut lappers = [(); 3].map(|()| Role::start("barrier::lapper", &(&barrier, LAPS)));
        for lapper in &mut lappers {
            assert_eq!(lapper.next_report(), "done");
        }
        assert_eq!(barrier.status().await.unwrap().generation, LAPS);
    });
}

#[test]
fn zero_parties_and_another_number_for_the_same_name_are_refused() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let Err(CallError::Refused(Refusal::Invalid(why), _)) = manager.barrier(0).await else {
            panic!("the barrier was created");
        };
        assert!(why.contains("1 to 4294967295 parties, not 0"), "{why}");
        manager.named("gate").barrier(2).await.unwrap();
        let other = manager.named("gate").barrier(3).await;
        assert!(matches!(
            other,
            Err(CallError::Fault(Fault::WrongSpec { .. }))
        ));
    });
}

#[test]
fn action_runs_in_the_last_party_before_the_release() {
    static ACTIONS: AtomicU32 = AtomicU32::new(0);
    run(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        for round in 1..=20 {
            let party = || {
                let barrier = barrier.clone();
                tokio::spawn(async move {
                    let act = || async {
                        tokio::task::yield_now().await;
                        ACTIONS.fetch_add(1, Ordering::SeqCst);
                        Ok::<(), CallError>(())
                    };
                    let passed = barrier.wait_with(act).await.unwrap();
                    (passed, ACTIONS.load(Ordering::SeqCst))
                })
            };
            let mut leaders = 0;
            for party in [(); 3].map(|()| party()) {
                let (passed, actions) = party.await.unwrap();
                assert_eq!(
                    actions, round,
                    "the action runs once per generation, before the release"
                );
                assert_eq!(passed.is_leader(), passed.index() == 2);
                leaders += u32::from(passed.is_leader());
            }
            assert_eq!(leaders, 1);
        }
    });
}

/// One party waits, the action of the other one ends by `way`, and neither passes.
async fn breaks<F: Future + Send + 'static>(way: impl FnOnce(Barrier) -> F) {
    let (_manager, barrier) = manager_and_barrier(2).await;
    let other = arrived(&barrier).await;
    // The action may panic.
    let _ = tokio::spawn(way(barrier.clone()).map(drop)).await;
    assert_eq!(other.await.unwrap(), Err(broken(BreakReason::ActionFailed)));
    assert_eq!(barrier.wait().await, Err(broken(BreakReason::ActionFailed)));
    barrier.reset().await.unwrap();
    let other = arrived(&barrier).await;
    assert!(barrier.wait().await.unwrap().is_leader());
    other.await.unwrap().unwrap();
}

#[test]
fn action_that_fails_panics_or_is_dropped_breaks_the_barrier() {
    run(async {
        breaks(|barrier| async move {
            let failed = barrier.wait_with(|| ready(Err("it failed"))).await;
            assert_eq!(failed, Err(ActionError::Failed("it failed")));
        })
        .await;
        breaks(|barrier| async move {
            let act = || async { panic!("it panicked") };
            barrier.wait_with::<_, _, CallError>(act).await
        })
        .await;
        breaks(|barrier| async move {
            let begun = Arc::new(Notify::new());
            let acts = Arc::clone(&begun);
            let act = || async move {
                acts.notify_one();
                pending::<Result<(), CallError>>().await
            };
            tokio::select! {
                passed = barrier.wait_with(act) => panic!("the action has ended: {passed:?}"),
                () = begun.notified() => {}
            }
        })
        .await;
    });
}

#[test]
fn action_whose_process_is_killed_breaks_the_barrier() {
    run(async {
        for on_death in [OnDeath::Break, OnDeath::Retract] {
            let spec = BarrierSpec::from(2).on_death(on_death);
            let (_manager, barrier) = manager_and_barrier(spec).await;
            let other = arrived(&barrier).await;
            let mut actor = Role::start("barrier::actor", &barrier);
            assert_eq!(actor.next_report(), "acting");
            actor.kill();
            assert_eq!(who_died(other.await.unwrap()), actor.pid());
        }
    });
}

#[test]
fn action_that_never_returns_does_not_delay_timeouts() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        let mut impatient = Box::pin(barrier.wait().timeout(Duration::from_millis(300)));
        assert!((&mut impatient).now_or_never().is_none());
        let (end, ended) = tokio::sync::oneshot::channel();
        let acting = tokio::spawn({
            let barrier = barrier.clone();
            async move {
                let act = || async { ended.await.map_err(|_| CallError::timed_out()) };
                barrier.wait_with(act).await
            }
        });
        assert_eq!(impatient.await, Err(CallError::timed_out()));
        // On a slow machine the timeout may have passed before the action began.
        let _ = end.send(());
        let shown = Err(ActionError::Call(broken(BreakReason::TimedOut)));
        assert_eq!(acting.await.unwrap(), shown);
    });
}

#[test]
fn timeout_abort_and_reset_end_all_waits() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        let other = arrived(&barrier).await;
        assert_eq!(
            barrier.wait().timeout(SHORT).await,
            Err(CallError::timed_out())
        );
        assert_eq!(other.await.unwrap(), Err(broken(BreakReason::TimedOut)));
        assert_eq!(barrier.wait().await, Err(broken(BreakReason::TimedOut)));
        barrier.reset().await.unwrap();

        let other = arrived(&barrier).await;
        barrier.reset().await.unwrap();
        assert_eq!(other.await.unwrap(), Err(broken(BreakReason::Reset)));
        let other = arrived(&barrier).await;
        barrier.abort().await.unwrap();
        assert_eq!(other.await.unwrap(), Err(broken(BreakReason::Aborted)));
        assert_eq!(barrier.wait().await, Err(broken(BreakReason::Aborted)));
        barrier.reset().await.unwrap();
        let others = [arrived(&barrier).await, arrived(&barrier).await];
        assert!(barrier.wait().await.unwrap().is_leader());
        for other in others {
            assert!(!other.await.unwrap().unwrap().is_leader());
        }
    });
}

#[test]
fn dropped_wait_withdraws_its_arrival() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        assert!(tokio::time::timeout(SHORT, barrier.wait()).await.is_err());
        let other = arrived(&barrier).await;
        assert_eq!(barrier.status().await.unwrap().arrived, 1);
        assert_eq!(barrier.wait().await.unwrap().index(), 1);
        assert_eq!(other.await.unwrap().unwrap().index(), 0);
    });
}

#[test]
fn killed_party_breaks_the_barrier_or_withdraws_its_arrival() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(3).await;
        let mut killed = Role::start("barrier::party", &barrier);
        until_arrived(&barrier, 1).await;
        let other = arrived(&barrier).await;
        killed.kill();
        assert_eq!(who_died(other.await.unwrap()), killed.pid());

        let spec = BarrierSpec::from(2).on_death(OnDeath::Retract);
        let (_manager, barrier) = manager_and_barrier(spec).await;
        let mut killed = Role::start("barrier::party", &barrier);
        until_arrived(&barrier, 1).await;
        killed.kill();
        until_arrived(&barrier, 0).await;
        let other = arrived(&barrier).await;
        assert_eq!(barrier.wait().await.unwrap().generation(), 0);
        assert_eq!(other.await.unwrap().unwrap().index(), 0);
    });
}

#[test]
fn stopped_party_counts_as_arrived_and_gets_its_answer_later() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(2).await;
        let mut stopped = Role::start("barrier::party", &barrier);
        until_arrived(&barrier, 1).await;
        signal(stopped.pid(), Signal::STOP);
        assert!(is_running(stopped.pid()));
        assert_eq!(
            barrier.wait().await.unwrap().index(),
            1,
            "the stopped party counts"
        );
        signal(stopped.pid(), Signal::CONT);
        assert_eq!(stopped.next_report(), "0 0");
        kill(stopped.pid());
    });
}

#[test]
fn plain_threads_and_pool_tasks_can_be_parties() {
    run(async {
        let (manager, barrier) = manager_and_barrier(3).await;
        let pool = Pool::new(2).await.unwrap();
        let tasks = [(); 2].map(|()| pool.spawn(Meet(barrier.clone())));
        until_arrived(&barrier, 2).await;
        let event = manager.event().await.unwrap();
        let thread = thread::spawn(move || {
            let act = move || async move { event.wait().timeout(Duration::ZERO).await.map(drop) };
            let failed = ActionError::Failed(CallError::timed_out());
            assert_eq!(barrier.wait_with(act).blocking(), Err(failed));
            let late = barrier.wait().timeout(SHORT).blocking();
            assert_eq!(late, Err(broken(BreakReason::ActionFailed)));
            barrier
        });
        let barrier = thread.join().unwrap();
        for task in tasks {
            assert_eq!(task.await, Ok(Err(broken(BreakReason::ActionFailed))));
        }
        barrier.reset().await.unwrap();
        let tasks = [(); 2].map(|()| pool.spawn(Meet(barrier.clone())));
        until_arrived(&barrier, 2).await;
        let thread = thread::spawn(move || barrier.wait().blocking().map(|passed| passed.index()));
        assert_eq!(thread.join().unwrap(), Ok(2));
        let mut places = [0; 2];
        for (place, task) in places.iter_mut().zip(tasks) {
            *place = task.await.unwrap().unwrap();
        }
        places.sort_unstable();
        assert_eq!(places, [0, 1]);
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(1).await;
        let _ = barrier.wait().blocking();
    });
}

#[test]
fn single_party_passes_at_once_even_with_a_zero_timeout() {
    run(async {
        let (_manager, barrier) = manager_and_barrier(1).await;
        assert_eq!(
            barrier
                .wait()
                .timeout(Duration::ZERO)
                .await
                .unwrap()
                .index(),
            0
        );
        let act = || ready(Ok::<(), CallError>(()));
        let passed = barrier.wait_with(act).timeout(Duration::MAX).await.unwrap();
        assert_eq!((passed.is_leader(), passed.generation()), (true, 1));
    });
}

#[test]
fn waits_fail_when_the_barrier_or_its_manager_ends() {
    run(async {
        let (manager, barrier) = manager_and_barrier(2).await;
        let waiting = arrived(&barrier).await;
        manager.remove(&barrier.token().name).await.unwrap();
        assert_eq!(waiting.await.unwrap(), Err(CallError::gone()));

        let barrier = manager.barrier(2).await.unwrap();
        let waiting = arrived(&barrier).await;
        manager.shutdown().await;
        let outcome = waiting.await.unwrap();
        assert!(matches!(outcome, Err(CallError::Disconnected { .. })));
        let outcome = barrier.reset().await;
        assert!(matches!(outcome, Err(CallError::Disconnected { .. })));
    });
}

//! The guarantees of an event, through its proxy and from other processes.

use std::{thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{CallError, Event, Manager, Pool, Task, builders::Program, errors::Refusal};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};

use crate::run;

pub(crate) fn register(program: Program) -> Program {
    program.task::<Await>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("event::waiter", |event: Event| async move {
        let generation = event.wait().await.unwrap();
        report(&generation.to_string());
    });
    roles.add(
        "event::follower",
        |(event, last): (Event, u64)| async move {
            let mut seen = 0;
            while seen < last {
                let generation = event.wait_since(seen).await.unwrap();
                assert!(generation > seen);
                seen = generation;
            }
            report(&seen.to_string());
        },
    );
}

/// Waits for the event in a pool task.
#[derive(Serialize, Deserialize)]
struct Await(Event);

impl Task for Await {
    const NAME: &'static str = "await";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        self.0.wait().await
    }
}

async fn manager_and_event() -> (Manager, Event) {
    let manager = Manager::start().await.unwrap();
    let event = manager.event().await.unwrap();
    (manager, event)
}

async fn until_waiting(event: &Event, waiting: u64) {
    until("the calls wait", || async {
        event.status().await.unwrap().waiting == waiting
    })
    .await;
}

#[test]
fn set_wakes_all_waiting_processes_even_if_clear_follows_at_once() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        for generation in 1..=5 {
            let mut waiters = [(); 3].map(|()| Role::start("event::waiter", &event));
            until_waiting(&event, 3).await;
            assert_eq!(event.set().await, Ok(generation));
            event.clear().await.unwrap();
            for waiter in &mut waiters {
                assert_eq!(waiter.next_report(), generation.to_string());
            }
            assert!(!event.is_set().await.unwrap());
        }
    });
}

#[test]
fn process_that_follows_by_generation_misses_no_last_pulse() {
    const PULSES: u64 = 1_000;
    run(async {
        let (_manager, event) = manager_and_event().await;
        let mut follower = Role::start("event::follower", &(&event, PULSES));
        for _ in 0..PULSES {
            event.set().await.unwrap();
            event.clear().await.unwrap();
        }
        assert_eq!(follower.next_report(), PULSES.to_string());
        assert_eq!(event.status().await.unwrap().generation, PULSES);
    });
}

#[test]
fn set_flag_stays_set_for_later_waits() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        assert!(!event.is_set().await.unwrap());
        event.set().await.unwrap();
        assert!(event.is_set().await.unwrap());
        assert_eq!(event.wait().await, Ok(1));
        assert_eq!(event.set().await, Ok(2), "a set of a set event counts too");
        assert_eq!(event.wait_since(1).await, Ok(2));
    });
}

#[test]
fn ended_waits_leave_no_waiter() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        let short = Duration::from_millis(5);
        assert_eq!(
            event.wait().timeout(short).await,
            Err(CallError::timed_out())
        );
        assert_eq!(
            event.wait().timeout(Duration::ZERO).await,
            Err(CallError::timed_out())
        );
        assert_eq!(
            event.wait_since(0).timeout(short).await,
            Err(CallError::timed_out())
        );
        assert!(tokio::time::timeout(short, event.wait()).await.is_err());
        until_waiting(&event, 0).await;
        let mut killed = Role::start("event::waiter", &event);
        until_waiting(&event, 1).await;
        killed.kill();
        let fact = format!("process {} is forgotten", killed.pid());
        let is_forgotten = || async { event.status().await.unwrap().waiting == 0 };
        until(&fact, is_forgotten).await;
    });
}

#[test]
fn timeout_beyond_the_clock_never_ends() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        let mut waiting = Box::pin(event.wait().timeout(Duration::MAX));
        assert!((&mut waiting).now_or_never().is_none());
        until_waiting(&event, 1).await;
        event.set().await.unwrap();
        assert_eq!(waiting.await, Ok(1));
    });
}

#[test]
fn future_generation_is_refused_with_the_allowed_range() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        let refused = event.wait_since(3).await;
        let Err(CallError::Refused(Refusal::Invalid(why), _)) = refused else {
            panic!("it was not refused: {refused:?}");
        };
        assert!(why.contains("from 0 to 0, not 3"), "{why}");
    });
}

#[test]
fn plain_threads_and_pool_tasks_can_wait() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        let thread = {
            let event = event.clone();
            thread::spawn(move || {
                let short = event.wait().timeout(Duration::from_millis(1)).blocking();
                assert_eq!(short, Err(CallError::timed_out()));
                event.wait().blocking()
            })
        };
        let pool = Pool::new(2).await.unwrap();
        let tasks = [(); 2].map(|()| pool.spawn(Await(event.clone())));
        until_waiting(&event, 3).await;
        event.set().await.unwrap();
        assert_eq!(thread.join().unwrap(), Ok(1));
        for task in tasks {
            assert_eq!(task.await, Ok(Ok(1)));
        }
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, event) = manager_and_event().await;
        let _ = event.wait().blocking();
    });
}

#[test]
fn waits_fail_when_the_event_or_its_manager_ends() {
    run(async {
        let (manager, event) = manager_and_event().await;
        let mut waiting = Box::pin(event.wait());
        assert!((&mut waiting).now_or_never().is_none());
        manager.remove(&event.token().name).await.unwrap();
        assert_eq!(waiting.await, Err(CallError::gone()));
        assert_eq!(event.set().await, Err(CallError::gone()));

        let event = manager.event().await.unwrap();
        let mut waiting = Box::pin(event.wait());
        assert!((&mut waiting).now_or_never().is_none());
        manager.shutdown().await;
        assert!(matches!(waiting.await, Err(CallError::Disconnected { .. })));
        assert!(matches!(
            event.set().await,
            Err(CallError::Disconnected { .. })
        ));
    });
}

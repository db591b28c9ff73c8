//! The guarantees of a latch, through its proxy and from other processes.

use std::{future::pending, thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    CallError, Latch, Manager, Pool, Task,
    builders::Program,
    errors::{Fault, Refusal},
    kind::{sync, sync::LatchSpec},
};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};

use crate::run;

const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Arrive>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("latch::waiter", |latch: Latch| async move {
        latch.wait().await.unwrap();
        report("passed");
    });
    roles.add("latch::counter", |latch: Latch| async move {
        report(&latch.count_down(1).await.unwrap().to_string());
        pending::<()>().await;
    });
    roles.add("latch::arrival", |latch: Latch| async move {
        latch.arrive_and_wait(1).await.unwrap();
        report("passed");
    });
}

/// Arrives, and waits for the others.
#[derive(Serialize, Deserialize)]
struct Arrive(Latch);

impl Task for Arrive {
    const NAME: &'static str = "arrive";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        self.0.arrive_and_wait(1).await
    }
}

async fn manager_and_latch(count: u32) -> (Manager, Latch) {
    let manager = Manager::start().await.unwrap();
    let latch = manager.latch(count).await.unwrap();
    (manager, latch)
}

pub(crate) async fn until_waiting(latch: &Latch, waiting: u64) {
    until("the calls wait", || async {
        latch.status().await.unwrap().waiting == waiting
    })
    .await;
}

fn why<T>(refused: Result<T, CallError>) -> String {
    match refused {
        Err(CallError::Refused(Refusal::Invalid(why), _)) => why,
        Err(error) => panic!("the call failed with another error: {error}"),
        Ok(_) => panic!("the call was not refused"),
    }
}

#[test]
fn last_count_wakes_all_waiting_processes() {
    run(async {
        let (_manager, latch) = manager_and_latch(3).await;
        let mut waiters = [(); 3].map(|()| Role::start("latch::waiter", &latch));
        until_waiting(&latch, 3).await;
        assert_eq!(latch.count_down(2).await, Ok(1));
        assert_eq!(latch.status().await.unwrap().waiting, 3);
        assert!(!latch.status().await.unwrap().is_open());
        assert_eq!(latch.count_down(1).await, Ok(0));
        for waiter in &mut waiters {
            assert_eq!(waiter.next_report(), "passed");
        }
        assert!(latch.status().await.unwrap().is_open());
        latch.wait().await.unwrap();
        latch.wait().timeout(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn latch_of_zero_is_open() {
    run(async {
        let (_manager, latch) = manager_and_latch(0).await;
        assert!(latch.status().await.unwrap().is_open());
        latch.wait().await.unwrap();
        latch.arrive_and_wait(0).await.unwrap();
        assert_eq!(latch.count_down(0).await, Ok(0));
        assert!(why(latch.count_down(1).await).contains("the latch is open"));
    });
}

#[test]
fn count_above_the_rest_is_refused_and_has_no_effect() {
    run(async {
        let (_manager, latch) = manager_and_latch(2).await;
        let refused = why(latch.count_down(3).await);
        assert!(
            refused.contains("count down by 0 to 2, not by 3"),
            "{refused}"
        );
        let refused = why(latch.arrive_and_wait(u32::MAX).await);
        assert!(refused.contains("count down by 0 to 2"), "{refused}");
        assert_eq!(latch.status().await.unwrap().count, 2);
        assert_eq!(latch.count_down(0).await, Ok(2));
    });
}

#[test]
fn counts_out_of_range_are_refused_with_the_allowed_range() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for count in [-1, i64::from(u32::MAX) + 1] {
            let refused = manager
                .open::<sync::Latch>(LatchSpec {
                    count: count.into(),
                })
                .await;
            let why = why(refused);
            assert!(why.contains("from 0 to 4294967295"), "{why}");
        }
        let most = manager.named("most").latch(u32::MAX).await.unwrap();
        assert_eq!(most.count_down(u32::MAX - 1).await, Ok(1));
        let other = manager.named("most").latch(1).await.map(drop);
        assert!(matches!(
            other,
            Err(CallError::Fault(Fault::WrongSpec { .. }))
        ));
        let same = manager.named("most").latch(u32::MAX).await.unwrap();
        assert_eq!(
            same.status().await.unwrap().count,
            1,
            "the latch keeps its state"
        );
    });
}

#[test]
fn count_of_a_killed_process_stays() {
    run(async {
        let (_manager, latch) = manager_and_latch(3).await;
        let mut counter = Role::start("latch::counter", &latch);
        assert_eq!(counter.next_report(), "2");
        let mut arrival = Role::start("latch::arrival", &latch);
        until_waiting(&latch, 1).await;
        assert_eq!(latch.status().await.unwrap().count, 1);
        counter.kill();
        arrival.kill();
        let fact = format!("process {} is forgotten", arrival.pid());
        let is_forgotten = || async { latch.status().await.unwrap().waiting == 0 };
        until(&fact, is_forgotten).await;
        assert_eq!(latch.status().await.unwrap().count, 1);
        let mut last = Role::start("latch::arrival", &latch);
        assert_eq!(last.next_report(), "passed");
        assert!(latch.status().await.unwrap().is_open());
    });
}

#[test]
fn ended_wait_leaves_no_waiter_and_keeps_its_count() {
    run(async {
        let (_manager, latch) = manager_and_latch(4).await;
        for time in [SHORT, Duration::ZERO] {
            assert_eq!(
                latch.wait().timeout(time).await,
                Err(CallError::timed_out())
            );
        }
        let arrived = latch.arrive_and_wait(1).timeout(SHORT).await;
        assert_eq!(arrived, Err(CallError::timed_out()));
        assert_eq!(latch.status().await.unwrap().count, 3);
        assert!(tokio::time::timeout(SHORT, latch.wait()).await.is_err());
        let dropped = latch.arrive_and_wait(1).now_or_never();
        assert_eq!(dropped, None);
        assert_eq!(latch.status().await.unwrap().waiting, 0);
        let mut waiting = Box::pin(latch.wait().timeout(Duration::MAX));
        assert!((&mut waiting).now_or_never().is_none());
        latch
            .count_down(latch.status().await.unwrap().count)
            .await
            .unwrap();
        assert_eq!(waiting.await, Ok(()));
    });
}

#[test]
fn plain_threads_and_pool_tasks_can_wait() {
    run(async {
        let (_manager, latch) = manager_and_latch(4).await;
        let impatient = latch.clone();
        let impatient = thread::spawn(move || {
            let timed_out = Err(CallError::timed_out());
            assert_eq!(impatient.wait().timeout(SHORT).blocking(), timed_out);
            let arrived = impatient.arrive_and_wait(0).timeout(SHORT).blocking();
            assert_eq!(arrived, timed_out);
        });
        impatient.join().unwrap();
        let threads = [0, 1].map(|by| {
            let latch = latch.clone();
            thread::spawn(move || match by {
                0 => latch.wait().blocking(),
                by => latch.arrive_and_wait(by).blocking(),
            })
        });
        until_waiting(&latch, 2).await;
        let pool = Pool::new(2).await.unwrap();
        let tasks = [(); 2].map(|()| pool.spawn(Arrive(latch.clone())));
        until("all parties except one have arrived", || async {
            let status = latch.status().await.unwrap();
            (status.count, status.waiting) == (1, 4)
        })
        .await;
        let token = serde_json::to_string(&latch).unwrap();
        let copy: Latch = serde_json::from_str(&token).unwrap();
        assert_eq!(copy.count_down(1).await, Ok(0));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        for task in tasks {
            assert_eq!(task.await, Ok(Ok(())));
        }
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, latch) = manager_and_latch(1).await;
        let _ = latch.wait().blocking();
    });
}

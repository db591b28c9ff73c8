//! The guarantees of a reentrant lock, through its proxy and from other processes.

use std::{sync::mpsc, thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    CallError, Manager, Owner, Pool, ReentrantLock, Task, Ticket, block_on, builders::Program,
    errors::Refusal,
};
use lockkeeper_test_support::{Role, Roles, Watchdog, report};
use serde::{Deserialize, Serialize};

use crate::{program, run};

pub(crate) fn register(program: Program) -> Program {
    program.task::<Enter>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("lock::reentrant::deep", |lock: ReentrantLock| async move {
        let _outer = lock.acquire().await.unwrap();
        let _inner = lock.acquire().await.unwrap();
        report("inside");
        std::future::pending::<()>().await;
    });
    roles.add(
        "lock::reentrant::successor",
        |(lock, ticket): (ReentrantLock, Ticket)| async move {
            let _adopted = lock.adopt(ticket).await.unwrap();
            let _again = lock.acquire().await.unwrap();
            report(&lock.status().await.unwrap().depth.to_string());
            std::future::pending::<()>().await;
        },
    );
    roles.add(
        "lock::reentrant::visitor",
        |lock: ReentrantLock| async move {
            report(&lock.try_acquire().await.unwrap().is_some().to_string());
        },
    );
}

/// Acquires twice in a pool task, and returns the depth.
#[derive(Serialize, Deserialize)]
struct Enter(ReentrantLock);

impl Task for Enter {
    const NAME: &'static str = "enter";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let _outer = self.0.acquire().await?;
        tokio::task::yield_now().await;
        let _inner = self.0.acquire().await?;
        Ok(self.0.status().await?.depth)
    }
}

async fn manager_and_lock() -> (Manager, ReentrantLock) {
    let manager = Manager::start().await.unwrap();
    let lock = manager.reentrant_lock().await.unwrap();
    (manager, lock)
}

async fn depth(lock: &ReentrantLock) -> u64 {
    lock.status().await.unwrap().depth
}

/// Returns whether another task could acquire the lock.
async fn admits_another_task(lock: &ReentrantLock) -> bool {
    let lock = lock.clone();
    let entered = tokio::spawn(async move { lock.try_acquire().await.unwrap().is_some() });
    entered.await.unwrap()
}

#[test]
fn task_acquires_again_and_others_do_not() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let outer = lock.acquire().await.unwrap();
        let inner = lock.acquire().await.unwrap();
        assert_eq!(outer.fence(), inner.fence());
        assert_eq!(depth(&lock).await, 2);
        assert!(!admits_another_task(&lock).await);
        drop(outer);
        assert!(
            !admits_another_task(&lock).await,
            "the release order does not matter"
        );
        drop(inner);
        assert!(admits_another_task(&lock).await);
    });
}

#[test]
fn task_is_the_same_owner_on_every_thread() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let tasks = [(); 4].map(|()| {
            let lock = lock.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let _outer = lock.acquire().await.unwrap();
                    tokio::task::yield_now().await;
                    let _inner = lock.acquire().await.unwrap();
                    assert_eq!(depth(&lock).await, 2);
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(depth(&lock).await, 0);
    });
}

#[test]
fn plain_thread_acquires_again_and_others_wait() {
    program();
    let _watchdog = Watchdog::start();
    let (_manager, lock) = block_on(manager_and_lock());
    let outer = lock.acquire().blocking().unwrap();
    let inner = lock.acquire().blocking().unwrap();
    let (tell, hear) = mpsc::channel();
    let other = thread::spawn(move || {
        assert!(lock.try_acquire().blocking().unwrap().is_none());
        let short = Duration::from_millis(1);
        assert_eq!(
            lock.acquire().timeout(short).blocking().map(drop),
            Err(CallError::timed_out())
        );
        tell.send(()).unwrap();
        lock.acquire().blocking().unwrap().fence()
    });
    let fence = outer.fence();
    hear.recv().unwrap();
    drop((outer, inner));
    assert!(other.join().unwrap() > fence);
}

#[test]
fn explicit_owner_acquires_from_any_task_and_two_owners_of_one_task_exclude_each_other() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let [left, right] = [(); 2].map(|()| lock.owned_by(Owner::new()));
        let guard = left.acquire().await.unwrap();
        assert!(admits_another_task(&left).await);
        assert!(right.try_acquire().await.unwrap().is_none());
        assert!(lock.try_acquire().await.unwrap().is_none());
        let ((), waited) = tokio::join!(
            async {
                let inner = left.acquire().await.unwrap();
                drop((guard, inner));
            },
            right.acquire()
        );
        waited.unwrap().release().await.unwrap();
        assert!(!lock.status().await.unwrap().is_held);
    });
}

#[test]
fn owner_cannot_be_sent_to_another_process() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let mine = lock.owned_by(Owner::new());
        let _guard = mine.acquire().await.unwrap();
        let mut visitor = Role::start("lock::reentrant::visitor", &mine);
        assert_eq!(visitor.next_report(), "false");
    });
}

#[test]
fn lock_of_a_dead_owner_is_never_reentered_by_the_next_process() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let mut last: Option<u32> = None;
        for _ in 0..10 {
            // Like the dead process, this one makes its first call, on its first thread, so its
            // owner number is the same.
            let mut nested = Role::start("lock::reentrant::deep", &lock);
            assert_eq!(nested.next_report(), "inside");
            assert_eq!(depth(&lock).await, 2);
            nested.kill();
            let guard = lock.acquire().await.unwrap();
            assert_eq!(depth(&lock).await, 1);
            let left = guard
                .abandoned()
                .expect("the process died with the lock")
                .holder
                .pid;
            assert_eq!(left, nested.pid());
            assert_ne!(last.replace(left), Some(left));
        }
    });
}

#[test]
fn hold_with_one_entry_can_be_given_to_another_process() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let outer = lock.acquire().await.unwrap();
        let ticket = lock.acquire().await.unwrap().into_ticket();
        let inside_twice = CallError::refused(Refusal::StillInside { entries: 2 });
        let adopted = lock.adopt(ticket.clone()).await;
        assert_eq!(adopted.map(drop), Err(inside_twice));
        assert_eq!(depth(&lock).await, 2);
        outer.release().await.unwrap();
        let mut successor = Role::start("lock::reentrant::successor", &(&lock, ticket));
        assert_eq!(successor.next_report(), "2");
        assert!(lock.try_acquire().await.unwrap().is_none());
        successor.kill();
        drop(lock.acquire().await.unwrap().strict().unwrap_err());
    });
}

#[test]
fn owner_beyond_the_maximum_depth_is_refused_and_keeps_the_lock() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let lock = lock.owned_by(Owner::new());
        let mut guards = Vec::new();
        while guards.len() < 65_536 {
            let entries = (0..1_024).map(|_| lock.acquire());
            guards.extend(futures::future::try_join_all(entries).await.unwrap());
        }
        let too_deep = CallError::refused(Refusal::TooDeep { most: 65_536 });
        assert_eq!(lock.acquire().await.map(drop), Err(too_deep));
        assert_eq!(depth(&lock).await, 65_536);
        guards.pop().unwrap().release().await.unwrap();
        assert!(lock.try_acquire().await.unwrap().is_some());
    });
}

#[test]
fn force_unlock_loses_every_guard() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let guards = [lock.acquire().await.unwrap(), lock.acquire().await.unwrap()];
        assert!(lock.force_unlock().await.unwrap());
        for guard in guards {
            guard.lost().await;
            assert!(!guard.is_valid());
            let not_held = CallError::refused(Refusal::NotHeld);
            assert_eq!(guard.release().await, Err(not_held));
        }
        assert!(admits_another_task(&lock).await);
    });
}

#[test]
fn dropped_entry_undoes_only_itself() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let outer = lock.acquire().await.unwrap();
        // The call is sent, and dropped with or without its answer.
        drop(lock.acquire().now_or_never());
        assert_eq!(depth(&lock).await, 1);
        assert!(outer.is_valid());
    });
}

#[test]
fn each_task_of_a_pool_is_an_owner() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let pool = Pool::builder(2).start().await.unwrap();
        let tasks = (0..20).map(|_| Enter(lock.clone()));
        for depth in pool.try_map(tasks).await.unwrap() {
            assert_eq!(depth, Ok(2));
        }
    });
}

#[test]
fn owner_that_waits_twice_is_granted_twice() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let holder = lock.owned_by(Owner::new()).acquire().await.unwrap();
        let both = tokio::spawn({
            let lock = lock.clone();
            async move {
                let (one, other) = tokio::join!(lock.acquire(), lock.acquire());
                let depth = depth(&lock).await;
                drop((one.unwrap(), other.unwrap()));
                depth
            }
        });
        while lock.status().await.unwrap().waiting < 2 {
            tokio::task::yield_now().await;
        }
        drop(holder);
        assert_eq!(both.await.unwrap(), 2);
    });
}

#[test]
fn task_is_still_the_owner_after_into_ticket() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let entered = tokio::spawn(async move {
            let ticket = lock.acquire().await.unwrap().into_ticket();
            let again = lock.try_acquire().await.unwrap();
            lock.release_ticket(ticket).await.unwrap();
            again.is_some()
        });
        assert!(entered.await.unwrap());
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let _ = lock.acquire().blocking();
    });
}

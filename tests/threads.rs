//! Plain threads that call: alone on a connection they read for themselves, in company they do not.

mod support;
#[path = "support/until.rs"]
mod until;
#[path = "support/waiting.rs"]
mod waiting;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    thread,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Either, join, select},
    stream::FuturesUnordered,
};
use lockkeeper::{CallError, Manager, block_on};
use support::Watchdog;
use tokio::{runtime::Builder, task::JoinSet};
use waiting::until_waiting;

#[test]
fn a_thread_alone_has_its_grants_and_its_timeouts() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    for _ in 0..200 {
        drop(lock.blocking_acquire().unwrap());
    }
    let guard = lock.blocking_acquire().unwrap();
    let brief = Duration::from_millis(20);
    let late = block_on(lock.acquire_timeout(brief));
    assert!(matches!(late, Err(CallError::TimedOut)), "{late:?}");
    drop(guard);
    drop(lock.blocking_acquire().unwrap());
}

#[test]
fn threads_that_come_and_go_on_one_connection_all_have_their_turns() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let sum = block_on(manager.value(0u64)).unwrap();
    thread::scope(|scope| {
        for thread in 0..6 {
            let (lock, sum) = (lock.clone(), sum.clone());
            scope.spawn(move || {
                // They end one after the other, so that each number of them is alone in the end.
                for _ in 0..(thread + 1) * 50 {
                    let _guard = lock.blocking_acquire().unwrap();
                    let now = block_on(sum.get()).unwrap();
                    block_on(sum.set(now + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(block_on(sum.get()).unwrap(), 21 * 50);
}

#[test]
fn threads_and_tasks_of_one_process_have_their_turns() {
    support::run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let mut all = JoinSet::new();
        for _ in 0..3 {
            let of_a_task = lock.clone();
            all.spawn(async move {
                for _ in 0..100 {
                    drop(of_a_task.acquire().await.unwrap());
                }
            });
            let of_a_thread = lock.clone();
            all.spawn_blocking(move || {
                for _ in 0..100 {
                    drop(of_a_thread.blocking_acquire().unwrap());
                }
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    });
}

/// Two managers, so that one thread waits on two connections.
#[test]
fn a_thread_waits_on_several_connections_whatever_polls_its_calls() {
    let _watchdog = Watchdog::start();
    let (one, other) = block_on(async { (Manager::start().await, Manager::start().await) });
    let (one, other) = (one.unwrap(), other.unwrap());
    let (first, second) = block_on(join(one.lock(), other.lock()));
    let (first, second) = (first.unwrap(), second.unwrap());
    for is_first_freed_first in [true, false] {
        let mut held = [
            first.blocking_acquire().unwrap(),
            second.blocking_acquire().unwrap(),
        ];
        if !is_first_freed_first {
            held.swap(0, 1);
        }
        let probes = [first.clone(), second.clone()];
        let freer = thread::spawn(move || {
            for lock in &probes {
                block_on(until_waiting(lock, 1));
            }
            for guard in held {
                drop(guard);
            }
        });
        // These poll only the one of their futures that was woken.
        let all: FuturesUnordered<_> = [first.acquire(), second.acquire()].into_iter().collect();
        let guards: Vec<_> = block_on(all.collect());
        assert_eq!(guards.iter().filter(|guard| guard.is_ok()).count(), 2);
        freer.join().unwrap();
    }
}

#[test]
fn a_call_may_move_from_a_thread_to_a_runtime_and_back() {
    let _watchdog = Watchdog::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    for is_thread_first in [true, false] {
        let guard = lock.blocking_acquire().unwrap();
        let mut call = pin!(lock.acquire());
        let once = poll_fn(|task| {
            assert!(call.as_mut().poll(task).is_pending());
            Poll::Ready(())
        });
        if is_thread_first {
            block_on(once);
        } else {
            runtime.block_on(once);
        }
        drop(guard);
        let granted = if is_thread_first {
            runtime.block_on(call)
        } else {
            block_on(call)
        };
        drop(granted.unwrap());
    }
}

#[test]
fn a_thread_alone_hears_of_the_managers_end() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let _guard = lock.blocking_acquire().unwrap();
    let caller = {
        let lock = lock.clone();
        thread::spawn(move || lock.blocking_acquire().map(drop))
    };
    // Asked over the same connection, so that the caller has had company.
    block_on(until_waiting(&lock, 1));
    block_on(manager.shutdown());
    let ended = caller.join().unwrap();
    assert!(
        matches!(ended, Err(CallError::Disconnected { .. })),
        "{ended:?}"
    );
}

#[test]
fn a_thread_alone_is_woken_by_what_another_thread_does() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let guard = lock.blocking_acquire().unwrap();
    let (tell, told) = futures::channel::oneshot::channel();
    let teller = thread::spawn({
        let lock = lock.clone();
        move || {
            block_on(until_waiting(&lock, 1));
            tell.send(()).unwrap();
        }
    });
    // Nothing comes over the socket: what ends the wait is the other half.
    let outcome = block_on(select(Box::pin(lock.acquire()), told));
    assert!(matches!(outcome, Either::Right(_)));
    drop(outcome);
    teller.join().unwrap();
    drop(guard);
    drop(lock.blocking_acquire().unwrap());
}

//! Calls on plain threads: a single caller of a connection reads the socket itself, and several
//! callers do not.

use std::{
    cell::{Cell, RefCell},
    fs,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Either, join, select},
    stream::FuturesUnordered,
};
use lockkeeper::{CallError, LockGuard, Manager, block_on};
use lockkeeper_test_support::{Watchdog, in_own_process};
use tokio::{
    runtime::Builder,
    sync::mpsc,
    task::{JoinSet, block_in_place},
};

use crate::{lock::waiting::until_waiting, run};

#[test]
fn single_thread_gets_its_grants_and_timeouts() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    for _ in 0..200 {
        drop(lock.acquire().blocking().unwrap());
    }
    let guard = lock.acquire().blocking().unwrap();
    let brief = Duration::from_millis(20);
    let late = block_on(lock.acquire().timeout(brief));
    assert!(matches!(late, Err(CallError::TimedOut(_))), "{late:?}");
    drop(guard);
    drop(lock.acquire().blocking().unwrap());
}

#[test]
fn changing_threads_of_one_connection_all_get_their_grants() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let sum = block_on(manager.value(0u64)).unwrap();
    thread::scope(|scope| {
        for thread in 0..6 {
            let (lock, sum) = (lock.clone(), sum.clone());
            scope.spawn(move || {
                // The threads end one after the other, so the connection has each number of callers
                // down to one.
                for _ in 0..(thread + 1) * 50 {
                    let _guard = lock.acquire().blocking().unwrap();
                    let now = block_on(sum.get()).unwrap();
                    block_on(sum.set(now + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(block_on(sum.get()).unwrap(), 21 * 50);
}

#[test]
fn threads_and_tasks_of_one_process_all_get_their_grants() {
    run(async {
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
                    drop(of_a_thread.acquire().blocking().unwrap());
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
fn thread_waits_on_several_connections_with_any_combinator() {
    let _watchdog = Watchdog::start();
    let (one, other) = block_on(async { (Manager::start().await, Manager::start().await) });
    let (one, other) = (one.unwrap(), other.unwrap());
    let (first, second) = block_on(join(one.lock(), other.lock()));
    let (first, second) = (first.unwrap(), second.unwrap());
    for is_first_freed_first in [true, false] {
        let mut held = [
            first.acquire().blocking().unwrap(),
            second.acquire().blocking().unwrap(),
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
        // `FuturesUnordered` polls only the future that was woken.
        let all: FuturesUnordered<_> = [first.acquire(), second.acquire()].into_iter().collect();
        let guards: Vec<_> = block_on(all.collect());
        assert_eq!(guards.iter().filter(|guard| guard.is_ok()).count(), 2);
        freer.join().unwrap();
    }
}

#[test]
fn call_may_move_from_a_thread_to_a_runtime_and_back() {
    let _watchdog = Watchdog::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    for is_thread_first in [true, false] {
        let guard = lock.acquire().blocking().unwrap();
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
fn single_thread_notices_the_managers_end() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let _guard = lock.acquire().blocking().unwrap();
    let caller = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire().blocking().map(drop))
    };
    // This call uses the same connection, so the connection had a second caller.
    block_on(until_waiting(&lock, 1));
    block_on(manager.shutdown());
    let ended = caller.join().unwrap();
    assert!(
        matches!(ended, Err(CallError::Disconnected { .. })),
        "{ended:?}"
    );
}

#[test]
fn single_thread_is_woken_by_another_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let guard = lock.acquire().blocking().unwrap();
    let (tell, shown) = futures::channel::oneshot::channel();
    let teller = thread::spawn({
        let lock = lock.clone();
        move || {
            block_on(until_waiting(&lock, 1));
            tell.send(()).unwrap();
        }
    });
    // No bytes arrive on the socket: the other future ends the wait.
    let outcome = block_on(select(Box::pin(lock.acquire()), shown));
    assert!(matches!(outcome, Either::Right(_)));
    drop(outcome);
    teller.join().unwrap();
    drop(guard);
    drop(lock.acquire().blocking().unwrap());
}

#[test]
fn repeated_wakeups_do_not_starve_a_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let is_done = Cell::new(false);
    let call = async {
        drop(lock.acquire().await.unwrap());
        is_done.set(true);
    };
    let restless = async {
        while !is_done.get() {
            tokio::task::yield_now().await;
        }
    };
    block_on(join(call, restless));
}

#[test]
fn always_ready_future_does_not_starve_a_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let is_done = AtomicBool::new(false);
    let (send, mut receive) = mpsc::channel(1000);
    thread::scope(|scope| {
        let is_done = &is_done;
        // The thread owns the sender, so its end is noticed even if nothing was sent since the last
        // poll.
        scope.spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                if send.blocking_send(1).is_err() {
                    break;
                }
            }
        });
        let call = async {
            drop(lock.acquire().await.unwrap());
            is_done.store(true, Ordering::Relaxed);
        };
        let busy = async {
            while !is_done.load(Ordering::Relaxed) && receive.recv().await.is_some() {}
            receive.close();
        };
        block_on(join(call, busy));
    });
}

#[test]
fn nested_executor_on_a_thread_may_sleep() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    block_on(async {
        drop(futures::executor::block_on(lock.acquire()).unwrap());
    });
    let other = Builder::new_current_thread().enable_all().build().unwrap();
    block_on(async {
        block_in_place(|| drop(other.block_on(lock.acquire()).unwrap()));
    });
}

/// The inner wait sleeps on another connection, and receives the wakeup for the outer one.
#[test]
fn thread_may_wait_inside_a_wait() {
    let _watchdog = Watchdog::start();
    let (one, other) = block_on(async { (Manager::start().await, Manager::start().await) });
    let (one, other) = (one.unwrap(), other.unwrap());
    let outer = block_on(one.lock()).unwrap();
    let inner = block_on(other.lock()).unwrap();
    let held = [
        outer.acquire().blocking().unwrap(),
        inner.acquire().blocking().unwrap(),
    ];
    let probe = inner.clone();
    let freer = thread::spawn(move || {
        block_on(until_waiting(&probe, 1));
        for guard in held {
            drop(guard);
        }
    });
    block_on(join(
        async { drop(outer.acquire().await.unwrap()) },
        async { block_in_place(|| drop(inner.acquire().blocking().unwrap())) },
    ));
    freer.join().unwrap();
}

thread_local! {
    static KEPT: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
}

#[test]
fn call_in_a_thread_local_is_dropped_with_its_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let guard = lock.acquire().blocking().unwrap();
    let kept = lock.clone();
    let thread = thread::spawn(move || {
        let call = Box::pin(async move { drop(kept.acquire().await) });
        KEPT.set(Some(call));
        block_on(poll_fn(|task| {
            let is_waiting = |kept: &mut Option<Pin<Box<dyn Future<Output = ()>>>>| {
                kept.as_mut()
                    .is_some_and(|call| call.as_mut().poll(task).is_pending())
            };
            assert!(KEPT.with_borrow_mut(is_waiting));
            Poll::Ready(())
        }));
    });
    thread.join().unwrap();
    drop(guard);
    drop(lock.acquire().blocking().unwrap());
}

thread_local! {
    static GUARD: RefCell<Option<LockGuard>> = const { RefCell::new(None) };
}

#[test]
fn guard_in_a_thread_local_is_released_at_the_end_of_its_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let kept = lock.clone();
    let thread = thread::spawn(move || {
        // The thread-locals of the calls are made later, so they are destroyed before the guard.
        GUARD.set(None);
        GUARD.set(Some(kept.acquire().blocking().unwrap()));
    });
    thread.join().unwrap();
    drop(lock.acquire().blocking().unwrap());
}

#[test]
fn several_threads_need_no_descriptors() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.lock().await.unwrap();
            // From here on the background runtime reads for all threads.
            drop(lock.acquire().await.unwrap());
            let before = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let all_there = Arc::new(Barrier::new(51));
            let threads: Vec<_> = (0..50)
                .map(|_| {
                    let (lock, all_there) = (lock.clone(), Arc::clone(&all_there));
                    thread::spawn(move || {
                        drop(lock.acquire().blocking().unwrap());
                        all_there.wait();
                        all_there.wait();
                    })
                })
                .collect();
            all_there.wait();
            let now = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            all_there.wait();
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(now < before + 20, "{before} descriptors, then {now}");
        });
    });
}

#[test]
fn ended_connection_does_not_keep_waking_a_thread() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let _guard = lock.acquire().blocking().unwrap();
    let mut polls = 0;
    block_on(async {
        let mut call = Box::pin(lock.acquire());
        assert!(futures::poll!(&mut call).is_pending());
        manager.shutdown().await;
        // The call has its answer, but is not polled.
        let mut nap = pin!(tokio::time::sleep(Duration::from_millis(200)));
        poll_fn(|task| {
            polls += 1;
            nap.as_mut().poll(task)
        })
        .await;
    });
    assert!(polls < 20, "{polls} polls in a nap");
}

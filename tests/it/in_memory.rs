//! Managers in the memory of a test. They use the clock of its runtime, which may be paused, and end
//! with the test.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{
    Address, CallError, Limits, Lock, Manager, Pool, Proxy, StartError, Task, block_on,
    builders::Program,
    deadlock::DeadlockPolicy,
    errors::Refusal,
    kind::{Call, CallId, HangUp, Operation, Operations, Primitive, Serve},
    lock_all,
};
use lockkeeper_test_support::Watchdog;
use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};

use crate::run;

const MINUTE: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3600);

/// The resolution of a runtime's timer.
const TICK: Duration = Duration::from_millis(1);

/// More than the sum of all rounding in a test.
const ROUNDING: Duration = Duration::from_millis(20);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Acquire>()
}

/// Acquires a lock in a worker process.
#[derive(Debug, Serialize, Deserialize)]
struct Acquire(Lock);

impl Task for Acquire {
    const NAME: &'static str = "in_memory::acquire";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        self.0.acquire().await.map(drop)
    }
}

/// Asserts that a time has passed, by the clock of the runtime.
#[track_caller]
fn assert_took(begun: Instant, time: Duration) {
    let took = begun.elapsed();
    assert!(took >= time && took < time + ROUNDING, "{took:?}");
}

/// Asserts that a manager cannot be reached any more.
async fn assert_gone(address: Address) {
    let gone = Manager::connect(address).await.map(drop);
    assert!(matches!(gone, Err(CallError::NoManager { .. })), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn timeout_of_an_hour_passes_on_the_paused_clock_without_waiting() {
    let real = std::time::Instant::now();
    Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let begun = Instant::now();
        for hours in 1..=100 {
            let late = lock.acquire().timeout(HOUR).await.map(drop);
            assert_eq!(late, Err(CallError::timed_out()));
            assert_took(begun, HOUR * hours);
        }
        assert!(guard.is_valid());
    })
    .await
    .unwrap();
    assert!(real.elapsed() < MINUTE, "{:?}", real.elapsed());
}

#[tokio::test(start_paused = true)]
async fn paused_clock_does_not_advance_while_there_is_work() {
    let begun = Instant::now();
    // The clock would advance to this timer if the runtime were idle.
    let timer = tokio::spawn(time::sleep(HOUR));
    Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let calls = (0..200).map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    // Its deadline is a timer to which an idle runtime would advance.
                    drop(lock.acquire().timeout(HOUR).await.unwrap());
                }
            })
        });
        for call in futures::future::join_all(calls).await {
            call.unwrap();
        }
        let queue = manager.unbounded_queue::<Vec<u8>>().await.unwrap();
        let large = vec![7; 1 << 20];
        for _ in 0..4 {
            queue.put(large.clone()).await.unwrap();
        }
        for _ in 0..4 {
            assert_eq!(*queue.get().timeout(HOUR).await.unwrap(), large);
        }
    })
    .await
    .unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    timer.await.unwrap();
    assert_took(begun, HOUR);
}

#[tokio::test(start_paused = true)]
async fn release_after_a_minute_grants_after_a_minute() {
    Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let begun = Instant::now();
        let guard = lock.acquire().await.unwrap();
        let holder = tokio::spawn(async move {
            time::sleep(MINUTE).await;
            drop(guard);
        });
        let _granted = lock.acquire().timeout(HOUR).await.unwrap();
        assert_took(begun, MINUTE);
        holder.await.unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn deadline_and_grant_happen_in_the_order_of_the_clock() {
    Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        for (held, is_granted) in [(HOUR - 3 * TICK, true), (HOUR + 3 * TICK, false)] {
            let guard = lock.acquire().await.unwrap();
            let holder = tokio::spawn(async move {
                time::sleep(held).await;
                guard.release().await
            });
            let outcome = lock.acquire().timeout(HOUR).await;
            assert_eq!(outcome.is_ok(), is_granted, "{outcome:?}");
            drop(outcome);
            holder.await.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_of_a_call_counts_from_its_first_poll() {
    Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let queue = manager.queue::<u32>(1).await.unwrap();
        let event = manager.event().await.unwrap();
        let acquired = lock.acquire().timeout(HOUR);
        let taken = queue.get().timeout(HOUR);
        let set = event.wait().timeout(HOUR);
        let all = lock_all([&lock]).timeout(HOUR);
        time::sleep(2 * HOUR).await;
        let begun = Instant::now();
        let late = [
            acquired.await.map(drop),
            taken.await.map(drop).map_err(CallError::from),
            set.await.map(drop),
            all.await.map(drop),
        ];
        assert_eq!(late, [(); 4].map(|()| Err(CallError::timed_out())));
        assert_took(begun, 4 * HOUR);
        drop(guard);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn several_waits_share_one_timeout() {
    Manager::in_memory(async |manager| {
        let [first, second] = [manager.lock().await, manager.lock().await].map(Result::unwrap);
        let begun = Instant::now();
        let (guard, _held) = (first.acquire().await.unwrap(), second.acquire().await);
        tokio::spawn(async move {
            time::sleep(HOUR / 2).await;
            drop(guard);
        });
        let late = lock_all([&first, &second]).timeout(HOUR).await.map(drop);
        assert_eq!(late, Err(CallError::timed_out()));
        assert_took(begun, HOUR);
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn barrier_breaks_at_the_timeout() {
    Manager::in_memory(async |manager| {
        let barrier = manager.barrier(2).await.unwrap();
        let begun = Instant::now();
        let late = barrier.wait().timeout(HOUR).await.map(drop);
        assert!(late.is_err(), "the other party has not arrived");
        assert_took(begun, HOUR);
        assert!(barrier.status().await.unwrap().broken.is_some());
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn any_client_in_this_process_reaches_the_manager() {
    Manager::in_memory(async |manager| {
        let address = manager.address().clone();
        assert!(address.to_string().starts_with("memory:"), "{address}");
        assert_eq!(address.path(), None);
        let lock = manager.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let tasks = (0..8).map(|_| {
            let address = address.clone();
            tokio::spawn(async move {
                let manager = Manager::connect(address).await?;
                let lock = manager.named("jobs").lock().await?;
                lock.acquire().timeout(HOUR).await.map(drop)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        time::sleep(MINUTE).await;
        let info = lock.info().await.unwrap();
        assert_eq!(info.parts[0].waiting, 8);
        drop(guard);
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
}

#[test]
fn plain_threads_and_other_runtimes_reach_the_manager() {
    run(Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let (waiting, ready) = std::sync::mpsc::channel();
        let thread = thread::spawn({
            let lock = lock.clone();
            move || {
                waiting.send(()).unwrap();
                drop(lock.acquire().blocking().unwrap());
                block_on(lock.status()).map(drop)
            }
        });
        let other = thread::spawn({
            let lock = lock.clone();
            move || run(async move { lock.acquire().await.map(drop) })
        });
        ready.recv().unwrap();
        lockkeeper_test_support::until("both wait", async || {
            lock.status().await.unwrap().waiting == 2
        })
        .await;
        drop(guard);
        let joined = tokio::task::spawn_blocking(|| (thread.join(), other.join()));
        let (thread, other) = joined.await.unwrap();
        thread.unwrap().unwrap();
        other.unwrap().unwrap();
    }))
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn manager_has_the_kinds_limits_shards_and_deadlocks_of_its_builder() {
    let limits = Limits {
        objects: 2,
        ..Limits::default()
    };
    let builder = Manager::builder().limits(limits).register::<Sum>();
    builder
        .in_memory(async |manager| {
            let sum: Proxy<Sum> = manager.open(5).await.unwrap();
            assert_eq!(sum.call(Add(2)).await.unwrap(), 7);
            manager.lock().await.unwrap();
            let refused = manager.lock().await.map(drop).unwrap_err();
            assert!(refused.to_string().contains("at most 2"), "{refused}");
        })
        .await
        .unwrap();
    let several = Manager::builder().shards(3);
    several
        .in_memory(async |manager| {
            let mut shards = std::collections::BTreeSet::new();
            for number in 0..20 {
                let lock = manager.named(&number.to_string()).lock().await.unwrap();
                drop(lock.acquire().await.unwrap());
                shards.insert(lock.token().address.to_string());
            }
            assert_eq!(shards.len(), 3);
        })
        .await
        .unwrap();
    let begun = Instant::now();
    let finds = Manager::builder().deadlocks(DeadlockPolicy::new().fail());
    finds
        .in_memory(async |manager| {
            let [one, two] = [manager.lock().await, manager.lock().await].map(Result::unwrap);
            let both = tokio::join!(both(one.clone(), two.clone()), both(two, one));
            let both = [both.0, both.1];
            let failed = |it: &&Result<(), CallError>| matches!(it, Err(CallError::Deadlock(_)));
            assert_eq!(both.iter().filter(failed).count(), 1, "{both:?}");
        })
        .await
        .unwrap();
    assert!(
        begun.elapsed() > MINUTE,
        "one caller held its lock for a minute"
    );
}

/// Acquires two locks one after the other.
async fn both(first: Lock, second: Lock) -> Result<(), CallError> {
    tokio::spawn(async move {
        let _first = first.acquire().await?;
        time::sleep(MINUTE).await;
        second.acquire().await.map(drop)
    })
    .await
    .unwrap()
}

/// A sum.
struct Sum(u64);

#[derive(Serialize, Deserialize)]
struct Add(u64);

impl Operation for Add {
    const NAME: &'static str = "add";
    type Reply = u64;
}

impl Primitive for Sum {
    const KIND: &'static str = "in_memory::sum";
    type Spec = u64;

    fn create(first: u64) -> Result<Self, Refusal> {
        Ok(Self(first))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Add>();
    }

    fn withdraw(&mut self, _: CallId) {}

    fn hang_up(&mut self, _: &HangUp) {}
}

impl Serve<Add> for Sum {
    fn serve(&mut self, Add(more): Add, call: Call<u64>) {
        self.0 += more;
        call.reply(self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_managers_are_independent() {
    Manager::in_memory(async |one| {
        Manager::in_memory(async |other| {
            assert_ne!(one.address(), other.address());
            let [one, other] = [&one, &other].map(|manager| manager.named("jobs").lock());
            let [one, other] = [one.await.unwrap(), other.await.unwrap()];
            let _held = one.acquire().await.unwrap();
            assert!(other.try_acquire().await.unwrap().is_some());
            assert!(one.try_acquire().await.unwrap().is_none());
        })
        .await
        .unwrap();
        one.lock().await.unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn manager_ends_with_the_test() {
    let begun = Instant::now();
    let (lock, guard, address) = Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        (lock, guard, manager.address().clone())
    })
    .await
    .unwrap();
    guard.lost().await;
    let late = lock.acquire().await.map(drop);
    assert!(
        matches!(late, Err(CallError::Disconnected { .. })),
        "{late:?}"
    );
    assert_gone(address).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn shutdown_and_the_drop_of_the_last_handle_end_the_manager_within_the_test() {
    for is_dropped in [true, false] {
        Manager::in_memory(async |manager| {
            let address = manager.address().clone();
            let lock = manager.lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let waiting = tokio::spawn(async move { lock.acquire().await.map(drop) });
            if is_dropped {
                drop(manager);
            } else {
                manager.shutdown().await;
                assert_gone(address.clone()).await;
            }
            guard.lost().await;
            let shown = waiting.await.unwrap().unwrap_err().to_string();
            assert!(shown.contains("it was shut down"), "{shown}");
            assert!(shown.ends_with(
                "keep the `Manager` that `start()` returned for as long as its objects are used"
            ));
            assert_gone(address).await;
        })
        .await
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_test_fails_only_the_test_and_leaves_no_manager() {
    let address = Address::try_from("memory:panic_of_the_test").unwrap();
    let builder = || Manager::builder().address(address.clone());
    let mut kept = None;
    let test = builder().in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        kept = Some(lock.acquire().await.unwrap());
        panic!("on purpose");
    });
    let panicked = AssertUnwindSafe(test).catch_unwind().await.map(drop);
    let payload = panicked.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    kept.unwrap().lost().await;
    assert_gone(address.clone()).await;
    builder().in_memory(async |_| ()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn runtime_that_is_dropped_at_any_point_leaves_no_manager() {
    let address = Address::try_from("memory:dropped_midway").unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    for turns in 0..60 {
        let test = {
            let polls = Arc::clone(&polls);
            Manager::builder()
                .address(address.clone())
                .in_memory(async move |manager| {
                    let lock = manager.lock().await.unwrap();
                    let _guard = lock.acquire().await.unwrap();
                    polls.fetch_add(1, Ordering::Relaxed);
                    let late = lock.acquire().timeout(HOUR).await.map(drop);
                    assert_eq!(late, Err(CallError::timed_out()));
                    polls.fetch_add(1, Ordering::Relaxed);
                })
        };
        let mut test = Box::pin(test);
        for _ in 0..turns {
            if futures::poll!(&mut test).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(test);
        assert_gone(address.clone()).await;
    }
    assert!(
        polls.load(Ordering::Relaxed) > 0,
        "the future was dropped before a poll"
    );
}

#[test]
fn manager_in_memory_is_reached_from_a_thread_with_its_own_manager() {
    // The manager has its own thread and clock, and this runtime's clock is paused.
    let _watchdog = Watchdog::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let address = Address::try_from("memory:with_a_thread_of_its_own").unwrap();
        let builder = || Manager::builder().address(address.clone());
        let manager = builder().shards(2).start().await.unwrap();
        let taken = builder().start().await.map(drop).unwrap_err();
        assert_eq!(
            taken,
            StartError::AddressInUse {
                address: address.clone()
            }
        );
        for name in ["jobs", "stock"] {
            let lock = manager.named(name).lock().await.unwrap();
            let _guard = lock.acquire().await.unwrap();
            assert!(lock.try_acquire().await.unwrap().is_none());
        }
        manager.shutdown().await;
        assert_gone(address.clone()).await;
    });
}

#[test]
fn worker_of_a_pool_cannot_reach_it_and_the_error_says_why() {
    run(Manager::in_memory(async |manager| {
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(1).await.unwrap();
        let Err(error) = pool.apply(Acquire(lock)).await.unwrap() else {
            panic!("a worker reached the manager of another process");
        };
        let CallError::NoManager {
            address,
            why,
            advice,
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(address, manager.address());
        assert!(advice.contains("a worker of a pool"), "{advice}");
        assert!(
            why.contains("reachable only within the process that hosts the manager"),
            "{why}"
        );
    }))
    .unwrap();
}

#[test]
fn address_that_does_not_fit_the_kind_of_manager_is_refused() {
    run(async {
        let unusable = |error: StartError| match error {
            StartError::InvalidSettings(why) => why,
            other => panic!("{other:?}"),
        };
        let builder = |address: &str| Manager::builder().address(address);
        let elsewhere = builder("jobs").in_memory(async |_| ()).await;
        assert!(unusable(elsewhere.unwrap_err()).contains("use memory:NAME"));
        let spawned = builder("memory:jobs").spawn().await.map(drop);
        assert!(unusable(spawned.unwrap_err()).contains("only within one process"));
        let unknown = builder("carrier:pigeon").start().await.map(drop);
        let unknown = unknown.unwrap_err().to_string();
        assert!(
            unknown.contains("no transport for \"carrier\""),
            "{unknown}"
        );
        let unknown = Manager::connect("carrier:pigeon").await.map(drop);
        assert!(matches!(unknown, Err(CallError::NoManager { .. })));
    });
}

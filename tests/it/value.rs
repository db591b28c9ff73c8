//! The guarantees of a value, through its proxy and from other processes.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use futures::{FutureExt, TryStreamExt};
use lockkeeper::{
    CallError, Limits, Manager, Pool, Task, Value, block_on,
    builders::Program,
    errors::{Fault, Refusal, WrongSpec},
    guards::Versioned,
};
use lockkeeper_test_support::{
    Role, Roles, Watchdog, for_turns, report, run_in_turns, sweep, until,
};
use serde::{Deserialize, Serialize};

use crate::run;

/// A timeout that always ends before an event.
const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Count>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "value::setter",
        |(value, new): (Value<u64>, u64)| async move {
            value.set(new).await.unwrap();
            report("has set it");
            pending::<()>().await;
        },
    );
    roles.add(
        "value::follower",
        |(value, last): (Value<u64>, u64)| async move {
            let mut seen = value.versioned().await.unwrap();
            while seen.value < last {
                let next = value.wait_since(seen.version).await.unwrap();
                assert!(next.version > seen.version && next.value > seen.value);
                seen = next;
            }
            report(&seen.value.to_string());
        },
    );
}

/// Increments the value a number of times.
#[derive(Serialize, Deserialize)]
struct Count {
    counter: Value<u64>,
    times: u64,
}

impl Task for Count {
    const NAME: &'static str = "value::count";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let mut last = 0;
        for _ in 0..self.times {
            last = self.counter.fetch_add(1).await?;
        }
        Ok(last)
    }
}

async fn value(initial: u64) -> (Manager, Value<u64>) {
    let manager = Manager::start().await.unwrap();
    let value = manager.value(initial).await.unwrap();
    (manager, value)
}

async fn until_waiting(value: &Value<u64>, waiting: u64) {
    until("the calls wait", || async {
        value.status().await.unwrap().waiting == waiting
    })
    .await;
}

#[test]
fn get_returns_the_last_set_and_each_set_counts() {
    run(async {
        let (_manager, value) = value(7).await;
        assert_eq!(value.get().await, Ok(7));
        assert_eq!(value.set(8).await, Ok(1));
        assert_eq!(value.set(8).await, Ok(2));
        assert_eq!(value.swap(9).await, Ok(8));
        let (version, value_now) = (3, 9);
        let now = Versioned {
            version,
            value: value_now,
        };
        assert_eq!(value.versioned().await, Ok(now));
        let status = value.status().await.unwrap();
        assert_eq!((status.version, status.bytes, status.waiting), (3, 1, 0));
    });
}

#[test]
fn exchange_returns_the_old_or_the_current_value() {
    run(async {
        let (manager, value) = value(7).await;
        assert_eq!(value.compare_exchange(7, 8).await, Ok(Ok(7)));
        assert_eq!(value.compare_exchange(7, 9).await, Ok(Err(8)));
        assert_eq!(value.versioned().await.unwrap().version, 1);

        // Equality is `==`, and not equality of the encoding.
        let map = |keys: &[u32]| keys.iter().map(|key| (*key, ())).collect::<HashMap<_, _>>();
        let keys: Vec<u32> = (0..100).collect();
        let maps = manager.value(map(&keys)).await.unwrap();
        let (other, none) = (map(&keys), map(&[]));
        assert_eq!(
            maps.compare_exchange(other.clone(), none.clone()).await,
            Ok(Ok(map(&keys)))
        );
        assert_eq!(
            maps.compare_exchange(other, none.clone()).await,
            Ok(Err(none))
        );
        let float = manager.value(f64::NAN).await.unwrap();
        assert!(
            float
                .compare_exchange(f64::NAN, -0.0)
                .await
                .unwrap()
                .is_ok()
        );
        assert_eq!(float.compare_exchange(0.0, 1.0).await, Ok(Ok(-0.0)));
    });
}

#[test]
fn each_update_of_several_processes_is_applied_once() {
    run(async {
        const TIMES: u64 = 100;
        let (_manager, counter) = value(0).await;
        let pool = Pool::new(3).await.unwrap();
        let counts = (0..3).map(|_| Count {
            counter: counter.clone(),
            times: TIMES,
        });
        let last = pool.try_map(counts).await.unwrap();
        assert!(last.contains(&Ok(3 * TIMES - 1)), "{last:?}");
        let now = counter.versioned().await.unwrap();
        assert_eq!((now.value, now.version), (3 * TIMES, 3 * TIMES));
        pool.join().await.unwrap();
    });
}

#[test]
fn update_runs_again_after_a_concurrent_set() {
    run(async {
        let (_manager, value) = value(1).await;
        let rounds = Arc::new(AtomicU32::new(0));
        let (counted, intruder) = (Arc::clone(&rounds), value.clone());
        let updated = value.update(move |seen| {
            if counted.fetch_add(1, Ordering::Relaxed) < 2 {
                let intruder = intruder.clone();
                let set = thread::spawn(move || block_on(intruder.set(seen + 10)));
                set.join().unwrap().unwrap();
            }
            seen * 2
        });
        assert_eq!(updated.await, Ok(21));
        assert_eq!(rounds.load(Ordering::Relaxed), 3);
        assert_eq!(value.versioned().await.unwrap().version, 3);
        assert_eq!(
            value.try_update(|seen| (seen < 42).then_some(0)).await,
            Ok(Err(42))
        );
        assert_eq!(
            value.try_update(|seen| seen.checked_sub(2)).await,
            Ok(Ok(42))
        );
        assert_eq!(value.fetch_add(2).await, Ok(40));
        assert_eq!(value.get().await, Ok(42));
    });
}

#[test]
fn every_watcher_notices_a_set_and_a_slow_one_gets_the_latest() {
    run(async {
        let (_manager, value) = value(0).await;
        let watchers = (0..100).map(|_| {
            let value = value.clone();
            tokio::spawn(async move { value.wait_since(0).await })
        });
        let watchers: Vec<_> = watchers.collect();
        until_waiting(&value, 100).await;
        assert_eq!(
            value.wait_since(0).timeout(SHORT).await,
            Err(CallError::timed_out())
        );
        value.set(5).await.unwrap();
        value.set(6).await.unwrap();
        for watcher in watchers {
            let seen = watcher.await.unwrap().unwrap();
            assert_eq!((seen.version, seen.value), (1, 5));
        }
        let late = value.wait_since(0).await.unwrap();
        assert_eq!((late.version, late.value), (2, 6));
        let future = value.wait_since(3).await;
        let Err(CallError::Refused(Refusal::Invalid(why), _)) = future else {
            panic!("the call was not refused: {future:?}");
        };
        assert!(why.contains("from 0 to 2, not 3"), "{why}");
    });
}

#[test]
fn other_processes_always_get_the_last_change() {
    run(async {
        const LAST: u64 = 300;
        let (_manager, value) = value(0).await;
        let mut followers = [(); 3].map(|()| Role::start("value::follower", &(&value, LAST)));
        until_waiting(&value, 3).await;
        for number in 1..=LAST {
            value.set(number).await.unwrap();
        }
        for follower in &mut followers {
            assert_eq!(follower.next_report(), LAST.to_string());
        }
        until_waiting(&value, 0).await;
    });
}

#[test]
fn stream_begins_with_the_current_value_and_yields_each_change() {
    run(async {
        let (manager, value) = value(1).await;
        let mut values = value.watch();
        assert_eq!(values.try_next().await.unwrap().unwrap().value, 1);
        assert!(values.try_next().now_or_never().is_none());
        value.set(2).await.unwrap();
        assert_eq!(values.try_next().await.unwrap().unwrap().value, 2);
        value.set(3).await.unwrap();
        value.set(4).await.unwrap();
        assert_eq!(values.try_next().await.unwrap().unwrap().version, 3);
        manager.remove(&value.token().name).await.unwrap();
        assert_eq!(values.try_next().await, Err(CallError::gone()));
        assert_eq!(values.try_next().await, Ok(None));
    });
}

#[test]
fn predicate_is_checked_for_the_current_value_and_after_each_change() {
    run(async {
        let (_manager, value) = value(1).await;
        let at_once = value.wait_for(|seen| *seen == 1).await.unwrap();
        assert_eq!((at_once.value, at_once.version), (1, 0));
        let zero = value.wait_for(|seen| *seen == 1).timeout(Duration::ZERO);
        assert_eq!(zero.await.map(|seen| seen.value), Ok(1));
        for timeout in [Duration::ZERO, SHORT] {
            let never = value.wait_for(|_| false).timeout(timeout).await;
            assert_eq!(never, Err(CallError::timed_out()));
        }
        let waiting = tokio::spawn({
            let value = value.clone();
            async move {
                value
                    .wait_for(|seen| *seen > 2)
                    .timeout(Duration::MAX)
                    .await
            }
        });
        for number in [0, 2, 3] {
            until_waiting(&value, 1).await;
            value.set(number).await.unwrap();
        }
        let seen = waiting.await.unwrap().unwrap();
        assert_eq!((seen.value, seen.version), (3, 3));
    });
}

#[test]
fn wait_that_is_dropped_at_any_point_leaves_no_waiter() {
    run_in_turns(async {
        let (_manager, value) = value(1).await;
        value.set(2).await.unwrap();
        sweep(async |turns| {
            assert!(for_turns(turns, value.wait_since(1)).await.is_none());
            assert_eq!(value.status().await.unwrap().waiting, 0);
            for_turns(turns, value.wait_since(0)).await.is_some()
        })
        .await;
    });
}

#[test]
fn value_of_another_type_is_refused_with_both_types_and_nothing_changes() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let level = manager.named("level");
        let value = level.value(7_u64).await.unwrap();
        value.set(8).await.unwrap();
        assert_eq!(level.value(7_u64).await.unwrap().get().await, Ok(8));
        let wrong = |asked: &str| {
            Err(CallError::refused(Refusal::WrongType {
                is: "u64".to_owned(),
                asked: asked.to_owned(),
            }))
        };
        // The bytes are equal, but the type is different.
        assert_eq!(level.value(7_u32).await.map(drop), wrong("u32"));
        assert_eq!(
            level.value("low".to_owned()).await.map(drop),
            wrong("String")
        );
        let spec = CallError::Fault(Fault::WrongSpec(Box::new(WrongSpec {
            name: "level".to_owned(),
            kind: "value".to_owned(),
            is: r#"the first value 7 of the schema id "u64""#.to_owned(),
            asked: r#"the first value 1 of the schema id "u64""#.to_owned(),
        })));
        assert_eq!(level.value(1_u64).await.map(drop), Err(spec));
        let token = serde_json::to_string(&value).unwrap();
        let other: Value<String> = serde_json::from_str(&token).unwrap();
        assert_eq!(other.get().await.map(drop), wrong("String"));
        let exchanged = other.compare_exchange(String::new(), String::new()).await;
        assert_eq!(exchanged.map(drop), wrong("String"));
        assert_eq!(
            other.set("high".to_owned()).await.map(drop),
            wrong("String")
        );
        let right: Value<u64> = serde_json::from_str(&token).unwrap();
        assert_eq!(
            right.versioned().await.map(|now| (now.version, now.value)),
            Ok((1, 8))
        );
    });
}

#[test]
fn value_may_have_any_serializable_type() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Plan {
        Nothing,
        Walk { to: BTreeMap<String, Option<u8>> },
    }

    run(async {
        let manager = Manager::start().await.unwrap();
        let walk = Plan::Walk {
            to: BTreeMap::from([("home".to_owned(), Some(1)), ("away".to_owned(), None)]),
        };
        let plan = manager.value(Plan::Nothing).await.unwrap();
        let token = serde_json::to_string(&plan).unwrap();
        let same: Value<Plan> = serde_json::from_str(&token).unwrap();
        assert_eq!(same.swap(walk.clone()).await, Ok(Plan::Nothing));
        assert_eq!(plan.get().await, Ok(walk));
        // A value may be a proxy.
        let lock = manager.lock().await.unwrap();
        let best = manager.value(lock.clone()).await.unwrap();
        let guard = lock.acquire().await.unwrap();
        assert!(
            best.get()
                .await
                .unwrap()
                .try_acquire()
                .await
                .unwrap()
                .is_none()
        );
        drop(guard);
    });
}

#[test]
fn value_above_the_limit_of_a_message_is_refused_and_nothing_changes() {
    run(async {
        let frame_bytes = 1 << 16;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let most = frame_bytes - 2048;
        let limit = CallError::Fault(Fault::limit("bytes of a value", most));
        let large = "x".repeat(most);
        assert_eq!(
            manager.value(large.clone()).await.map(drop),
            Err(limit.clone())
        );
        let fits = "x".repeat(most - 3);
        let value = manager.value(fits.clone()).await.unwrap();
        assert_eq!(value.set(large.clone()).await, Err(limit.clone()));
        assert_eq!(value.update(move |_| large.clone()).await, Err(limit));
        assert_eq!(
            value
                .compare_exchange(fits.clone(), "small".to_owned())
                .await,
            Ok(Ok(fits.clone()))
        );
        assert_eq!(value.swap(fits).await, Ok("small".to_owned()));
    });
}

#[test]
fn death_of_a_setter_changes_nothing_and_a_dead_watcher_is_removed() {
    run(async {
        let (_manager, value) = value(1).await;
        let mut setter = Role::start("value::setter", &(&value, 5_u64));
        assert_eq!(setter.next_report(), "has set it");
        let mut follower = Role::start("value::follower", &(&value, 6_u64));
        until_waiting(&value, 1).await;
        setter.kill();
        follower.kill();
        until_waiting(&value, 0).await;
        let now = value.versioned().await.unwrap();
        let dead = setter.pid();
        assert_eq!((now.version, now.value), (1, 5), "{dead} had set it");
    });
}

#[test]
fn plain_threads_wait_for_changes() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let value = block_on(manager.value(0_u64)).unwrap();
    let waiting = {
        let value = value.clone();
        thread::spawn(move || {
            let first = value.wait_since(0).blocking().unwrap();
            let second = value.wait_for(|seen| *seen >= 2).blocking().unwrap();
            let third = value
                .wait_since(1)
                .timeout(Duration::MAX)
                .blocking()
                .unwrap();
            let fourth = value
                .wait_for(|_| true)
                .timeout(Duration::MAX)
                .blocking()
                .unwrap();
            assert!(first.version < second.version && third == second && fourth == second);
        })
    };
    block_on(until_waiting(&value, 1));
    block_on(value.set(1)).unwrap();
    block_on(until_waiting(&value, 1));
    block_on(value.set(2)).unwrap();
    waiting.join().unwrap();
    let late = value.wait_for(|seen| *seen > 2).timeout(SHORT).blocking();
    assert_eq!(late, Err(CallError::timed_out()));
    let late = value.wait_since(2).timeout(SHORT).blocking();
    assert_eq!(late, Err(CallError::timed_out()));
    block_on(manager.shutdown());
}

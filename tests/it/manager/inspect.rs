//! Snapshots of a manager: the holders and waiters of all objects at one moment.

use std::{process, time::Duration};

use lockkeeper::{
    CallError, Event, Limits, Lock, Manager, Semaphore,
    deadlock::DeadlockPolicy,
    inspect::{ObjectInfo, Snapshot},
};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{lock::waiting::until_waiting, run};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::inspect::holder", hold);
    roles.add("manager::inspect::nester", nest);
}

/// The configuration of a process that holds a lock and waits for a permit for ever.
#[derive(Debug, Serialize, Deserialize)]
struct Config {
    label: String,
    lock: Lock,
    permits: Semaphore,
}

async fn hold(config: Config) {
    let client = Manager::client().label(&config.label);
    let _manager = client.connect(&config.lock.token().address).await.unwrap();
    let guard = config.lock.acquire().await.unwrap();
    report(&guard.fence().to_string());
    let _permits = config.permits.acquire_many(2).await;
}

/// The configuration of a process whose tasks acquire two nested locks until the event is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Nest {
    outer: Lock,
    inner: Lock,
    done: Event,
}

async fn nest(config: Nest) {
    let tasks = (0..4).map(|_| {
        let Nest { outer, inner, done } = config.clone();
        tokio::spawn(async move {
            let mut turns = 0;
            while !done.is_set().await.unwrap() {
                let outside = outer.acquire().await.unwrap();
                let inside = inner.acquire().await.unwrap();
                drop((inside, outside));
                turns += 1;
            }
            assert!(turns > 0);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    report("done");
}

/// Returns the object of a name.
fn named<'a>(snapshot: &'a Snapshot, name: &str) -> &'a ObjectInfo {
    let mut objects = snapshot.objects.iter();
    objects
        .find(|object| object.name == name)
        .unwrap_or_else(|| panic!("no {name:?} in\n{snapshot}"))
}

/// Starts a task that acquires and releases a lock.
fn wait_for(lock: &Lock) -> JoinHandle<Result<(), CallError>> {
    let lock = lock.clone();
    tokio::spawn(async move { lock.acquire().await.map(drop) })
}

#[test]
fn holders_and_waiters_are_listed_with_process_label_fence_and_time() {
    run(async {
        let owner = Manager::start().await.unwrap();
        let client = Manager::client().label("the test");
        let manager = client.connect(owner.address()).await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let permits = manager.named("seats").semaphore(2).await.unwrap();
        let mine = permits.acquire().await.unwrap();
        let config = Config {
            label: "ingest \u{e9}".to_owned(),
            lock: lock.clone(),
            permits: permits.clone(),
        };
        let mut child = Role::start("manager::inspect::holder", &config);
        let fence = child.next_report();
        until("the call waits", || async {
            permits.status().await.unwrap().waiting == 1
        })
        .await;
        let waiting = wait_for(&lock);
        until_waiting(&lock, 1).await;

        let snapshot = manager.inspect().await.unwrap();
        assert_eq!(snapshot.instants, 1);
        let jobs = named(&snapshot, "jobs");
        assert_eq!((jobs.kind.as_str(), jobs.state.as_str()), ("lock", "held"));
        let [part_of_it] = jobs.parts.as_slice() else {
            panic!("a lock has one part: {jobs}");
        };
        assert_eq!(
            (part_of_it.units, part_of_it.held, part_of_it.waiting),
            (Some(1), 1, 1)
        );
        let (holder, waiter) = (&part_of_it.holders[0], &part_of_it.waiters[0]);
        assert_eq!(
            (holder.process.pid, waiter.process.pid),
            (child.pid(), process::id())
        );
        assert_eq!(holder.process.label, "ingest \u{e9}");
        assert_eq!(waiter.process.label, "the test");
        assert!(holder.process.program.starts_with("it-"), "{jobs}");
        assert_eq!(holder.fence.map(|fence| fence.to_string()), Some(fence));
        assert_eq!((waiter.fence, waiter.caller), (None, None));
        assert!(holder.elapsed > waiter.elapsed && waiter.elapsed > Duration::ZERO);
        let seats = named(&snapshot, "seats");
        assert_eq!(seats.state, "1 of 2 permits free");
        assert_eq!(seats.parts[0].waiters[0].units, 2);
        assert_eq!(seats.parts[0].holders[0].fence, Some(mine.fence()));
        let words = snapshot.to_string();
        let line = format!("    holds process {} (", child.pid());
        assert!(words.starts_with("NAME   KIND       STATE"), "{words}");
        assert!(words.contains(&line), "{words}");

        child.kill();
        waiting.await.unwrap().unwrap();
        let info = lock.info().await.unwrap();
        assert_eq!((info.held(), info.waiting()), (0, 0));
        assert_eq!(info.state, "free, abandoned");
        let stats = info.stats.expect("a call had to wait");
        assert_eq!((stats.waits, stats.abandonments), (1, 1));
        assert_eq!((stats.waited.count, stats.held.count), (1, 2));
        assert!(stats.waited.max >= waiter.elapsed, "{stats:?}");
    });
}

#[test]
fn each_kind_describes_its_state() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let states = [
            manager.lock().await.unwrap().info().await.unwrap(),
            manager
                .reentrant_lock()
                .await
                .unwrap()
                .info()
                .await
                .unwrap(),
            manager.condition().await.unwrap().info().await.unwrap(),
            manager.event().await.unwrap().info().await.unwrap(),
            manager.semaphore(1).await.unwrap().info().await.unwrap(),
            manager
                .bounded_semaphore(1)
                .await
                .unwrap()
                .info()
                .await
                .unwrap(),
            manager.barrier(2).await.unwrap().info().await.unwrap(),
            manager.rw_lock().await.unwrap().info().await.unwrap(),
            manager.latch(3).await.unwrap().info().await.unwrap(),
            manager.keyed_lock().await.unwrap().info().await.unwrap(),
            manager
                .keyed_semaphore(2)
                .await
                .unwrap()
                .info()
                .await
                .unwrap(),
            manager.queue::<u8>(1).await.unwrap().info().await.unwrap(),
            manager.value(7).await.unwrap().info().await.unwrap(),
        ]
        .map(|info| (info.kind, info.state, info.stats));
        let none = |kind: &str, state: &str| (kind.to_owned(), state.to_owned(), None);
        assert_eq!(
            states,
            [
                none("lock", "free"),
                none("reentrant_lock", "free"),
                none("condition", "free"),
                none("event", "not set, generation 0"),
                none("semaphore", "1 of 1 permits free"),
                none("bounded_semaphore", "1 of 1 permits free"),
                none("barrier", "0 of 2 arrived, generation 0"),
                none("rw_lock", "free"),
                none("latch", "3 left"),
                none("keyed_lock", "0 keys held, 0 free but abandoned"),
                none("keyed_semaphore", "0 keys held, 0 free but abandoned"),
                none("queue", "0 items wait, 0 are taken"),
                none("value", "version 0, 1 bytes"),
            ]
        );
    });
}

#[test]
fn removed_object_is_missing_in_the_snapshot_and_its_info_fails() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let waiting = wait_for(&lock);
        until_waiting(&lock, 1).await;
        manager.remove("jobs").await.unwrap();
        assert_eq!(waiting.await.unwrap(), Err(CallError::gone()));
        assert_eq!(lock.info().await, Err(CallError::gone()));
        let other = manager.named("jobs").lock().await.unwrap();
        assert_eq!(
            lock.info().await,
            Err(CallError::gone()),
            "a new object has the name"
        );
        assert_eq!(other.info().await.unwrap().name, "jobs");
        manager.remove("jobs").await.unwrap();
        assert_eq!(manager.inspect().await.unwrap().objects, []);
        assert_eq!(manager.inspect_contended().await.unwrap().objects, []);
        drop(guard);
        assert_eq!(
            manager.remove("jobs").await,
            Err(CallError::NoObject {
                name: "jobs".to_owned(),
                address: manager.address().clone(),
            })
        );
    });
}

#[test]
fn contended_objects_are_those_with_waiters() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let mut locks = Vec::new();
        for name in ["a", "b", "c"] {
            locks.push(manager.named(name).lock().await.unwrap());
        }
        let names = async || {
            let snapshot = manager.inspect_contended().await.unwrap();
            let objects = snapshot.objects.into_iter();
            objects.map(|object| object.name).collect::<Vec<_>>()
        };
        assert_eq!(names().await, Vec::<String>::new());
        let guards = [locks[0].acquire().await, locks[2].acquire().await];
        let waiting = [wait_for(&locks[0]), wait_for(&locks[2])];
        until_waiting(&locks[0], 1).await;
        until_waiting(&locks[2], 1).await;
        assert_eq!(names().await, ["a", "c"]);
        let [first, third] = guards;
        drop(first.unwrap());
        until("a is free", || async { names().await == ["c"] }).await;
        drop(third.unwrap());
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        assert_eq!(names().await, Vec::<String>::new());
        let held = locks[0].acquire().await.unwrap();
        let again = wait_for(&locks[0]);
        until("the object is listed again", || async {
            names().await == ["a"]
        })
        .await;
        drop(held);
        again.await.unwrap().unwrap();
    });
}

#[test]
fn large_snapshot_is_sent_in_several_messages() {
    run(async {
        let frame_bytes = 1 << 16;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let names: Vec<String> = (0..2_000).map(|n| format!("{n:0200}")).collect();
        for name in &names {
            manager.named(name).lock().await.unwrap();
        }
        let snapshot = manager.inspect().await.unwrap();
        assert!(snapshot.instants > 5, "{}", snapshot.instants);
        let shown = snapshot.objects.iter().map(|object| &object.name);
        assert!(shown.eq(&names), "each object once, in order of creation");

        let lock = manager.named(&names[0]).lock().await.unwrap();
        let held = lock.acquire().await.unwrap();
        let waiting: Vec<_> = (0..2_000).map(|_| wait_for(&lock)).collect();
        until_waiting(&lock, 2_000).await;
        let snapshot = manager.inspect_contended().await.unwrap();
        let part = &snapshot.objects[0].parts[0];
        assert_eq!((part.held, part.waiting), (1, 2_000));
        assert!((8..2_000).contains(&part.waiters.len()));
        drop(held);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    });
}

#[test]
fn more_objects_than_one_page_are_listed_once_each() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let mut opened = Vec::new();
        for _ in 0..1_001 {
            opened.push(manager.lock().await.unwrap());
        }
        let snapshot = manager.inspect().await.unwrap();
        assert_eq!(snapshot.instants, 2);
        let shown = snapshot.objects.iter().map(|object| object.name.as_str());
        let names = opened.iter().map(|lock| &lock.token().name);
        assert!(shown.eq(names), "each object once, in order of creation");
    });
}

#[test]
fn snapshot_during_a_fan_out_is_consistent() {
    run(async {
        // With deadlock detection the manager knows the callers.
        let builder = Manager::builder().deadlocks(DeadlockPolicy::new());
        let manager = builder.start().await.unwrap();
        let outer = manager.named("outer").lock().await.unwrap();
        // Many objects, so that inspecting both locks takes some time.
        for _ in 0..100 {
            manager.lock().await.unwrap();
        }
        let inner = manager.named("inner").lock().await.unwrap();
        let done = manager.event().await.unwrap();
        // Each process has its own session: a session that inspects does nothing else meanwhile.
        let config = Nest {
            outer: outer.clone(),
            inner: inner.clone(),
            done: done.clone(),
        };
        let mut nesters = [(); 2].map(|()| Role::start("manager::inspect::nester", &config));
        let (mut both, mut one) = (0, 0);
        while both < 50 || one < 50 {
            let snapshot = manager.inspect().await.unwrap();
            assert_eq!(snapshot.instants, 1);
            let caller = |name: &str| {
                let holders = &named(&snapshot, name).parts[0].holders;
                let holder = holders.first()?;
                Some((
                    holder.process.pid,
                    holder.caller.expect("the manager knows the caller"),
                ))
            };
            match (caller("outer"), caller("inner")) {
                // Each holder of the inner lock holds the outer one too.
                (outer, Some(inner)) => {
                    assert_eq!(outer, Some(inner), "\n{snapshot}");
                    both += 1;
                }
                (_, None) => one += 1,
            }
            // A free lock has no waiters.
            for object in &snapshot.objects {
                let free = object.kind == "lock" && object.held() == 0;
                assert!(!free || object.waiting() == 0, "\n{snapshot}");
            }
        }
        done.set().await.unwrap();
        for nester in &mut nesters {
            assert_eq!(nester.next_report(), "done");
        }
    });
}

#[test]
fn snapshot_can_be_serialized() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let waiting = wait_for(&lock);
        until_waiting(&lock, 1).await;
        let snapshot = manager.inspect().await.unwrap();
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
        drop(guard);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn contended_keys_are_listed_and_the_others_counted_if_there_are_too_many() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = manager.keyed_lock().await.unwrap();
        let mut guards = Vec::new();
        for number in 0..1_200 {
            let key = format!("{number:04}");
            guards.push(locks.acquire(&key).await.unwrap());
        }
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire("1199").await.map(drop) }
        });
        until("the call waits", || async {
            locks.status().await.unwrap().waiting == 1
        })
        .await;
        let info = locks.info().await.unwrap();
        assert_eq!((info.held(), info.waiting()), (1_200, 1));
        assert_eq!(info.parts[0].key.as_deref(), Some("1199"));
        let rest = info.parts.last().expect("the object has parts");
        assert_eq!(
            (rest.key.as_deref(), rest.held, rest.holders.len()),
            (None, 200, 0)
        );
        let contended = manager.inspect_contended().await.unwrap();
        assert_eq!(contended.objects[0].waiting(), 1);
        drop(guards);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn holders_are_listed_from_the_longest_hold_to_the_shortest() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.rw_lock().await.unwrap();
        let reader = lock.read().await.unwrap();
        let _upgradable = lock.upgradable_read().await.unwrap();
        let modes = async || {
            let info = lock.info().await.unwrap();
            let holders = info.parts[0].holders.iter();
            holders.map(|call| call.mode.clone()).collect::<Vec<_>>()
        };
        assert_eq!(modes().await, ["read", "upgradable"]);
        let _later = lock.read().await.unwrap();
        drop(reader);
        assert_eq!(modes().await, ["upgradable", "read"]);
    });
}

#[test]
fn info_of_an_object_has_the_titles_of_its_columns() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let told = lock.info().await.unwrap().to_string();
        let mut lines = told.lines();
        assert!(
            lines.next().unwrap().starts_with("NAME  KIND  STATE"),
            "{told}"
        );
        assert!(
            lines.next().unwrap().starts_with("jobs  lock  free"),
            "{told}"
        );
    });
}

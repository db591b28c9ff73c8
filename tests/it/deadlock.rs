//! Deadlock detection: the cycles that are found, the waits that are not a deadlock, and the call
//! that fails.
//!
//! To show that some waits are not a deadlock, a test waits until the manager has found another
//! deadlock, which takes two scans.

pub(crate) mod shared;

use std::{collections::BTreeSet, process, sync::mpsc, thread, time::Duration};

use lockkeeper::{
    CallError, Lock, Manager, Permit, ReentrantLock, Semaphore, StartError,
    deadlock::{Deadlock, DeadlockPolicy},
    errors::Refusal,
};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};

use crate::{
    deadlock::shared::{Read, Shared, Write},
    lock::waiting::until_waiting,
    run,
};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("deadlock::crosser", cross);
}

/// The interval of the managers' scans.
const EVERY: Duration = Duration::from_millis(20);

/// Starts a manager that fails one call of each deadlock.
async fn strict() -> Manager {
    let deadlocks = DeadlockPolicy::new().fail().every(EVERY);
    let builder = Manager::builder().register::<Shared>();
    builder.deadlocks(deadlocks).start().await.unwrap()
}

/// The configuration of a process that acquires one lock after the other.
#[derive(Debug, Serialize, Deserialize)]
struct Cross {
    label: String,
    first: Lock,
    second: Lock,
    /// Gets a permit when the process may acquire the second lock.
    go: Semaphore,
}

async fn cross(config: Cross) {
    let client = Manager::client().label(&config.label);
    let _manager = client.connect(&config.first.token().address).await.unwrap();
    let first = config.first.acquire().await.unwrap();
    report("has the first");
    config.go.acquire().await.unwrap().forget();
    match config.second.acquire().await {
        Ok(second) => {
            report("has both");
            second.release().await.unwrap();
        }
        Err(CallError::Deadlock(deadlock)) => {
            let shown = serde_json::to_string(&deadlock).unwrap();
            report(&shown);
        }
        Err(error) => report(&error.to_string()),
    }
    first.release().await.unwrap();
}

/// Starts processes in a ring, each of which holds a lock and then waits for that of the next.
/// Returns them, the locks, and the semaphores that let each continue.
async fn ring(manager: &Manager, size: usize) -> (Vec<Role>, Vec<Lock>, Vec<Semaphore>) {
    let (mut locks, mut gos) = (Vec::new(), Vec::new());
    for place in 0..size {
        let name = format!("lock {place}");
        locks.push(manager.named(&name).lock().await.unwrap());
        gos.push(manager.semaphore(0).await.unwrap());
    }
    let mut children: Vec<Role> = (0..size)
        .map(|place| {
            let cross = Cross {
                label: format!("number {place}"),
                first: locks[place].clone(),
                second: locks[(place + 1) % size].clone(),
                go: gos[place].clone(),
            };
            Role::start("deadlock::crosser", &cross)
        })
        .collect();
    for child in &mut children {
        assert_eq!(child.next_report(), "has the first");
    }
    (children, locks, gos)
}

/// Lets the processes of a ring continue, the given one last. That one fails, and reports the
/// deadlock.
async fn close(ring: (Vec<Role>, Vec<Lock>, Vec<Semaphore>), last: usize) -> (Vec<u32>, Deadlock) {
    let (mut children, locks, gos) = ring;
    let size = locks.len();
    let order = (1..=size).map(|step| (last + step) % size);
    for place in order {
        gos[place].add_permits(1).await.unwrap();
        if place != last {
            let wanted = &locks[(place + 1) % size];
            until("the call waits", || async {
                wanted.status().await.unwrap().waiting == 1
            })
            .await;
        }
    }
    let shown = serde_json::from_str(&children[last].next_report()).expect("a deadlock");
    for (place, child) in children.iter_mut().enumerate() {
        if place != last {
            assert_eq!(child.next_report(), "has both", "process {place}");
        }
    }
    (children.iter().map(Role::pid).collect(), shown)
}

/// Asserts that the deadlock is the ring of processes, beginning with the one that waited last.
fn assert_is_ring(deadlock: &Deadlock, pids: &[u32], last: usize) {
    let size = pids.len();
    assert_eq!(deadlock.size, size as u64);
    assert_eq!(deadlock.members.len(), size);
    for (step, member) in deadlock.members.iter().enumerate() {
        let place = (last + step) % size;
        assert_eq!(member.process.pid, pids[place], "{deadlock}");
        assert_eq!(member.process.label, format!("number {place}"));
        assert_eq!(member.holds[0].name, format!("lock {place}"));
        assert_eq!(member.holds[0].kind, "lock");
        assert!(member.holds[0].fence.is_some());
        let wait = &member.waits[0];
        assert_eq!(wait.wants.name, format!("lock {}", (place + 1) % size));
        assert_eq!(wait.held_by, [((step + 1) % size) as u64]);
        assert_eq!(wait.behind, None);
    }
}

#[test]
fn two_processes_that_wait_for_each_other_are_found_and_the_youngest_fails() {
    run(async {
        let manager = strict().await;
        for last in [0, 1] {
            let (pids, deadlock) = close(ring(&manager, 2).await, last).await;
            assert_is_ring(&deadlock, &pids, last);
            let words = deadlock.to_string();
            let expected = format!("process {} (", pids[last]);
            assert!(words.starts_with("deadlock of 2: "), "{words}");
            assert!(words.contains(&expected), "{words}");
            assert!(words.contains("\"lock 0\" for "), "{words}");
        }
    });
}

#[test]
fn fifty_processes_in_a_ring_are_found() {
    run(async {
        let manager = strict().await;
        let (pids, deadlock) = close(ring(&manager, 50).await, 17).await;
        assert_is_ring(&deadlock, &pids, 17);
    });
}

#[test]
fn three_processes_in_a_ring_are_found() {
    run(async {
        let manager = strict().await;
        let (pids, deadlock) = close(ring(&manager, 3).await, 1).await;
        assert_is_ring(&deadlock, &pids, 1);
    });
}

#[test]
fn spawned_manager_finds_deadlocks_too() {
    run(async {
        let deadlocks = DeadlockPolicy::new().fail().print().every(EVERY);
        let manager = Manager::builder().deadlocks(deadlocks).spawn().await;
        let manager = manager.unwrap();
        let (pids, deadlock) = close(ring(&manager, 2).await, 0).await;
        assert_is_ring(&deadlock, &pids, 0);
    });
}

#[test]
fn one_of_fifty_callers_in_a_ring_fails_and_the_others_continue() {
    run(async {
        const SIZE: usize = 50;
        let manager = strict().await;
        let mut locks = Vec::new();
        for _ in 0..SIZE {
            locks.push(manager.lock().await.unwrap());
        }
        let all = manager.barrier(SIZE as u32).await.unwrap();
        let tasks: Vec<_> = (0..SIZE)
            .map(|place| {
                let (first, second) = (locks[place].clone(), locks[(place + 1) % SIZE].clone());
                let all = all.clone();
                tokio::spawn(async move {
                    let _first = first.acquire().await.unwrap();
                    all.wait().await.unwrap();
                    second.acquire().await.map(drop)
                })
            })
            .collect();
        let mut failed = Vec::new();
        for task in tasks {
            failed.extend(task.await.unwrap().err());
        }
        let [CallError::Deadlock(deadlock)] = failed.as_slice() else {
            panic!("exactly one call must fail: {failed:?}");
        };
        assert_eq!((deadlock.size, deadlock.members.len()), (50, 50));
        let callers: BTreeSet<u64> = deadlock.members.iter().map(|it| it.caller).collect();
        assert_eq!(callers.len(), SIZE);
        for (place, member) in deadlock.members.iter().enumerate() {
            let next = &deadlock.members[(place + 1) % SIZE];
            assert_eq!(member.process.pid, process::id());
            assert_eq!(member.waits[0].wants.name, next.holds[0].name);
        }
    });
}

/// Makes a deadlock, and waits until the manager has failed it: it has then scanned all existing
/// waits at least twice.
async fn two_looks(manager: &Manager) {
    let lock = manager.lock().await.unwrap();
    let alone = async move {
        let _guard = lock.acquire().await.unwrap();
        lock.acquire().await.map(drop)
    };
    let shown = tokio::spawn(alone).await.unwrap();
    let Err(CallError::Deadlock(deadlock)) = shown else {
        panic!("who waits for itself waits for ever: {shown:?}");
    };
    assert_eq!((deadlock.size, deadlock.members.len()), (1, 1));
}

#[test]
fn waits_that_converge_are_not_a_deadlock() {
    run(async {
        let manager = strict().await;
        let [end, middle] = [manager.lock().await.unwrap(), manager.lock().await.unwrap()];
        let held = end.acquire().await.unwrap();
        let chain = tokio::spawn({
            let (end, middle) = (end.clone(), middle.clone());
            async move {
                let _middle = middle.acquire().await.unwrap();
                end.acquire().await.map(drop)
            }
        });
        until_waiting(&end, 1).await;
        let others: Vec<_> = (0..5)
            .flat_map(|_| [end.clone(), middle.clone()])
            .map(|lock| tokio::spawn(async move { lock.acquire().await.map(drop) }))
            .collect();
        until_waiting(&end, 6).await;
        until_waiting(&middle, 5).await;
        two_looks(&manager).await;
        assert_eq!(manager.deadlocks().await.unwrap(), []);
        drop(held);
        chain.await.unwrap().unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
    });
}

/// Acquires a permit, and then waits for the lock.
fn permit_then_lock(
    permits: &Semaphore,
    lock: &Lock,
) -> tokio::task::JoinHandle<Result<Permit, CallError>> {
    let (permits, lock) = (permits.clone(), lock.clone());
    tokio::spawn(async move {
        let permit = permits.acquire().await.unwrap();
        lock.acquire().await.map(drop)?;
        Ok(permit)
    })
}

#[test]
fn semaphore_is_in_a_deadlock_only_if_all_permits_are() {
    run(async {
        let manager = strict().await;
        let permits = manager.semaphore(2).await.unwrap();
        let lock = manager.lock().await.unwrap();
        let (shown, telling) = tokio::sync::oneshot::channel();
        let (go, going) = tokio::sync::oneshot::channel();
        let outside = permits.acquire().await.unwrap();
        let holder = tokio::spawn({
            let (permits, lock) = (permits.clone(), lock.clone());
            async move {
                let guard = lock.acquire().await.unwrap();
                shown.send(()).unwrap();
                going.await.unwrap();
                let permit = permits.acquire().await;
                drop(guard);
                permit.map(drop)
            }
        });
        telling.await.unwrap();
        let inside = permit_then_lock(&permits, &lock);
        until_waiting(&lock, 1).await;
        go.send(()).unwrap();
        until("the holder waits", || async {
            permits.status().await.unwrap().waiting == 1
        })
        .await;
        two_looks(&manager).await;
        assert_eq!(
            manager.deadlocks().await.unwrap(),
            [],
            "a permit is held outside the cycle"
        );
        assert!(!holder.is_finished() && !inside.is_finished());
        // This task has the permit, and is in the cycle once it waits for the lock.
        let mine = lock.acquire().await;
        let Err(CallError::Deadlock(deadlock)) = mine else {
            panic!("the last waiter must fail: {mine:?}");
        };
        assert_eq!(deadlock.size, 3, "{deadlock}");
        assert_eq!(deadlock.members[1].waits[0].held_by, [0, 2], "{deadlock}");
        drop(outside);
        holder.await.unwrap().unwrap();
        drop(inside.await.unwrap().unwrap());
    });
}

#[test]
fn two_tasks_of_one_process_are_not_a_deadlock() {
    run(async {
        let manager = strict().await;
        let (mut children, locks, gos) = ring(&manager, 1).await;
        // The other process holds lock 0, for which a task here waits.
        let waiter = tokio::spawn({
            let lock = locks[0].clone();
            async move { lock.acquire().await.map(drop) }
        });
        until_waiting(&locks[0], 1).await;
        drop(children.remove(0));
        waiter.await.unwrap().unwrap();
        drop((locks, gos));

        let [theirs, mine] = [manager.lock().await.unwrap(), manager.lock().await.unwrap()];
        let go = manager.semaphore(0).await.unwrap();
        let cross = Cross {
            label: String::new(),
            first: theirs.clone(),
            second: mine.clone(),
            go: go.clone(),
        };
        let mut child = Role::start("deadlock::crosser", &cross);
        assert_eq!(child.next_report(), "has the first");
        let held = mine.acquire().await.unwrap();
        let waiter = tokio::spawn({
            let theirs = theirs.clone();
            async move { theirs.acquire().await.map(drop) }
        });
        until_waiting(&theirs, 1).await;
        go.add_permits(1).await.unwrap();
        until_waiting(&mine, 1).await;
        two_looks(&manager).await;
        assert_eq!(manager.deadlocks().await.unwrap(), []);
        drop(held);
        assert_eq!(child.next_report(), "has both");
        waiter.await.unwrap().unwrap();
    });
}

#[test]
fn waits_that_any_process_may_end_are_not_a_deadlock() {
    run(async {
        let manager = strict().await;
        let lock = manager.lock().await.unwrap();
        let event = manager.event().await.unwrap();
        let signal = manager.semaphore(0).await.unwrap();
        let waiting = |what: &'static str| {
            let (lock, event, signal) = (lock.clone(), event.clone(), signal.clone());
            tokio::spawn(async move {
                let _guard = lock.acquire().await.unwrap();
                match what {
                    "event" => event.wait().await.map(drop),
                    _ => signal.acquire().await.map(drop),
                }
            })
        };
        for what in ["event", "signal"] {
            let first = waiting(what);
            until("the lock is held", || async {
                lock.status().await.unwrap().is_held
            })
            .await;
            let second = waiting(what);
            until_waiting(&lock, 1).await;
            two_looks(&manager).await;
            assert!(!first.is_finished() && !second.is_finished());
            match what {
                "event" => event.set().await.map(drop).unwrap(),
                _ => signal.add_permits(2).await.unwrap(),
            }
            first.await.unwrap().unwrap();
            second.await.unwrap().unwrap();
        }
    });
}

#[test]
fn caller_that_waits_for_one_of_several_objects_is_not_in_a_deadlock() {
    run(async {
        let manager = strict().await;
        let [a, b, c] = [
            manager.lock().await.unwrap(),
            manager.lock().await.unwrap(),
            manager.lock().await.unwrap(),
        ];
        let outside = c.acquire().await.unwrap();
        let meet = manager.barrier(2).await.unwrap();
        let one = tokio::spawn({
            let (a, b, c, meet) = (a.clone(), b.clone(), c.clone(), meet.clone());
            async move {
                let _a = a.acquire().await.unwrap();
                meet.wait().await.unwrap();
                tokio::select! {
                    taken = b.acquire() => taken.map(|_| "b"),
                    taken = c.acquire() => taken.map(|_| "c"),
                }
            }
        });
        let other = tokio::spawn({
            let (a, b) = (a.clone(), b.clone());
            async move {
                let _b = b.acquire().await.unwrap();
                meet.wait().await.unwrap();
                a.acquire().await.map(drop)
            }
        });
        until_waiting(&a, 1).await;
        until_waiting(&b, 1).await;
        until_waiting(&c, 1).await;
        two_looks(&manager).await;
        assert_eq!(manager.deadlocks().await.unwrap(), []);
        drop(outside);
        assert_eq!(one.await.unwrap().unwrap(), "c");
        other.await.unwrap().unwrap();
    });
}

#[test]
fn readers_and_a_writer_of_a_custom_kind_are_found() {
    run(async {
        let manager = strict().await;
        let shared = manager.open::<Shared>(()).await.unwrap();
        let lock = manager.lock().await.unwrap();
        let (_, first) = shared.hold(Read).await.unwrap();
        let writer = tokio::spawn({
            let (shared, lock) = (shared.clone(), lock.clone());
            async move {
                let _lock = lock.acquire().await.unwrap();
                shared.hold(Write).await.map(drop)
            }
        });
        until("the writer waits", || async {
            shared.info().await.unwrap().waiting() == 1
        })
        .await;
        two_looks(&manager).await;
        assert!(!writer.is_finished());
        // The reader waits for the writer's lock, and the writer for all readers.
        let mine = lock.acquire().await;
        let Err(CallError::Deadlock(deadlock)) = mine else {
            panic!("the reader began to wait last: {mine:?}");
        };
        assert_eq!(deadlock.members[0].holds[0].mode, "read");
        assert_eq!(deadlock.members[1].waits[0].wants.mode, "write");
        first.cast(&shared::Release {
            grant: first.proof(),
        });
        writer.await.unwrap().unwrap();
    });
}

#[test]
fn upgrade_waits_for_other_readers_and_not_for_itself() {
    run(async {
        let manager = strict().await;
        let rows = manager.rw_lock().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let reader = rows.read().await.unwrap();
        let upgrader = tokio::spawn({
            let (rows, lock) = (rows.clone(), lock.clone());
            async move {
                let _lock = lock.acquire().await.unwrap();
                let guard = rows.upgradable_read().await.unwrap();
                guard.upgrade().await.map(drop)
            }
        });
        until("the upgrade waits", || async {
            rows.status().await.unwrap().waiting == 1
        })
        .await;
        two_looks(&manager).await;
        assert_eq!(manager.deadlocks().await.unwrap(), []);
        assert!(!upgrader.is_finished(), "the reader may leave at any time");
        // Once the reader waits for the upgrading caller, it is a deadlock.
        let mine = lock.acquire().await;
        let Err(CallError::Deadlock(deadlock)) = mine else {
            panic!("the reader began to wait last: {mine:?}");
        };
        assert_eq!(deadlock.members[0].holds[0].mode, "read");
        assert_eq!(deadlock.members[1].waits[0].wants.mode, "write");
        drop(reader);
        upgrader.await.unwrap().unwrap();
    });
}

#[test]
fn adopted_hold_belongs_to_the_adopter() {
    run(async {
        let manager = strict().await;
        let [a, b] = [manager.lock().await.unwrap(), manager.lock().await.unwrap()];
        let held = b.acquire().await.unwrap();
        let ticket = a.acquire().await.unwrap().into_ticket();
        let adopter = tokio::spawn({
            let (a, b) = (a.clone(), b.clone());
            async move {
                let _a = a.adopt(ticket).await.unwrap();
                b.acquire().await.map(drop)
            }
        });
        until_waiting(&b, 1).await;
        let mine = a.acquire().await;
        let Err(CallError::Deadlock(deadlock)) = mine else {
            panic!("the adopter waits for this task: {mine:?}");
        };
        assert_eq!(deadlock.size, 2);
        drop(held);
        adopter.await.unwrap().unwrap();
    });
}

#[test]
fn named_owner_is_a_separate_caller() {
    run(async {
        let manager = strict().await;
        let lock: ReentrantLock = manager.reentrant_lock().await.unwrap();
        let plain = manager.lock().await.unwrap();
        let owned = lock.owned_by(lockkeeper::Owner::new());
        let guard = owned.acquire().await.unwrap();
        let again = tokio::spawn({
            let owned = owned.clone();
            async move { owned.acquire().await.map(drop) }
        });
        again.await.unwrap().unwrap();
        let other = tokio::spawn({
            let (lock, plain) = (lock.clone(), plain.clone());
            async move {
                let _plain = plain.acquire().await.unwrap();
                lock.acquire().await.map(drop)
            }
        });
        until("the other caller waits", || async {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        let mine = plain.acquire().await;
        assert!(matches!(mine, Err(CallError::Deadlock(_))), "{mine:?}");
        drop(guard);
        other.await.unwrap().unwrap();
    });
}

#[test]
fn threads_are_callers_like_tasks() {
    run(async {
        let manager = strict().await;
        let [a, b] = [manager.lock().await.unwrap(), manager.lock().await.unwrap()];
        let meet = manager.barrier(2).await.unwrap();
        let threads: Vec<_> = [(a.clone(), b.clone()), (b, a)]
            .into_iter()
            .map(|(first, second)| {
                let meet = meet.clone();
                thread::spawn(move || {
                    let _first = first.acquire().blocking().unwrap();
                    meet.wait().blocking().unwrap();
                    second.acquire().blocking().map(drop)
                })
            })
            .collect();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        let failed: Vec<CallError> = ends.filter_map(Result::err).collect();
        assert!(
            matches!(failed.as_slice(), [CallError::Deadlock(_)]),
            "{failed:?}"
        );
    });
}

#[test]
fn deadlock_is_reported_once_and_stays_until_a_call_ends() {
    run(async {
        let (sender, reports) = mpsc::channel();
        let deadlocks = DeadlockPolicy::new()
            .every(EVERY)
            .on_deadlock(move |deadlock| {
                sender.send(deadlock).unwrap();
            });
        let manager = Manager::builder().deadlocks(deadlocks).start().await;
        let manager = manager.unwrap();
        let alone = |lock: Lock| {
            tokio::spawn(async move {
                let _guard = lock.acquire().await.unwrap();
                lock.acquire().await.map(drop)
            })
        };
        let first = manager.named("first").lock().await.unwrap();
        let stuck = alone(first);
        let report = reports.recv().unwrap();
        assert_eq!(report.members[0].waits[0].wants.name, "first");
        let asked = manager.deadlocks().await.unwrap();
        assert_eq!(asked[0].members[0].holds[0].name, "first");
        // Another deadlock is reported while the first one exists, which is not reported again.
        let second = alone(manager.named("second").lock().await.unwrap());
        let report = reports.recv().unwrap();
        assert_eq!(report.members[0].waits[0].wants.name, "second");
        assert!(!stuck.is_finished() && reports.try_recv().is_err());
        stuck.abort();
        second.abort();
        until("no call waits", || async {
            manager.deadlocks().await.unwrap().is_empty()
        })
        .await;
    });
}

#[test]
fn report_of_a_manager_without_detection_is_an_error() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let Err(CallError::Refused(Refusal::Invalid(why), _)) = manager.deadlocks().await else {
            panic!("the manager does not know its callers");
        };
        assert!(why.contains(".deadlocks(..)"), "{why}");
    });
}

#[test]
fn callback_for_deadlocks_cannot_be_sent_to_another_process() {
    run(async {
        let deadlocks = DeadlockPolicy::new().on_deadlock(drop);
        let spawned = Manager::builder().deadlocks(deadlocks).spawn().await;
        let Err(StartError::InvalidSettings(why)) = spawned else {
            panic!("a function was sent to another process");
        };
        assert!(why.contains("manager.deadlocks()"), "{why}");
    });
}

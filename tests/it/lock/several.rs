//! Several locks at once: all or none are held, no caller deadlocks, and no lock stays held.

use std::{
    fs::File,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, future::try_join_all};
use lockkeeper::{
    CallError, KeyedLock, Lock, Manager, Wait, block_on, errors::Refusal, lock_all, lock_some,
    try_lock_all, try_lock_some,
};
use lockkeeper_test_support::{Role, Roles, Watchdog, report, seeded, until};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use rustix::process::getuid;
use serde::{Deserialize, Serialize};

use crate::{lock::waiting::until_waiting, program, run};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("lock::several::crosser", cross);
}

/// Returns locks whose names are in order.
async fn locks(manager: &Manager, number: usize) -> Vec<Lock> {
    let names: Vec<String> = (0..number).map(|n| format!("lock {n:02}")).collect();
    let opened = names.iter().map(|name| manager.named(name).lock());
    try_join_all(opened).await.unwrap()
}

async fn is_held(lock: &Lock) -> bool {
    lock.status().await.unwrap().is_held
}

/// Returns the indices of the held locks.
async fn held(locks: &[Lock]) -> Vec<usize> {
    let mut held = Vec::new();
    for (place, lock) in locks.iter().enumerate() {
        if is_held(lock).await {
            held.push(place);
        }
    }
    held
}

async fn until_all_are_free(locks: &[Lock]) {
    until("all are free", || async {
        for lock in locks {
            let status = lock.status().await.unwrap();
            if status.is_held || status.waiting > 0 {
                return false;
            }
        }
        true
    })
    .await;
}

/// Returns the reason of a refusal.
fn why<T>(outcome: Result<T, CallError>) -> String {
    match outcome {
        Err(CallError::Refused(Refusal::Invalid(why), _)) => why,
        Err(other) => panic!("the call failed with another error: {other:?}"),
        Ok(_) => panic!("the call was not refused"),
    }
}

#[test]
fn one_lock_through_two_addresses_counts_as_named_twice() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.sock");
        let manager = Manager::builder().address(&path).start().await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        let pinned = format!("unix:{}#uid:{}", path.display(), getuid().as_raw());
        let again = Manager::connect(pinned).await.unwrap();
        let same = again.named("lock").lock().await.unwrap();
        assert_ne!(lock.token().address, same.token().address);
        let outcome = lock_all([&lock, &same]).await.map(drop);
        assert!(why(outcome).contains("named twice"));
    });
}

#[test]
fn guards_are_in_the_requested_order_and_hold_until_they_are_dropped() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 4).await;
        let mut guards = lock_all([&locks[2], &locks[0], &locks[3]]).await.unwrap();
        assert_eq!(held(&locks).await, [0, 2, 3]);
        drop(guards.remove(1));
        until("the first lock is free", || async {
            !is_held(&locks[0]).await
        })
        .await;
        assert_eq!(held(&locks).await, [2, 3]);
        drop(guards.remove(1));
        until("the last is free", || async { !is_held(&locks[3]).await }).await;
        assert_eq!(held(&locks).await, [2]);
        drop(guards);
        until_all_are_free(&locks).await;
        assert!(lock_all::<Lock>([]).await.unwrap().is_empty());
    });
}

#[test]
fn lock_that_is_named_twice_is_an_error_that_names_it_and_nothing_is_held() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 2).await;
        let again = manager.named("lock 00").lock().await.unwrap();
        let shown = why(lock_all([&locks[0], &locks[1], &again]).await);
        assert!(shown.contains("lock \"lock 00\" at /"), "{shown}");
        assert!(shown.contains("is named twice"), "{shown}");
        assert!(held(&locks).await.is_empty());
        let keys = manager.named("records").keyed_lock().await.unwrap();
        let shown = why(lock_all(["a", "b", "a"].map(|key| (&keys, key))).await);
        assert!(shown.contains("key \"a\" of \"records\" at /"), "{shown}");
        assert_eq!(keys.status().await.unwrap().keys, 0);
    });
}

#[test]
fn impossible_numbers_are_refused_with_the_allowed_range() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 3).await;
        let shown = why(lock_some(0, &locks).await);
        assert_eq!(
            shown,
            "0 locks were asked for, and 3 were given: ask for 1 to 3"
        );
        let shown = why(lock_some(4, &locks).await);
        assert_eq!(
            shown,
            "4 locks were asked for, and 3 were given: ask for 1 to 3"
        );
        let shown = why(lock_some(3, &locks[..1]).await);
        assert_eq!(shown, "3 locks were asked for, and 1 was given: ask for 1");
        let shown = why(lock_some(1, &[] as &[Lock]).await);
        assert_eq!(shown, "no locks were given: name some");
        let refused = lock_some(4, &locks).await.unwrap_err().to_string();
        assert!(
            refused.starts_with("lock_some refused the call: invalid: "),
            "{refused}"
        );
        let refused = lock_all([&locks[0], &locks[0]])
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("lock_all refused the call: invalid: the lock "),
            "{refused}"
        );
        assert!(held(&locks).await.is_empty());
    });
}

#[test]
fn lock_all_waits_for_the_held_lock_and_holds_no_later_one() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 4).await;
        let busy = locks[1].acquire().await.unwrap();
        let all = tokio::spawn({
            let locks = locks.clone();
            async move { lock_all(&locks).await }
        });
        until_waiting(&locks[1], 1).await;
        // Earlier locks are kept, and later ones are free for others.
        assert_eq!(held(&locks).await, [0, 1]);
        let behind = locks[3].acquire().await.unwrap();
        drop(busy);
        until_waiting(&locks[3], 1).await;
        assert_eq!(held(&locks).await, [0, 1, 2, 3]);
        drop(behind);
        assert_eq!(all.await.unwrap().unwrap().len(), 4);
        until_all_are_free(&locks).await;
    });
}

#[test]
fn lock_some_takes_free_locks_and_waits_for_the_first_held_one_if_they_are_too_few() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 5).await;
        let places = |guards: &[(usize, _)]| guards.iter().map(|(place, _)| *place).collect();
        let mut busy: Vec<_> = try_join_all([1, 3, 4].map(|n| locks[n].acquire()))
            .await
            .unwrap();
        let two = lock_some(2, &locks).await.unwrap();
        let two_places: Vec<usize> = places(&two);
        assert_eq!(two_places, [0, 2]);
        drop(two);
        let three = tokio::spawn({
            let locks = locks.clone();
            async move { lock_some(3, &locks).await }
        });
        until_waiting(&locks[1], 1).await;
        // It holds the locks before the one that it waits for.
        assert_eq!(held(&locks).await, [0, 1, 3, 4]);
        let another = locks[2].acquire().await.unwrap();
        // It does not take another lock that becomes free.
        drop(busy.pop());
        until("the last is free", || async { !is_held(&locks[4]).await }).await;
        assert!(!three.is_finished());
        drop(busy.remove(0));
        let three = three.await.unwrap().unwrap();
        let three_places: Vec<usize> = places(&three);
        assert_eq!(three_places, [0, 1, 4]);
        drop((three, busy, another));
        until_all_are_free(&locks).await;
    });
}

#[test]
fn try_acquires_all_or_none() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 3).await;
        let several = || locks.iter();
        let all = try_lock_all(several()).await.unwrap().unwrap();
        assert!(try_lock_some(1, several()).await.unwrap().is_none());
        drop(all);
        until_all_are_free(&locks).await;
        let busy = locks[1].acquire().await.unwrap();
        assert!(try_lock_all(several()).await.unwrap().is_none());
        until("the other locks are free", || async {
            held(&locks).await == [1]
        })
        .await;
        assert_eq!(try_lock_some(2, several()).await.unwrap().unwrap().len(), 2);
        drop(busy);
        until_all_are_free(&locks).await;
    });
}

#[test]
fn timeout_limits_the_whole_call_and_nothing_is_left() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 3).await;
        let several = || locks.iter();
        // This test measures time: the first wait ends at half of the timeout, and the second never
        // ends.
        let patience = Duration::from_secs(1);
        let (first, second) = (locks[0].acquire().await.unwrap(), locks[2].acquire().await);
        let begin = Instant::now();
        let late = tokio::spawn(async move {
            tokio::time::sleep(patience / 2).await;
            drop(first);
        });
        let outcome = lock_all(several()).timeout(patience).await.map(drop);
        let taken = begin.elapsed();
        assert_eq!(outcome, Err(CallError::timed_out()));
        assert!(taken >= patience && taken < patience * 29 / 20, "{taken:?}");
        late.await.unwrap();
        until("the held locks are free", || async {
            held(&locks).await == [2]
        })
        .await;
        let outcome = lock_some(3, several())
            .timeout(Duration::from_millis(5))
            .await;
        assert_eq!(outcome.map(drop), Err(CallError::timed_out()));
        drop(second);
        let in_time = lock_all(several()).timeout(Duration::MAX).await;
        assert_eq!(in_time.unwrap().len(), 3);
        until_all_are_free(&locks).await;
    });
}

#[test]
fn plain_threads_have_all_forms() {
    program();
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let locks = block_on(locks(&manager, 3));
    let several = || locks.iter();
    let moment = Duration::from_millis(1);
    let all = lock_all(several()).blocking().unwrap();
    assert!(try_lock_all(several()).blocking().unwrap().is_none());
    assert!(try_lock_some(1, several()).blocking().unwrap().is_none());
    let late = lock_all(several()).timeout(moment).blocking().map(drop);
    assert_eq!(late, Err(CallError::timed_out()));
    let late = lock_some(1, several()).timeout(moment).blocking().map(drop);
    assert_eq!(late, Err(CallError::timed_out()));
    drop(all);
    assert_eq!(lock_some(2, several()).blocking().unwrap().len(), 2);
    block_on(until_all_are_free(&locks));
}

#[test]
fn error_of_one_lock_releases_all_others() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 3).await;
        manager.remove("lock 01").await.unwrap();
        assert_eq!(lock_all(&locks).await.map(drop), Err(CallError::gone()));
        assert_eq!(lock_some(3, &locks).await.map(drop), Err(CallError::gone()));
        let left = [locks[0].clone(), locks[2].clone()];
        until_all_are_free(&left).await;
    });
}

#[test]
fn other_kinds_and_managers_are_ordered_too() {
    run(async {
        let managers = [
            Manager::start().await.unwrap(),
            Manager::start().await.unwrap(),
        ];
        let reentrant = try_join_all(managers.iter().map(Manager::reentrant_lock));
        let reentrant = reentrant.await.unwrap();
        let both = lock_all(&reentrant).await.unwrap();
        // The owner acquires again.
        let again = lock_all(reentrant.iter().rev()).await.unwrap();
        drop((both, again));
        let conditions = try_join_all(managers.iter().map(Manager::condition));
        let conditions = conditions.await.unwrap();
        let guards = lock_all(&conditions).await.unwrap();
        assert!(guards.iter().all(lockkeeper::guards::Guard::is_valid));
    });
}

/// Polls a future `polls` times, and then drops it.
async fn poll_and_drop(future: impl Future, polls: usize) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if (&mut future).now_or_never().is_some() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Drops waits at every point until one completes. All answers may arrive during the first poll, so
/// this repeats until a wait was dropped before it completed.
async fn drop_anywhere<T>(lock: impl Fn() -> Wait<T>) {
    for _ in 0..1000 {
        let mut polls = 0;
        while !poll_and_drop(lock(), polls).await {
            polls += 1;
        }
        if polls > 1 {
            return;
        }
    }
    panic!("no wait was dropped before it completed");
}

#[test]
fn call_that_is_dropped_at_any_point_releases_everything() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 5).await;
        let several = || locks.iter();
        for wanted in [5, 3] {
            drop_anywhere(|| lock_some(wanted, several())).await;
            until_all_are_free(&locks).await;
        }
        // The same with a wait for a held lock.
        let busy = locks[2].acquire().await.unwrap();
        for polls in 0..200 {
            assert!(!poll_and_drop(lock_all(several()), polls).await);
        }
        until("only the busy lock is held", || async {
            held(&locks).await == [2] && locks[2].status().await.unwrap().waiting == 0
        })
        .await;
        drop(busy);
        let keys = manager.keyed_lock().await.unwrap();
        drop_anywhere(|| lock_all(["a", "b", "c"].map(|key| (&keys, key)))).await;
        until("no key is held", || async {
            keys.status().await.unwrap().keys == 0
        })
        .await;
    });
}

/// The critical section of each lock, and whether a task is in it.
#[derive(Clone)]
struct Sections(Arc<Vec<AtomicBool>>);

impl Sections {
    fn new(number: usize) -> Self {
        Self(Arc::new(
            (0..number).map(|_| AtomicBool::new(false)).collect(),
        ))
    }

    async fn enter(&self, sections: &[usize]) {
        for section in sections {
            assert!(
                !self.0[*section].swap(true, Ordering::SeqCst),
                "two tasks are in one section"
            );
        }
        tokio::task::yield_now().await;
        for section in sections {
            self.0[*section].store(false, Ordering::SeqCst);
        }
    }
}

/// Draws some indices in random order.
fn any_of(number: usize, random: &mut StdRng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..number).collect();
    all.shuffle(random);
    all.truncate(random.random_range(2..=4));
    all
}

#[test]
fn tasks_with_random_sets_in_random_order_all_complete_and_exclude_each_other() {
    const LOCKS: usize = 6;
    const ROUNDS: usize = 60;
    run(async {
        let mut random = seeded();
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, LOCKS).await;
        let keys = manager.keyed_lock().await.unwrap();
        let (sections, chambers) = (Sections::new(LOCKS), Sections::new(LOCKS));
        let dropped = Arc::new(AtomicUsize::new(0));
        let tasks = (0..12).map(|_| {
            let mut random = StdRng::seed_from_u64(random.random());
            let (locks, keys, dropped) = (locks.clone(), keys.clone(), Arc::clone(&dropped));
            let (sections, chambers) = (sections.clone(), chambers.clone());
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let set = any_of(LOCKS, &mut random);
                    let several = || set.iter().map(|n| &locks[*n]);
                    match random.random_range(0..4) {
                        0 => {
                            let polls = random.random_range(0..12);
                            if !poll_and_drop(lock_all(several()), polls).await {
                                dropped.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        1 => {
                            let number = random.random_range(1..=set.len());
                            let guards = lock_some(number, several()).await.unwrap();
                            assert_eq!(guards.len(), number);
                            let had: Vec<usize> = guards.iter().map(|(n, _)| set[*n]).collect();
                            sections.enter(&had).await;
                        }
                        2 => {
                            let wanted = set.iter().map(|key| (&keys, key.to_string()));
                            let guards = lock_all(wanted).await.unwrap();
                            let had = guards.iter().map(|guard| guard.key().parse().unwrap());
                            let had: Vec<usize> = had.collect();
                            assert_eq!(had, set);
                            chambers.enter(&had).await;
                        }
                        _ => {
                            let guards = lock_all(several()).await.unwrap();
                            sections.enter(&set).await;
                            drop(guards);
                        }
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert!(dropped.load(Ordering::Relaxed) > 0, "no call was dropped");
        until_all_are_free(&locks).await;
        until("no key is held", || async {
            keys.status().await.unwrap().keys == 0
        })
        .await;
    });
}

/// The configuration of a process that acquires sets of locks repeatedly.
#[derive(Serialize, Deserialize)]
struct Crossing {
    locks: Vec<Lock>,
    keys: KeyedLock,
    folder: PathBuf,
    seed: u64,
    rounds: usize,
    /// Whether the process will be killed. The system releases its file locks later than the manager
    /// its holds, so it does not lock the files.
    is_killed: bool,
}

/// Acquires random sets of locks and keys, and checks that it holds them exclusively.
async fn cross(crossing: Crossing) {
    let mut random = StdRng::seed_from_u64(crossing.seed);
    for round in 0..crossing.rounds {
        let set = any_of(crossing.locks.len(), &mut random);
        // A check that does not rely on the locks: only one process can lock a file.
        let file_of = |section: String| {
            let file = File::create(crossing.folder.join(section)).unwrap();
            file.try_lock().expect("no other process is in the section");
            file
        };
        let locks = lock_all(set.iter().map(|n| &crossing.locks[*n]))
            .await
            .unwrap();
        let keys = set.iter().map(|key| (&crossing.keys, key.to_string()));
        let keys = lock_some(2, keys).await.unwrap();
        let inside = set.iter().map(|n| file_of(format!("lock {n}")));
        let inside = inside.chain(
            keys.iter()
                .map(|(_, key)| file_of(format!("key {}", key.key()))),
        );
        if !crossing.is_killed {
            drop(inside.collect::<Vec<_>>());
        }
        drop((locks, keys));
        if round == crossing.rounds / 2 {
            report("half");
        }
    }
    report("done");
}

#[test]
fn processes_with_random_sets_all_complete_although_some_are_killed() {
    const PROCESSES: usize = 6;
    const KILLED: usize = 2;
    run(async {
        let mut random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let manager = Manager::start().await.unwrap();
        let locks = locks(&manager, 5).await;
        let keys = manager.keyed_lock().await.unwrap();
        let mut children: Vec<Role> = (0..PROCESSES)
            .map(|n| {
                let crossing = Crossing {
                    locks: locks.clone(),
                    keys: keys.clone(),
                    folder: folder.path().to_owned(),
                    seed: random.random(),
                    // The processes that are killed must not complete before.
                    rounds: if n < KILLED { 1_000_000 } else { 150 },
                    is_killed: n < KILLED,
                };
                Role::start("lock::several::crosser", &crossing)
            })
            .collect();
        let survivors = children.split_off(KILLED);
        let dead: Vec<u32> = children.iter().map(Role::pid).collect();
        for mut child in survivors {
            assert_eq!(child.next_report(), "half");
            // They are killed at any moment before they complete.
            if let Some(mut victim) = children.pop() {
                victim.kill();
            }
            assert_eq!(child.next_report(), "done");
        }
        for lock in &locks {
            let guard = lock.acquire().await.unwrap();
            let left_by = guard.abandoned().map(|left| left.holder.pid);
            assert!(left_by.is_none_or(|pid| dead.contains(&pid)));
        }
        until_all_are_free(&locks).await;
        until("no key is held", || async {
            keys.status().await.unwrap().keys == 0
        })
        .await;
    });
}

//! Calls of guards, items and values as values: they are sent by the first poll, also on a plain thread,
//! and a call that is dropped before it does what the drop of its guard does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use lockkeeper::{CallError, Manager, block_on};
use lockkeeper_test_support::Watchdog;

use crate::run;

#[test]
fn plain_threads_make_all_calls_of_guards_and_values_by_blocking() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    let guard = lock.acquire().blocking().unwrap();
    let guard = lock.adopt(guard.into_ticket()).blocking().unwrap();
    guard.release().blocking().unwrap();
    assert_eq!(lock.info().blocking().unwrap().kind, "lock");

    let keyed = block_on(manager.keyed_lock()).unwrap();
    let guard = keyed.acquire("a").blocking().unwrap();
    assert_eq!(keyed.keys().blocking().unwrap(), ["a".into()]);
    let guard = keyed.adopt(guard.into_ticket()).blocking().unwrap();
    guard.release().blocking().unwrap();
    assert_eq!(keyed.keys().blocking().unwrap(), []);

    let rw_lock = block_on(manager.rw_lock()).unwrap();
    let writer = rw_lock.write().blocking().unwrap();
    let upgradable = writer.downgrade_to_upgradable().blocking().unwrap();
    let reader = upgradable.downgrade().blocking().unwrap();
    reader.release().blocking().unwrap();

    let semaphore = block_on(manager.semaphore(1)).unwrap();
    let permit = semaphore.acquire().blocking().unwrap();
    permit.release().blocking().unwrap();
    assert_eq!(semaphore.status().blocking().unwrap().available, 1);

    let queue = block_on(manager.queue(1)).unwrap();
    queue.put(7).blocking().unwrap();
    let item = queue.get().blocking().unwrap();
    item.put_back().blocking().unwrap();
    assert_eq!(queue.get().blocking().unwrap().done().blocking(), Ok(7));

    let value = block_on(manager.value(1)).unwrap();
    assert_eq!(value.compare_exchange(1, 2).blocking(), Ok(Ok(1)));
    assert_eq!(value.update(|value| value * 2).blocking(), Ok(2));
    assert_eq!(value.try_update(|_| None).blocking(), Ok(Err(4)));
    assert_eq!(value.fetch_add(3).blocking(), Ok(4));
    assert_eq!(value.get().blocking(), Ok(7));
}

#[test]
fn release_that_is_never_polled_sends_nothing_until_its_drop_releases() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let release = lock.acquire().await.unwrap().release();
        assert!(lock.status().await.unwrap().is_held);
        drop(release);
        assert!(!lock.status().await.unwrap().is_held);

        let rw_lock = manager.rw_lock().await.unwrap();
        let downgrade = rw_lock.write().await.unwrap().downgrade();
        assert!(rw_lock.try_read().await.unwrap().is_none());
        drop(downgrade);
        assert!(rw_lock.try_write().await.unwrap().is_some());

        let semaphore = manager.semaphore(2).await.unwrap();
        let release = semaphore.acquire_many(2).await.unwrap().release();
        assert_eq!(semaphore.status().await.unwrap().available, 0);
        drop(release);
        assert_eq!(semaphore.status().await.unwrap().available, 2);
    });
}

#[test]
fn release_that_is_not_polled_yet_keeps_its_owner() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.reentrant_lock().await.unwrap();
        // An owner is a task.
        let entered = tokio::spawn(async move {
            let release = lock.acquire().await.unwrap().release();
            let again = lock.try_acquire().await.unwrap();
            release.await.unwrap();
            let is_held = lock.status().await.unwrap().is_held;
            (again.is_some(), is_held)
        });
        assert_eq!(entered.await.unwrap(), (true, true));
    });
}

#[test]
fn acknowledgement_that_is_never_polled_puts_its_item_back() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let queue = manager.queue(1).await.unwrap();
        queue.put(7).await.unwrap();
        drop(queue.get().await.unwrap().done());
        assert_eq!(queue.get().await.unwrap().attempts(), 2);
        let put_back = queue.get().await.unwrap().put_back();
        assert_eq!(queue.len().await, Ok(0));
        drop(put_back);
        assert_eq!(queue.len().await, Ok(1));
    });
}

#[test]
fn adoption_and_update_that_are_never_polled_change_nothing() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let ticket = lock.acquire().await.unwrap().into_ticket();
        drop(lock.adopt(ticket.clone()));
        lock.release_ticket(ticket).await.unwrap();

        let value = manager.value(1).await.unwrap();
        let has_run = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&has_run);
        drop(value.update(move |value| {
            runs.store(true, Ordering::Relaxed);
            value + 1
        }));
        drop(value.fetch_add(1));
        drop(value.compare_exchange(1, 2));
        assert_eq!(value.versioned().await.unwrap().version, 0);
        assert!(!has_run.load(Ordering::Relaxed));
    });
}

#[test]
fn update_that_others_overtake_ends_with_its_timeout() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let value = manager.value(0).await.unwrap();
        let other = value.clone();
        let update = value.update(move |value| {
            let other = other.clone();
            let set = thread::spawn(move || other.set(value + 1).blocking());
            set.join().unwrap().unwrap();
            value
        });
        let told = update.timeout(Duration::from_millis(20)).await;
        assert!(matches!(told, Err(CallError::TimedOut(_))), "{told:?}");
    });
}

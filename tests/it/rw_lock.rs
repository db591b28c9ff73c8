//! The guarantees of a readers-writer lock, through its proxy.

pub(crate) mod deaths;
pub(crate) mod status;

use std::{
    future::Future,
    pin::Pin,
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use lockkeeper::{
    CallError, Fence, Manager, Pool, ReleaseBy, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard,
    RwLockWriteGuard, Task,
    builders::Program,
    errors::Refusal,
    kind::{sync, sync::Access, sync::AcquireFor, sync::Downgrade, sync::Upgrade},
};
use serde::{Deserialize, Serialize};

use crate::{
    run,
    rw_lock::status::{FREE, state, until_state},
};

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Look>()
}

/// Acquires for reading, and returns the number of readers.
#[derive(Serialize, Deserialize)]
struct Look(RwLock);

impl Task for Look {
    const NAME: &'static str = "look";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let _guard = self.0.read().await?;
        Ok(self.0.status().await?.readers)
    }
}

async fn manager_and_lock() -> (Manager, RwLock) {
    let manager = Manager::start().await.unwrap();
    let lock = manager.rw_lock().await.unwrap();
    (manager, lock)
}

/// Polls a call once, so that it is sent before all later calls, and checks that it waits.
fn waiting<'a, T>(call: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    let mut call = Box::pin(call);
    assert!((&mut call).now_or_never().is_none(), "the call should wait");
    call
}

#[test]
fn readers_share_the_lock_and_none_overtakes_a_waiting_writer() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let first: RwLockReadGuard = lock.read().await.unwrap();
        let second = lock.read().await.unwrap();
        assert_eq!(state(&lock).await, (2, false, false, 0));
        let writer = waiting(lock.write());
        let readers = [(); 3].map(|()| waiting(lock.read()));
        let last = waiting(lock.write());
        assert_eq!(state(&lock).await, (2, false, false, 5));
        assert!(lock.try_read().await.unwrap().is_none());
        assert!(lock.try_upgradable_read().await.unwrap().is_none());
        assert!(lock.try_write().await.unwrap().is_none());
        drop((first, second));
        let writer: RwLockWriteGuard = writer.await.unwrap();
        assert_eq!(state(&lock).await, (0, false, true, 4));
        drop(writer);
        let readers = futures::future::join_all(readers).await;
        assert!(readers.iter().all(Result::is_ok));
        assert_eq!(state(&lock).await, (3, false, false, 1));
        drop(readers);
        drop(last.await.unwrap());
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn one_reader_at_a_time_may_upgrade() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let first: RwLockUpgradableReadGuard = lock.upgradable_read().await.unwrap();
        let beside = lock.try_read().await.unwrap();
        assert!(beside.is_some());
        assert!(lock.try_upgradable_read().await.unwrap().is_none());
        let second = waiting(lock.upgradable_read());
        assert_eq!(state(&lock).await, (2, true, false, 1));
        // The next caller may upgrade now, and the first one keeps reading.
        let first = first.downgrade().await.unwrap();
        let second = second.await.unwrap();
        assert_eq!(state(&lock).await, (3, true, false, 0));
        assert!(first.is_valid() && second.is_valid());
        drop((reader, first, beside, second));
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn upgrade_waits_for_the_readers_before_all_others_and_admits_none() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let upgradable = lock.upgradable_read().await.unwrap();
        let before = upgradable.fence();
        let writer = waiting(lock.write());
        let upgrade = waiting(upgradable.upgrade());
        let late = waiting(lock.read());
        assert_eq!(state(&lock).await, (1, true, false, 3));
        drop(reader);
        let upgraded = upgrade.await.unwrap();
        assert!(upgraded.fence() > before);
        assert_eq!(state(&lock).await, (0, false, true, 2));
        drop(upgraded);
        let writer = writer.await.unwrap();
        assert_eq!(state(&lock).await, (0, false, true, 1));
        drop(writer);
        drop(late.await.unwrap());
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn upgrade_that_times_out_returns_the_guard() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let upgradable = lock.upgradable_read().await.unwrap();
        let fence = upgradable.fence();
        let upgradable = upgradable.try_upgrade().await.unwrap().unwrap_err();
        let begin = Instant::now();
        let upgradable = upgradable.try_upgrade().timeout(SHORT).await.unwrap();
        let upgradable = upgradable.unwrap_err();
        assert!(begin.elapsed() >= SHORT);
        assert!(upgradable.is_valid() && upgradable.fence() == fence);
        assert_eq!(state(&lock).await, (1, true, false, 0));
        drop(reader);
        let writer = upgradable.try_upgrade().await.unwrap().unwrap();
        assert_eq!(state(&lock).await, (0, false, true, 0));
        let upgradable = writer.downgrade_to_upgradable().await.unwrap();
        let writer = upgradable
            .try_upgrade()
            .timeout(Duration::MAX)
            .await
            .unwrap();
        assert!(writer.unwrap().is_valid());
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn upgrade_that_is_dropped_holds_nothing() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let reader = lock.read().await.unwrap();
        let upgradable = lock.upgradable_read().await.unwrap();
        let late = {
            let upgrade = waiting(upgradable.upgrade());
            let late = waiting(lock.read());
            drop(upgrade);
            late
        };
        drop(late.await.unwrap());
        assert_eq!(state(&lock).await, (1, false, false, 0));
        let upgradable = lock.upgradable_read().await.unwrap();
        let outcome = tokio::time::timeout(SHORT, upgradable.upgrade()).await;
        assert!(outcome.is_err());
        assert_eq!(state(&lock).await, (1, false, false, 0));
        drop(lock.upgradable_read().await.unwrap().upgrade());
        assert_eq!(state(&lock).await, (1, false, false, 0));
        // A timeout is an error, and the guard was consumed by the call.
        let upgradable = lock.upgradable_read().await.unwrap();
        let late = upgradable.upgrade().timeout(SHORT).await.map(drop);
        assert!(late.unwrap_err().is_timeout());
        assert_eq!(state(&lock).await, (1, false, false, 0));
        drop(reader);
    });
}

#[test]
fn downgrade_admits_waiting_readers_and_no_writer_before_them() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let writer = lock.write().await.unwrap();
        let (fence, mut lost) = (writer.fence(), Box::pin(writer.lost()));
        let readers = [(); 2].map(|()| waiting(lock.read()));
        let next = waiting(lock.write());
        let reader = writer.downgrade().await.unwrap();
        assert_eq!(state(&lock).await, (3, false, false, 1));
        assert_eq!(reader.fence(), fence);
        for other in readers {
            assert!(other.await.unwrap().fence() > fence);
        }
        // The loss future of the writer's guard applies to the reader's guard.
        assert!((&mut lost).now_or_never().is_none());
        reader.release().await.unwrap();
        lost.await;
        let writer = next.await.unwrap();
        let upgradable = writer.downgrade_to_upgradable().await.unwrap();
        assert_eq!(state(&lock).await, (0, true, false, 0));
        assert!(lock.try_read().await.unwrap().is_some());
        drop(upgradable);
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn manager_enforces_timeouts_and_nothing_is_left() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let writer = lock.write().await.unwrap();
        let timed_out = Err(CallError::timed_out());
        for time in [SHORT, Duration::ZERO] {
            assert_eq!(lock.read().timeout(time).await.map(drop), timed_out);
            let upgradable = lock.upgradable_read().timeout(time).await;
            assert_eq!(upgradable.map(drop), timed_out);
            assert_eq!(lock.write().timeout(time).await.map(drop), timed_out);
        }
        assert_eq!(state(&lock).await, (0, false, true, 0));
        // Readers after a writer that timed out are granted.
        drop(writer);
        let reader = lock.read().timeout(Duration::MAX).await.unwrap();
        let writer = waiting(lock.write().timeout(SHORT * 10));
        let behind = waiting(lock.read());
        let behind = behind.await.unwrap();
        assert_eq!(writer.await.map(drop), timed_out);
        drop((reader, behind));
        assert!(lock.upgradable_read().timeout(SHORT).await.is_ok());
        assert_eq!(state(&lock).await, FREE);
    });
}

#[test]
fn each_writer_has_a_higher_fence_than_all_before() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let mut last = Fence::new(0);
        for _ in 0..3 {
            let reader = lock.read().await.unwrap();
            let upgradable = lock.upgradable_read().await.unwrap();
            assert!(last < reader.fence() && reader.fence() < upgradable.fence());
            last = upgradable.fence();
            drop(reader);
            let writer = upgradable.upgrade().await.unwrap();
            assert!(writer.fence() > last);
            last = writer.fence();
        }
    });
}

#[test]
fn force_unlock_ends_all_holds() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        assert!(!lock.force_unlock().await.unwrap());
        let reader = lock.read().await.unwrap();
        let upgradable = lock.upgradable_read().await.unwrap();
        let (first, second) = (reader.lost(), upgradable.lost());
        let next = waiting(lock.write());
        assert!(lock.force_unlock().await.unwrap());
        first.await;
        second.await;
        assert!(!reader.is_valid() && !upgradable.is_valid());
        let next = next.await.unwrap();
        assert!(next.is_valid() && next.abandoned().is_none());
        assert_eq!(reader.release().await, Err(NOT_HELD));
        assert_eq!(upgradable.upgrade().await.map(drop), Err(NOT_HELD));
        assert!(lock.force_unlock().await.unwrap());
        assert_eq!(next.downgrade().await.map(drop), Err(NOT_HELD));

        // A waiting upgrade fails.
        let reader = lock.read().await.unwrap();
        let upgrade = waiting(lock.upgradable_read().await.unwrap().upgrade());
        assert!(lock.force_unlock().await.unwrap());
        assert_eq!(upgrade.await.map(drop), Err(NOT_HELD));
        assert!(!reader.is_valid());
        assert_eq!(state(&lock).await, FREE);
    });
}

fn why<T>(refused: Result<T, Refusal>) -> String {
    match refused {
        Err(Refusal::Invalid(why)) => why,
        Err(refusal) => panic!("the call was refused for another reason: {refusal}"),
        Ok(_) => panic!("the call was not refused"),
    }
}

#[test]
fn impossible_changes_of_mode_are_refused_with_the_allowed_ones() {
    run(async {
        let (manager, _) = manager_and_lock().await;
        let raw = manager
            .named("raw")
            .open::<sync::RwLock>(ReleaseBy::Holder)
            .await
            .unwrap();
        let lock = manager.named("raw").rw_lock().await.unwrap();
        let acquire = |access| raw.hold(AcquireFor { access });
        let (_, reader) = acquire(Access::Read).await.unwrap();
        let (_, upgradable) = acquire(Access::Upgradable).await.unwrap();
        let (reader, grant) = (reader.proof(), upgradable.proof());

        let refused = raw.call(Upgrade { grant: reader }).await.unwrap();
        assert!(why(refused).contains("only one that was acquired as upgradable"));
        let first = waiting(raw.call(Upgrade { grant }));
        let refused = raw.call(Upgrade { grant }).await.unwrap();
        assert!(why(refused).contains("one upgrade of it at a time"));
        for to in [Access::Read, Access::Upgradable, Access::Write] {
            let refused = raw.call(Downgrade { grant: reader, to }).await.unwrap();
            assert!(why(refused).contains("from write to upgradable or read"));
            let refused = raw.call(Downgrade { grant, to }).await.unwrap();
            assert!(!why(refused).is_empty());
        }
        assert_eq!(state(&lock).await, (1, true, false, 1));
        let release = sync::Release { grant: reader };
        assert_eq!(raw.call(release).await.unwrap(), Ok(()));
        let to = Access::Upgradable;
        let over = raw.call(Downgrade { grant: reader, to }).await.unwrap();
        assert_eq!(over, Err(Refusal::NotHeld));
        assert!(first.await.unwrap().is_ok());
        assert_eq!(state(&lock).await, (0, false, true, 0));
    });
}

#[test]
fn plain_threads_pool_tasks_and_spawned_futures_can_hold_it() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let thread = {
            let lock = lock.clone();
            thread::spawn(move || -> Result<(), CallError> {
                drop(lock.read().blocking()?);
                let writer = lock.write().blocking()?;
                for time in [SHORT, Duration::ZERO] {
                    assert!(lock.read().timeout(time).blocking().is_err());
                    assert!(lock.upgradable_read().timeout(time).blocking().is_err());
                    assert!(lock.write().timeout(time).blocking().is_err());
                }
                assert!(lock.try_upgradable_read().blocking()?.is_none());
                drop(writer);
                assert!(lock.try_write().blocking()?.is_some());
                let reader = lock.try_read().blocking()?;
                let upgradable = lock.upgradable_read().blocking()?;
                let upgradable = upgradable.try_upgrade().blocking()?.unwrap_err();
                let upgradable = upgradable
                    .try_upgrade()
                    .timeout(SHORT)
                    .blocking()?
                    .unwrap_err();
                drop(reader);
                drop(upgradable.upgrade().blocking()?);
                Ok(())
            })
        };
        thread.join().unwrap().unwrap();
        let spawned = tokio::spawn(lock.read());
        let reader = spawned.await.unwrap().unwrap();
        let upgradable = lock.upgradable_read().await.unwrap();
        let aborted = tokio::spawn(lock.write());
        until_state(&lock, (1, true, false, 1)).await;
        aborted.abort();
        aborted.await.map(drop).unwrap_err();
        assert_eq!(state(&lock).await, (1, true, false, 0));
        let pool = Pool::new(2).await.unwrap();
        let looks = [(); 2].map(|()| pool.spawn(Look(lock.clone())));
        for look in looks {
            assert!(look.await.unwrap().unwrap() >= 2);
        }
        drop((reader, upgradable));
    });
}

#[test]
#[should_panic(expected = "async code")]
fn blocking_inside_an_async_context_panics() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let _guard = lock.write().await.unwrap();
        let _ = lock.read().blocking();
    });
}

#[test]
fn clones_and_deserialized_proxies_refer_to_one_lock() {
    run(async {
        let (_manager, lock) = manager_and_lock().await;
        let token = serde_json::to_string(&lock).unwrap();
        let copy: RwLock = serde_json::from_str(&token).unwrap();
        let _guard = copy.read().await.unwrap();
        assert!(lock.clone().try_write().await.unwrap().is_none());
        assert!(lock.try_read().await.unwrap().is_some());
        assert_eq!(copy.token(), lock.token());
    });
}

//! Guards that outlive their session, their object, their manager or their runtime.

use std::{future::pending, pin::pin, sync::Arc, thread, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    CallError, ConditionGuard, Limits, Lock, LockGuard, Manager, Permit, ReentrantLockGuard,
    block_on,
    errors::Refusal,
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use lockkeeper_test_support::{Watchdog, kill};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Builder, time::timeout};

use crate::{manager::process::pid_of, program, run};

/// Far longer than the report of a loss takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The time after which the manager closes the connection of a client that does not read.
const UNREAD: Duration = Duration::from_millis(500);

/// A kind that answers with the requested number of bytes.
pub(crate) struct Payloads;

/// Requests a number of bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fetch {
    pub(crate) bytes: usize,
}

impl Operation for Fetch {
    const NAME: &'static str = "pour";
    type Reply = String;
}

impl Primitive for Payloads {
    const KIND: &'static str = "flood";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Fetch>();
    }
}

impl Serve<Fetch> for Payloads {
    fn serve(&mut self, Fetch { bytes }: Fetch, call: Call<String>) {
        call.reply("x".repeat(bytes));
    }
}

/// A guard of each kind.
struct Guards {
    lock: LockGuard,
    reentrant: ReentrantLockGuard,
    condition: ConditionGuard,
    permit: Permit,
    names: Vec<String>,
}

impl Guards {
    async fn take(manager: &Manager) -> Self {
        let lock = manager.lock().await.unwrap();
        let reentrant = manager.reentrant_lock().await.unwrap();
        let condition = manager.condition().await.unwrap();
        let semaphore = manager.semaphore(2).await.unwrap();
        let names = [
            &lock.token().name,
            &reentrant.token().name,
            &condition.token().name,
            &semaphore.token().name,
        ];
        let names = names.map(String::clone).to_vec();
        Self {
            lock: lock.acquire().await.unwrap(),
            reentrant: reentrant.acquire().await.unwrap(),
            condition: condition.acquire().await.unwrap(),
            permit: semaphore.acquire_many(2).await.unwrap(),
            names,
        }
    }

    fn are_valid(&self) -> [bool; 4] {
        [
            self.lock.is_valid(),
            self.reentrant.is_valid(),
            self.condition.is_valid(),
            self.permit.is_valid(),
        ]
    }

    /// Waits until all are lost, and returns why.
    async fn are_lost(&self) -> [CallError; 4] {
        let lost = async {
            [
                self.lock.lost().await,
                self.reentrant.lost().await,
                self.condition.lost().await,
                self.permit.lost().await,
            ]
        };
        let lost = timeout(PATIENCE, lost).await.expect("all guards are lost");
        assert_eq!(self.are_valid(), [false; 4]);
        lost
    }

    /// Releases each guard, and returns the errors.
    async fn release(self) -> [CallError; 4] {
        [
            self.lock.release().await.unwrap_err(),
            self.reentrant.release().await.unwrap_err(),
            self.condition.release().await.unwrap_err(),
            self.permit.release().await.unwrap_err(),
        ]
    }
}

#[test]
fn guards_that_outlive_their_manager_are_lost_and_drop_without_an_error() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let (kept, dropped) = (Guards::take(&manager).await, Guards::take(&manager).await);
        assert_eq!(kept.are_valid(), [true; 4]);
        manager.shutdown().await;
        kept.are_lost().await;
        drop(dropped);
        for error in kept.release().await {
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
    });
}

#[test]
fn guards_of_a_killed_manager_are_lost_and_drop_without_an_error() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let (kept, dropped) = (Guards::take(&manager).await, Guards::take(&manager).await);
        kill(pid_of(&manager).await);
        kept.are_lost().await;
        // Also on a plain thread, and outside a runtime.
        thread::spawn(|| drop(dropped)).join().unwrap();
        for error in kept.release().await {
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
    });
}

#[test]
fn guards_of_removed_objects_are_lost() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let guards = Guards::take(&manager).await;
        for name in &guards.names {
            manager.remove(name).await.unwrap();
        }
        guards.are_lost().await;
        assert_eq!(guards.release().await, [(); 4].map(|()| CallError::gone()));
    });
}

#[test]
fn guards_outlive_the_runtime_on_which_they_were_acquired() {
    program();
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let guards = runtime.block_on(Guards::take(&manager));
    drop(runtime);
    assert_eq!(guards.are_valid(), [true; 4]);
    let lock = block_on(async { manager.lock().await.unwrap().acquire().await }).unwrap();
    let Guards { lock: first, .. } = guards;
    block_on(first.release()).unwrap();
    block_on(manager.shutdown());
    block_on(lock.lost());
}

#[test]
fn drop_of_a_guard_completes_its_loss_future() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let guards = Guards::take(&manager).await;
        let lost = futures::future::join_all([
            guards.lock.lost().boxed(),
            guards.reentrant.lost().boxed(),
            guards.condition.lost().boxed(),
            guards.permit.lost().boxed(),
        ]);
        drop(guards);
        let reasons = timeout(PATIENCE, lost).await;
        for why in reasons.expect("the dropped guard is lost") {
            assert_eq!(why, CallError::refused(Refusal::NotHeld));
            let why = why.to_string();
            assert!(why.contains("this process has released the hold"), "{why}");
        }
    });
}

#[test]
fn loss_future_of_each_guard_returns_why_the_hold_was_lost() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.named("the hut").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let waiting = tokio::spawn(guard.lost());
        lock.force_unlock().await.unwrap();
        for why in [waiting.await.unwrap(), guard.lost().await] {
            assert_eq!(why, CallError::refused(Refusal::NotHeld));
            let words = "lock \"the hut\": the hold ended while it was used: it was taken away";
            assert!(why.to_string().starts_with(words), "{why}");
        }

        let guards = Guards::take(&manager).await;
        for name in &guards.names {
            manager.remove(name).await.unwrap();
        }
        for why in guards.are_lost().await {
            assert_eq!(why, CallError::gone());
        }

        let guards = Guards::take(&manager).await;
        let queue = manager.queue(1).await.unwrap();
        queue.put(7).await.unwrap();
        let taken = queue.get().await.unwrap();
        kill(pid_of(&manager).await);
        let mut reasons = guards.are_lost().await.to_vec();
        reasons.push(taken.lost().await);
        for why in reasons {
            let CallError::Disconnected { address, .. } = why else {
                panic!("{why}");
            };
            assert_eq!(&address, manager.address());
        }
    });
}

#[test]
fn guards_of_a_session_that_the_manager_ends_are_lost_and_the_next_waiters_are_granted() {
    program();
    let _watchdog = Watchdog::start();
    let limits = Limits {
        unread_time: Duration::ZERO,
        ..Limits::default()
    };
    let manager = Manager::builder().limits(limits).register::<Payloads>();
    let manager = block_on(manager.start()).unwrap();
    let guards = block_on(Guards::take(&manager));
    let payloads = block_on(manager.open::<Payloads>(())).unwrap();
    // The answer is much larger than a socket's buffer, so a part of it stays unread.
    let mut answer = pin!(payloads.call(Fetch { bytes: 32 << 20 }));
    block_on(async {
        assert!(answer.as_mut().now_or_never().is_none());
        // This thread reads for its connection, so nothing is read while it sleeps.
        thread::sleep(UNREAD);
    });
    block_on(guards.are_lost());
    let anew = block_on(Manager::connect(manager.address().clone())).unwrap();
    let lock = block_on(anew.named(&guards.names[0]).lock()).unwrap();
    let guard = block_on(lock.acquire()).unwrap();
    assert!(guard.abandoned().is_some());
    for error in block_on(guards.release()) {
        assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
    }
    assert!(guard.is_valid());
}

#[test]
fn guard_drops_without_an_error_on_a_runtime_without_io() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        // So many calls wait that frames are combined.
        let waiters = (0..40).map(|_| {
            let waiting = lock.acquire();
            tokio::spawn(async { waiting.await.map(drop) })
        });
        let waiters: Vec<_> = waiters.collect();
        while lock.status().await.unwrap().waiting < 40 {
            tokio::task::yield_now().await;
        }
        let dropped = thread::spawn(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { drop(guard) });
        });
        dropped.join().expect("a drop does not panic");
        for waiting in waiters {
            waiting.await.unwrap().unwrap();
        }
    });
}

/// Runs an endless future with the guard of a lock, whose hold is lost meanwhile. Checks that the future is
/// dropped, and returns the error.
async fn is_dropped_at<F: Future>(lock: &Lock, lost: F) -> CallError {
    let guard = lock.acquire().await.unwrap();
    let kept = Arc::new(());
    let endless = {
        let kept = Arc::clone(&kept);
        async move {
            pending::<()>().await;
            drop(kept);
        }
    };
    let runs = async { timeout(PATIENCE, guard.run(endless)).await };
    let (ran, _) = futures::join!(runs, lost);
    let error = ran.expect("the loss ends it").unwrap_err();
    assert_eq!(Arc::strong_count(&kept), 1, "the future is dropped");
    error
}

#[test]
fn future_that_a_guard_runs_is_dropped_when_the_hold_is_lost_and_the_error_says_how() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let open = async || manager.named("the hut").lock().await.unwrap();
        let lock = open().await;
        let error = is_dropped_at(&lock, async { lock.force_unlock().await.unwrap() }).await;
        assert_eq!(error, CallError::refused(Refusal::NotHeld));
        let words = "lock \"the hut\": the hold ended while it was used";
        assert!(error.to_string().starts_with(words), "{error}");

        let removed = async { manager.remove("the hut").await.unwrap() };
        let error = is_dropped_at(&lock, removed).await;
        assert_eq!(error, CallError::gone());
        assert!(error.to_string().contains("the hut"), "{error}");

        let killed = async { kill(pid_of(&manager).await) };
        let error = is_dropped_at(&open().await, killed).await;
        assert!(matches!(error, CallError::Disconnected { .. }), "{error}");
    });
}

#[test]
fn future_that_a_guard_runs_returns_its_output_and_the_lock_stays_held() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let guard = manager.lock().await.unwrap().acquire().await.unwrap();
        assert_eq!(guard.run(async { 42 }).await, Ok(42));
        assert!(guard.run(pending::<()>()).now_or_never().is_none());
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}

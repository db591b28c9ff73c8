//! The metrics that a manager and a pool publish.
//!
//! The recorder and its numbers are global, so one test checks all of them, in its own process.

use std::{collections::BTreeMap, future::pending, process, time::Duration};

use futures::FutureExt;
use lockkeeper::{CallError, Lock, Manager, Pool, Retry, Task, builders::Program};
use lockkeeper_test_support::{Role, Roles, in_own_process, report, until};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde::{Deserialize, Serialize};

use crate::{program, run};

pub(crate) fn register(program: Program) -> Program {
    program.task::<Halve>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("observe::numbers::holder", |lock: Lock| async move {
        let _guard = lock.acquire().await.unwrap();
        report("held");
        pending::<()>().await;
    });
}

/// Halves even numbers. Panics on odd ones, and aborts its process on zero.
#[derive(Serialize, Deserialize)]
struct Halve(u64);

impl Task for Halve {
    const NAME: &'static str = "halve";
    type Output = u64;

    async fn run(self) -> u64 {
        if self.0 == 0 {
            process::abort();
        }
        assert!(self.0.is_multiple_of(2), "odd");
        self.0 / 2
    }
}

/// The published numbers, by name and labels.
struct Numbers {
    snapshotter: Snapshotter,
    sums: BTreeMap<String, f64>,
    waits: BTreeMap<String, Vec<f64>>,
    described: BTreeMap<String, String>,
}

impl Numbers {
    fn new(snapshotter: Snapshotter) -> Self {
        Self {
            snapshotter,
            sums: BTreeMap::new(),
            waits: BTreeMap::new(),
            described: BTreeMap::new(),
        }
    }

    /// Adds the new numbers: a snapshot resets all of them.
    fn read(&mut self) {
        for (key, _, says, value) in self.snapshotter.snapshot().into_vec() {
            let mut name = key.key().name().to_owned();
            if let Some(says) = says {
                self.described.insert(name.clone(), says.to_string());
            }
            for label in key.key().labels() {
                name = format!("{name} {}", label.value());
            }
            let sum = match value {
                DebugValue::Counter(more) => f64::from(u32::try_from(more).unwrap()),
                DebugValue::Gauge(more) => more.into_inner(),
                DebugValue::Histogram(waits) => {
                    let waits = waits.into_iter().map(|wait| wait.into_inner());
                    self.waits.entry(name).or_default().extend(waits);
                    continue;
                }
            };
            *self.sums.entry(name).or_default() += sum;
        }
    }

    fn get(&self, name: &str) -> f64 {
        self.sums.get(name).copied().unwrap_or_default()
    }

    /// Reads until the numbers are as expected: a snapshot may be taken while the manager publishes.
    async fn assert_are(&mut self, expected: &[(&str, u32)]) {
        for (name, number) in expected {
            self.until(name, *number).await;
        }
    }

    /// Waits until a number was published.
    async fn until(&mut self, name: &str, number: u32) {
        let mut is_there = || {
            self.read();
            self.get(name) == f64::from(number)
        };
        until(name, || {
            let is_there = is_there();
            async move { is_there }
        })
        .await;
    }
}

#[test]
fn numbers_match_the_performed_calls() {
    in_own_process(|| {
        program();
        let recorder = DebuggingRecorder::new();
        let mut numbers = Numbers::new(recorder.snapshotter());
        recorder.install().unwrap();
        run(async {
            count_a_manager(&mut numbers).await;
            count_several_shards(&mut numbers).await;
            count_a_pool(&mut numbers).await;
        });
    });
}

async fn count_a_manager(numbers: &mut Numbers) {
    let manager = Manager::start().await.unwrap();
    let lock = manager.named("first").lock().await.unwrap();
    let other = manager.lock().await.unwrap();
    manager.remove(&other.token().name).await.unwrap();

    // One call that waits long, one that times out, and one that is withdrawn.
    let guard = lock.acquire().await.unwrap();
    let next = tokio::spawn(lock.acquire());
    let waits = |many| {
        let lock = lock.clone();
        move || {
            let lock = lock.clone();
            async move { lock.status().await.unwrap().waiting == many }
        }
    };
    until("the call waits", waits(1)).await;
    assert!(lock.try_acquire().await.unwrap().is_none());
    let mut dropped = Box::pin(lock.acquire());
    assert!((&mut dropped).now_or_never().is_none());
    until("both wait", waits(2)).await;
    numbers.until("lockkeeper_waiting lock", 2).await;
    numbers
        .assert_are(&[
            ("lockkeeper_sessions", 1),
            ("lockkeeper_objects lock", 1),
            ("lockkeeper_objects_made_total lock", 2),
            ("lockkeeper_objects_removed_total lock", 1),
            ("lockkeeper_calls_total lock acquire", 4),
            ("lockkeeper_grants_total lock", 1),
            ("lockkeeper_timeouts_total lock", 1),
            ("lockkeeper_cancellations_total lock", 0),
        ])
        .await;
    assert!(!numbers.waits.contains_key("lockkeeper_wait_seconds lock"));
    drop(dropped);
    drop(guard);
    let guard = next.await.unwrap().unwrap();

    // One refusal, one hold that is ended by force, and one hold of a killed process.
    let ticket = guard.into_ticket();
    assert!(lock.force_unlock().await.unwrap());
    lock.release_ticket(ticket).await.unwrap_err();
    let mut holder = Role::start("observe::numbers::holder", &lock);
    assert_eq!(holder.next_report(), "held");
    holder.kill();
    let guard = lock.acquire().await.unwrap();
    assert_eq!(guard.abandoned().unwrap().holder.pid, holder.pid());
    manager.remove("first").await.unwrap();
    assert_eq!(lock.acquire().await.unwrap_err(), CallError::gone());
    let kept = manager.event().await.unwrap();
    kept.set().await.unwrap();

    manager.shutdown().await;
    numbers.read();
    numbers
        .assert_are(&[
            ("lockkeeper_sessions", 0),
            ("lockkeeper_sessions_begun_total", 2),
            ("lockkeeper_sessions_ended_total left", 1),
            ("lockkeeper_sessions_ended_total shutdown", 1),
            ("lockkeeper_objects lock", 0),
            ("lockkeeper_objects event", 0),
            ("lockkeeper_objects_made_total event", 1),
            ("lockkeeper_objects_removed_total event", 0),
            ("lockkeeper_waiting lock", 0),
            ("lockkeeper_calls_total event set", 1),
            ("lockkeeper_calls_total lock force_unlock", 1),
            ("lockkeeper_grants_total lock", 4),
            ("lockkeeper_refusals_total lock", 1),
            ("lockkeeper_cancellations_total lock", 1),
            ("lockkeeper_abandoned_total lock", 1),
            ("lockkeeper_revoked_total lock", 1),
            ("lockkeeper_connects_total", 1),
        ])
        .await;
    // The last call may have reached the object, or its session may have refused it.
    assert!(numbers.get("lockkeeper_faults_total lock") <= 1.0);
    assert!(numbers.get("lockkeeper_received_bytes_total") > 100.0);
    assert!(numbers.get("lockkeeper_sent_bytes_total") > 100.0);
    // The next waiter may also have waited for the hold of the killed process.
    let waits = &numbers.waits["lockkeeper_wait_seconds lock"];
    assert!((1..=2).contains(&waits.len()), "{waits:?}");
    let minute = Duration::from_secs(60).as_secs_f64();
    assert!(waits.iter().all(|wait| (1e-6..minute).contains(wait)));
    for name in ["lockkeeper_sessions", "lockkeeper_calls_total"] {
        assert!(!numbers.described[name].is_empty(), "{name}");
    }
}

/// Each shard counts separately, and the numbers are added up.
async fn count_several_shards(numbers: &mut Numbers) {
    let manager = Manager::builder().shards(3).start().await.unwrap();
    for _ in 0..6 {
        let latch = manager.latch(1).await.unwrap();
        latch.count_down(1).await.unwrap();
    }
    numbers.until("lockkeeper_objects latch", 6).await;
    // The client has a session with each shard that it uses.
    numbers
        .assert_are(&[
            ("lockkeeper_sessions", 3),
            ("lockkeeper_calls_total latch count_down", 6),
            ("lockkeeper_connects_total", 4),
        ])
        .await;
    manager.shutdown().await;
    numbers.read();
    numbers
        .assert_are(&[
            ("lockkeeper_sessions", 0),
            ("lockkeeper_objects latch", 0),
            ("lockkeeper_objects_made_total latch", 6),
            ("lockkeeper_sessions_ended_total shutdown", 4),
        ])
        .await;
}

async fn count_a_pool(numbers: &mut Numbers) {
    let pool = Pool::builder(1)
        .retry(Retry::attempts(2))
        .start()
        .await
        .unwrap();
    let halves = pool.try_map((1..=3).map(|number| Halve(2 * number))).await;
    assert_eq!(halves.unwrap(), [1, 2, 3]);
    pool.apply(Halve(5)).await.unwrap_err();
    pool.apply(Halve(0)).await.unwrap_err();
    pool.join().await.unwrap();
    numbers.read();
    numbers
        .assert_are(&[
            ("lockkeeper_tasks_total done", 3),
            ("lockkeeper_tasks_total panicked", 1),
            ("lockkeeper_tasks_total worker_died", 1),
            ("lockkeeper_workers_started_total", 3),
            ("lockkeeper_workers_ended_total died", 2),
            ("lockkeeper_workers_ended_total done", 1),
            ("lockkeeper_jobs_retried_total task_queue", 1),
            ("lockkeeper_calls_total task_queue submit", 2),
            // `map` submits its tasks in one call.
            ("lockkeeper_calls_total task_queue feed", 1),
            ("lockkeeper_objects task_queue", 0),
            ("lockkeeper_sessions", 0),
        ])
        .await;
}

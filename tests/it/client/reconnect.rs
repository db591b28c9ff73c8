//! Proxies whose manager is killed and restarted at the same address, with and without reconnection.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use lockkeeper::{
    Address, CallError, Event, Lock, Manager, Pool, Queue, Task, Value, block_on,
    builders::Program, errors::Refusal,
};
use lockkeeper_test_support::{Role, Roles, Watchdog, report};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    client::{label_at, label_of_holder},
    lock::waiting::until_waiting,
    program, run,
    waits::is_disconnected,
};

pub(crate) fn register(program: Program) -> Program {
    program.task::<Settle>().task::<Keep>().task::<Use>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("client::reconnect::host", host);
}

/// Hosts a manager with `shards` shards at a path until the process is killed.
async fn host((path, shards): (PathBuf, usize)) {
    let builder = Manager::builder().address(path).shards(shards);
    let _manager = builder.start().await.unwrap();
    report("up");
    std::future::pending::<()>().await;
}

/// A manager in its own process, which can be killed and restarted at the same address.
pub(crate) struct Host {
    folder: TempDir,
    shards: usize,
    process: Role,
}

impl Host {
    pub(crate) fn start(shards: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Self::process(&folder, shards);
        Self {
            folder,
            shards,
            process,
        }
    }

    fn process(folder: &TempDir, shards: usize) -> Role {
        let path = folder.path().join("manager.sock");
        let mut process = Role::start("client::reconnect::host", &(path, shards));
        assert_eq!(process.next_report(), "up");
        process
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("manager.sock")
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.process = Self::process(&self.folder, self.shards);
    }
}

pub(crate) async fn reconnecting(path: &Path) -> Manager {
    let client = Manager::client().reconnect().label("again");
    client.connect(path).await.unwrap()
}

/// Serializes and deserializes a proxy, as if another process had sent it.
fn sent<T: Serialize + for<'a> Deserialize<'a>>(proxy: &T) -> T {
    serde_json::from_str(&serde_json::to_string(proxy).unwrap()).unwrap()
}

#[test]
fn next_call_of_a_proxy_reconnects_only_if_enabled() {
    run(async {
        let [mut plain, mut chosen] = [Host::start(1), Host::start(1)];
        let here = Manager::connect(plain.path()).await.unwrap();
        let there = reconnecting(&chosen.path()).await;
        let fails = here.named("jobs").lock().await.unwrap();
        let lock = there.named("jobs").lock().await.unwrap();
        let nameless = there.lock().await.unwrap();
        let queue = there.named("queue").queue::<u32>(2).await.unwrap();
        let value = there.named("value").value(7_u32).await.unwrap();
        let event = there.named("event").event().await.unwrap();
        queue.put(1).await.unwrap();
        value.set(8).await.unwrap();
        event.set().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        drop(nameless.acquire().await.unwrap());
        drop(fails.acquire().await.unwrap());
        for _ in 0..3 {
            plain.restart();
            chosen.restart();
            assert!(is_disconnected(&fails.acquire().await));
            let again = lock.acquire().await.unwrap();
            assert!(again.fence() > guard.fence());
            assert_eq!(label_of_holder(&lock).await.unwrap(), "again");
            assert_eq!(queue.len().await.unwrap(), 0);
            queue.put(2).await.unwrap();
            assert_eq!(queue.get().await.unwrap().done().await.unwrap(), 2);
            assert_eq!(value.versioned().await.unwrap().value, 7);
            assert_eq!(event.status().await.unwrap().generation, 0);
            assert!(matches!(nameless.acquire().await, Err(CallError::Gone(_))));
            assert!(matches!(nameless.info().await, Err(CallError::Gone(_))));
            // The old hold does not affect the new one.
            assert!(!guard.is_valid() && again.is_valid());
            assert!(
                is_disconnected(&there.lock().await),
                "a handle belongs to one run of a manager"
            );
        }
        assert!(is_disconnected(&guard.release().await));
    });
}

#[test]
fn repeated_requests_of_one_call_end_with_their_connection() {
    run(async {
        let host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let value = manager.named("value").value(7_u32).await.unwrap();
        let mut changes = value.watch();
        assert_eq!(changes.next().await.unwrap().unwrap().value, 7);
        // The new manager's value has the version that was read from the old one.
        let host = Arc::new(Mutex::new(host));
        let restarted = Arc::clone(&host);
        let updated = value.update(move |before| {
            restarted.lock().unwrap().restart();
            before + 1
        });
        assert!(is_disconnected(&updated.await));
        assert!(is_disconnected(&changes.next().await.unwrap()));
        assert_eq!(value.get().await.unwrap(), 7);
    });
}

#[test]
fn plain_thread_calls_the_new_manager_after_an_unnoticed_loss() {
    program();
    let _watchdog = Watchdog::start();
    let mut host = Host::start(1);
    let manager = block_on(reconnecting(&host.path()));
    let lock = block_on(manager.named("jobs").lock()).unwrap();
    let queue = block_on(manager.named("queue").queue::<u32>(2)).unwrap();
    let value = block_on(manager.named("value").value(1_u32)).unwrap();
    for round in 0..3 {
        drop(lock.acquire().blocking().unwrap());
        host.restart();
        match round {
            0 => drop(lock.acquire().blocking().unwrap()),
            1 => queue.put(5).blocking().unwrap(),
            _ => drop(block_on(value.set(2)).unwrap()),
        }
        // Reading the status is a call too.
        host.restart();
        assert_eq!(block_on(lock.info()).unwrap().name, "jobs");
    }
}

#[test]
fn running_call_and_hold_end_with_the_connection() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let lock = manager.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let lost = tokio::spawn(guard.lost());
        let waiting = tokio::spawn(lock.acquire());
        until_waiting(&lock, 1).await;
        host.restart();
        assert!(is_disconnected(&waiting.await.unwrap()));
        lost.await.unwrap();
        // Dropping the old guard must not release the proxy's new hold.
        let again = lock.acquire().await.unwrap();
        drop(guard);
        assert!(lock.try_acquire().await.unwrap().is_none());
        assert!(again.is_valid());
    });
}

#[test]
fn each_call_to_a_dead_manager_fails_at_once() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let lock = manager.named("jobs").lock().await.unwrap();
        let event: Event = manager.named("event").event().await.unwrap();
        drop(lock.acquire().await.unwrap());
        host.kill();
        let begun = Instant::now();
        for _ in 0..20 {
            let outcome = lock.acquire().timeout(Duration::from_secs(60)).await;
            assert!(
                matches!(outcome, Err(CallError::NoManager { .. })),
                "{outcome:?}"
            );
            let outcome = event.set().await;
            assert!(
                matches!(outcome, Err(CallError::NoManager { .. })),
                "{outcome:?}"
            );
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        host.restart();
        drop(lock.acquire().await.unwrap());
        event.set().await.unwrap();
    });
}

#[test]
fn proxies_of_all_shards_reconnect() {
    run(async {
        let mut host = Host::start(2);
        let manager = reconnecting(&host.path()).await;
        let mut locks: Vec<Lock> = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            locks.push(manager.named(name).lock().await.unwrap());
        }
        let shards = |lock: &&Lock| lock.token().address == *manager.address();
        let on_first = locks.iter().filter(shards).count();
        assert!(
            (1..locks.len()).contains(&on_first),
            "{on_first} are on one shard"
        );
        for _ in 0..2 {
            for lock in &locks {
                assert_eq!(label_at(lock).await, "again");
            }
            host.restart();
        }
    });
}

#[test]
fn sent_proxy_finds_its_object_by_name_once_it_exists() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let lock: Lock = sent(&manager.named("jobs").lock().await.unwrap());
        drop(lock.acquire().await.unwrap());
        host.restart();
        let outcome = lock.acquire().await.map(drop);
        assert!(
            matches!(outcome, Err(CallError::NoObject { .. })),
            "{outcome:?}"
        );
        let manager = reconnecting(&host.path()).await;
        let made = manager.named("jobs").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        assert!(made.try_acquire().await.unwrap().is_none());
        manager.remove("jobs").await.unwrap();
        assert!(matches!(lock.acquire().await, Err(CallError::Gone(_))));
    });
}

#[test]
fn new_object_agrees_to_the_schema_id_before_a_value_is_sent() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let queue: Queue<u32> = sent(&manager.named("jobs").queue::<u32>(9).await.unwrap());
        let value: Value<u32> = sent(&manager.named("level").value(1_u32).await.unwrap());
        queue.put(1).await.unwrap();
        value.get().await.unwrap();
        host.restart();
        let manager = reconnecting(&host.path()).await;
        let texts = manager.named("jobs").queue::<String>(9).await.unwrap();
        manager.named("level").value(String::new()).await.unwrap();
        let put = queue.put(1).await.unwrap_err().error;
        assert!(
            matches!(put, CallError::Refused(Refusal::WrongType { .. }, _)),
            "{put:?}"
        );
        let got = value.get().await.unwrap_err();
        assert!(
            matches!(got, CallError::Refused(Refusal::WrongType { .. }, _)),
            "{got:?}"
        );
        assert_eq!(texts.len().await.unwrap(), 0);
    });
}

/// Enables reconnection in a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Settle(Address);

impl Task for Settle {
    const NAME: &'static str = "client::reconnect::settle";
    type Output = ();

    async fn run(self) {
        let client = Manager::client().label("worker").reconnect();
        client.connect(self.0).await.unwrap();
    }
}

/// The proxy that a worker's tasks share.
static KEPT: Mutex<Option<Lock>> = Mutex::new(None);

/// Uses a lock and keeps its proxy for later tasks of the worker.
#[derive(Debug, Serialize, Deserialize)]
struct Keep(Lock);

impl Task for Keep {
    const NAME: &'static str = "client::reconnect::keep";
    type Output = String;

    async fn run(self) -> String {
        *KEPT.lock().unwrap() = Some(self.0.clone());
        label_at(&self.0).await
    }
}

/// Uses the kept proxy.
#[derive(Debug, Serialize, Deserialize)]
struct Use;

impl Task for Use {
    const NAME: &'static str = "client::reconnect::use";
    type Output = String;

    async fn run(self) -> String {
        let kept = KEPT.lock().unwrap().clone();
        label_at(&kept.expect("an earlier task has kept it")).await
    }
}

#[test]
fn kept_proxy_of_a_worker_reconnects_with_the_settings_of_its_initializer() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let lock = manager.named("jobs").lock().await.unwrap();
        let settle = Settle(manager.address().clone());
        let pool = Pool::builder(1).initializer(settle).start().await.unwrap();
        assert_eq!(pool.apply(Keep(lock.clone())).await.unwrap(), "worker");
        for _ in 0..2 {
            host.restart();
            // This creates the object in the new manager.
            drop(lock.acquire().await.unwrap());
            assert_eq!(pool.apply(Use).await.unwrap(), "worker");
        }
    });
}

//! What programs do over the network, with real processes.

use std::{collections::BTreeSet, thread};

use lockkeeper::{
    Address, BoundedSemaphore, CallError, Lock, Manager, Pool, Semaphore, Task, Value, block_on,
    builders::Program,
};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};

use crate::{Site, run, unpinned};

pub(crate) fn register(program: Program) -> Program {
    program.task::<Draw>().task::<Squeeze>()
}

/// A number that is drawn while at most two tasks are inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Draw {
    number: u64,
    permits: Semaphore,
    inside: Value<(u64, u64)>,
}

impl Task for Draw {
    const NAME: &'static str = "net::draw";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let _permit = self.permits.acquire().await?;
        let enter = |(now, most): (u64, u64)| (now + 1, most.max(now + 1));
        self.inside.update(enter).await?;
        self.inside.update(|(now, most)| (now - 1, most)).await?;
        Ok(self.number * self.number)
    }
}

pub(crate) fn draws(count: u64, permits: &Semaphore, inside: &Value<(u64, u64)>) -> Vec<Draw> {
    let draw = |number| Draw {
        number,
        permits: permits.clone(),
        inside: inside.clone(),
    };
    (0..count).map(draw).collect()
}

/// A task that takes one of few permits for good.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Squeeze(pub(crate) BoundedSemaphore);

impl Task for Squeeze {
    const NAME: &'static str = "net::squeeze";
    type Output = Result<usize, CallError>;

    async fn run(self) -> Self::Output {
        let _permit = self.0.acquire().await?;
        Ok(std::process::id() as usize)
    }
}

pub(crate) fn roles(roles: &mut Roles) {
    // The key comes from the variable LOCKKEEPER_KEY_FILE.
    roles.add("net::counter", async |endpoint: Address| {
        let manager = Manager::connect(endpoint).await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        let count = manager.named("count").value(0_u64).await.unwrap();
        for _ in 0..20 {
            let _guard = lock.acquire().await.unwrap();
            let old = count.get().await.unwrap();
            count.set(old + 1).await.unwrap();
        }
        report("done");
    });
    roles.add("net::stranger", async |endpoint: Address| {
        let refused = Manager::connect(endpoint).await.map(drop);
        report(&refused.unwrap_err().to_string());
    });
    roles.add("net::waiter", async |endpoint: Address| {
        let manager = Manager::connect(endpoint).await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        report("waits");
        match lock.acquire().await {
            Ok(_) => report("granted"),
            Err(error) => report(&error.to_string()),
        }
    });
    roles.add("net::holder", async |endpoint: Address| {
        let manager = Manager::connect(endpoint).await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        report("held");
        std::future::pending::<()>().await;
    });
}

pub(crate) fn with_key(site: &Site, role: &str, endpoint: &Address) -> Role {
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    program.env("LOCKKEEPER_KEY_FILE", site.key());
    Role::start_by(&mut program, role, endpoint)
}

#[test]
fn ten_processes_count_under_one_lock() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = &manager.endpoints()[0];
        let mut all: Vec<_> = (0..10)
            .map(|_| with_key(&site, "net::counter", endpoint))
            .collect();
        for process in &mut all {
            assert_eq!(process.next_report(), "done");
        }
        let count = manager.named("count").value(0_u64).await.unwrap();
        assert_eq!(count.get().await.unwrap(), 200);
    });
}

#[test]
fn workers_of_a_pool_share_a_semaphore() {
    run(async {
        let site = Site::new();
        let server = site.builder().listen("tls://127.0.0.1:0");
        let server = server.spawn().await.unwrap();
        let manager = site.connect(&server.endpoints()[0]).await.unwrap();
        let permits = manager.semaphore(2).await.unwrap();
        let inside = manager.value((0_u64, 0_u64)).await.unwrap();
        let pool = Pool::new(4).await.unwrap();
        // The workers got the key of this process when they were started.
        std::fs::remove_file(site.key()).unwrap();
        let squares = pool.try_map(draws(40, &permits, &inside)).await.unwrap();
        let squares: Vec<_> = squares.into_iter().map(Result::unwrap).collect();
        assert_eq!(squares, (0..40).map(|it| it * it).collect::<Vec<_>>());
        let (now, most) = inside.get().await.unwrap();
        assert_eq!(now, 0);
        assert!((1..=2).contains(&most), "{most}");
    });
}

#[test]
fn process_that_is_killed_frees_its_lock_and_is_told_with_its_host() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = &manager.endpoints()[0];
        let mut holder = with_key(&site, "net::holder", endpoint);
        assert_eq!(holder.next_report(), "held");
        let lock = manager.named("lock").lock().await.unwrap();
        let shown = manager.inspect().await.unwrap().to_string();
        let told = format!("process {} at 127.0.0.1 by its own account", holder.pid());
        assert!(shown.contains(&told), "{shown}");
        holder.kill();
        let guard = lock.acquire().await.unwrap();
        let abandoned = guard.abandoned().expect("the holder has died");
        assert_eq!(abandoned.holder.host.as_deref(), Some("127.0.0.1"));
        assert!(abandoned.holder.pid_is_unverified);
        assert_eq!(abandoned.holder.pid, holder.pid());
    });
}

#[test]
fn large_values_go_both_ways_at_once() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let client = site.connect(&manager.endpoints()[0]).await.unwrap();
        let values = (0..4_u8).map(async |number| {
            // Larger than the buffers of the sockets.
            let bytes: Vec<_> = (0..8 << 20)
                .map(|at: u32| number ^ at.to_le_bytes()[1])
                .collect();
            let value = client.value(bytes.clone()).await.unwrap();
            for _ in 0..2 {
                assert!(value.get().await.unwrap() == bytes);
                value.set(bytes.clone()).await.unwrap();
            }
        });
        futures::future::join_all(values).await;
    });
}

#[test]
fn plain_threads_call_at_once() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = manager.endpoints()[0].clone();
        let key = site.key();
        let threads: Vec<_> = (0..4_u8)
            .map(|number| {
                let (endpoint, key) = (endpoint.clone(), key.clone());
                thread::spawn(move || {
                    let client = Manager::client().key_file(key);
                    let manager = block_on(client.connect(endpoint)).unwrap();
                    let lock: Lock = block_on(manager.named("lock").lock()).unwrap();
                    // Several times what a read takes at once.
                    let bytes = vec![number; 1 << 20];
                    let value = block_on(manager.value(bytes.clone())).unwrap();
                    for _ in 0..20 {
                        let _guard = lock.acquire().blocking().unwrap();
                        assert!(block_on(value.get()).unwrap() == bytes);
                    }
                })
            })
            .collect();
        for thread in threads {
            let joined = tokio::task::spawn_blocking(|| thread.join());
            joined.await.unwrap().unwrap();
        }
    });
}

#[test]
fn shards_have_one_endpoint() {
    run(async {
        let site = Site::new();
        let manager = site.builder().listen("tls://127.0.0.1:0").shards(3);
        let manager = manager.start().await.unwrap();
        let endpoint = &manager.endpoints()[0];
        let client = site.connect(endpoint).await.unwrap();
        assert_eq!(client.endpoints(), manager.endpoints());
        let mut shards = BTreeSet::new();
        for number in 0..20 {
            let name = number.to_string();
            let lock = client.named(&name).lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let same = manager.named(&name).lock().await.unwrap();
            assert!(same.try_acquire().await.unwrap().is_none());
            drop(guard);
            let token = serde_json::to_string(&lock.token()).unwrap();
            shards.insert(lock.token().address.to_string());
            assert!(token.contains(&lock.token().address.to_string()), "{token}");
        }
        assert_eq!(shards.len(), 3, "{shards:?}");
    });
}

#[test]
fn proxy_reconnects_to_the_next_manager_at_the_endpoint() {
    run(async {
        let site = Site::new();
        let mut manager = site.start().await;
        let endpoint = manager.endpoints()[0].clone();
        let client = Manager::client().key_file(site.key()).reconnect();
        let client = client.connect(&endpoint).await.unwrap();
        let lock = client.named("lock").lock().await.unwrap();
        let mut last = 0;
        for _ in 0..3 {
            let guard = lock.acquire().await.unwrap();
            assert!(guard.fence().number() > last);
            last = guard.fence().number();
            manager.shutdown().await;
            guard.lost().await;
            let builder = site.builder().listen(unpinned(&endpoint));
            manager = builder.start().await.unwrap();
        }
    });
}

#[test]
fn calls_in_progress_end_with_the_manager() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = manager.endpoints()[0].clone();
        let client = site.connect(&endpoint).await.unwrap();
        let lock = client.lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        let waiting = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire().await.map(drop) }
        });
        until("the call waits", async || {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        manager.shutdown().await;
        let shown = waiting.await.unwrap().unwrap_err().to_string();
        assert!(shown.contains("it was shut down"), "{shown}");
        let gone = site.connect(&endpoint).await.unwrap_err().to_string();
        assert!(gone.contains("refused"), "{gone}");
        // The port is free again at once.
        let builder = site.builder().listen(unpinned(&endpoint));
        let next = builder.start().await.unwrap();
        assert_eq!(
            next.endpoints()[0],
            endpoint,
            "the fingerprint is the same too"
        );
    });
}

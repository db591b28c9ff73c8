//! Leases over TLS, with a relay that loses what a network may lose.

use std::time::{Duration, Instant};

use lockkeeper::{Lock, Manager, net::make_key_file};
use lockkeeper_test_support::{Link, Relay, Role, kill, signal, until};
use rustix::process::Signal;

use crate::{LEASE, Site, port, run, services::with_key};

/// A manager, and a client of it on the other side of a relay.
struct Scene {
    site: Site,
    manager: Manager,
    client: Manager,
    relay: Relay,
    near: Lock,
    far: Lock,
}

impl Scene {
    async fn new() -> Self {
        Self::with_lease(LEASE).await
    }

    async fn with_lease(lease: Duration) -> Self {
        let site = Site::new();
        let builder = site.builder().lease(lease);
        let manager = builder.listen("tls://127.0.0.1:0").start().await.unwrap();
        let relay = Relay::start(0, port(&manager.endpoints()[0]));
        let address = format!("tls://127.0.0.1:{}", relay.port());
        let client = Manager::client().reconnect().key_file(site.key());
        let client = client.connect(address).await.unwrap();
        Self {
            near: manager.named("lock").lock().await.unwrap(),
            far: client.named("lock").lock().await.unwrap(),
            client,
            site,
            manager,
            relay,
        }
    }
}

#[test]
fn client_that_is_cut_off_gives_up_before_another_is_granted() {
    run(async {
        for link in [Link::Down, Link::CutAtManager] {
            let scene = Scene::new().await;
            let guard = scene.far.acquire().await.unwrap();
            let lost = guard.lost();
            let lost = tokio::spawn(async move {
                let why = lost.await;
                (why.to_string(), Instant::now())
            });
            scene.relay.set(link);
            let next = scene.near.acquire().await.unwrap();
            let granted = Instant::now();
            let (why, lost) = lost.await.unwrap();
            assert!(lost < granted, "{link:?}");
            assert!(why.contains("its lease is over"), "{link:?}: {why}");
            assert!(!guard.is_valid() && next.abandoned().is_some());
        }
    });
}

/// A lease that ends in no test.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn session_goes_on_over_another_connection_and_no_call_is_lost_or_done_twice() {
    run(async {
        let scene = Scene::with_lease(LONG).await;
        let guard = scene.far.acquire().await.unwrap();
        let far = scene.client.named("count").value(0_u64).await.unwrap();
        let near = scene.manager.named("count").value(0_u64).await.unwrap();
        let mut done = 0;
        for round in 0..20 {
            let cut = scene.relay.clone();
            // The connection ends while calls are on their way.
            let cutting = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(round)).await;
                cut.cut();
            });
            let calls = (0..50).map(|_| far.update(|count| count + 1));
            for outcome in futures::future::join_all(calls).await {
                outcome.unwrap();
                done += 1;
            }
            cutting.await.unwrap();
            assert!(guard.is_valid());
        }
        assert_eq!(near.get().await.unwrap(), done);
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}

#[test]
fn waiter_whose_connection_is_cut_keeps_its_place() {
    run(async {
        let scene = Scene::with_lease(LONG).await;
        let near = scene.near.acquire().await.unwrap();
        let waiter = scene.far.clone();
        let waiter = tokio::spawn(async move { waiter.acquire().await });
        until("the waiter waits", async || {
            scene.near.status().await.unwrap().waiting == 1
        })
        .await;
        scene.relay.cut();
        near.release().await.unwrap();
        // It is granted while there is no connection, or afterwards.
        let granted = waiter.await.unwrap().unwrap();
        assert!(granted.is_valid() && granted.abandoned().is_none());
        scene.relay.cut();
        granted.release().await.unwrap();
        assert!(scene.near.try_acquire().await.unwrap().is_some());
    });
}

#[test]
fn manager_that_frees_on_close_waits_for_no_lease() {
    run(async {
        let site = Site::new();
        let builder = site.builder().lease(LONG).free_on_close();
        let manager = builder.listen("tls://127.0.0.1:0").start().await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        let mut holder: Role = with_key(&site, "net::holder", &manager.endpoints()[0]);
        assert_eq!(holder.next_report(), "held");
        let begun = Instant::now();
        holder.kill();
        let next = lock.acquire().await.unwrap();
        assert!(next.abandoned().is_some() && begun.elapsed() < LONG / 2);
    });
}

#[test]
fn killed_process_keeps_its_lock_for_its_lease() {
    run(async {
        let scene = Scene::new().await;
        let endpoint = &scene.manager.endpoints()[0];
        let mut holder: Role = with_key(&scene.site, "net::holder", endpoint);
        assert_eq!(holder.next_report(), "held");
        holder.kill();
        assert!(scene.near.try_acquire().await.unwrap().is_none());
        let next = scene.near.acquire().await.unwrap();
        let mark = next.abandoned().unwrap();
        assert_eq!(mark.holder.pid, holder.pid());
    });
}

#[test]
fn waiter_that_was_stopped_is_not_granted_what_another_has_by_then() {
    run(async {
        let scene = Scene::new().await;
        let near = scene.near.acquire().await.unwrap();
        let mut waiter = with_key(&scene.site, "net::waiter", &scene.manager.endpoints()[0]);
        assert_eq!(waiter.next_report(), "waits");
        until("the waiter waits", async || {
            scene.near.status().await.unwrap().waiting == 1
        })
        .await;
        signal(waiter.pid(), Signal::STOP);
        // The grant waits in a socket of the process, until the manager gives it to the next.
        near.release().await.unwrap();
        let next = scene.near.acquire().await.unwrap();
        assert!(next.abandoned().is_some());
        signal(waiter.pid(), Signal::CONT);
        let report = waiter.next_report();
        assert!(report.contains("lease"), "{report}");
        assert!(next.is_valid());
    });
}

#[test]
fn manager_that_ends_in_order_lets_the_next_one_begin_at_once() {
    run(async {
        // Whether the clients can be told of the end.
        for is_cut in [false, true] {
            let scene = Scene::with_lease(LONG).await;
            let guard = scene.far.acquire().await.unwrap();
            if is_cut {
                scene.relay.set(Link::Down);
            }
            drop((scene.near, guard));
            scene.manager.shutdown().await;
            let builder = scene.site.builder().lease(LONG);
            let builder = builder.listen("tls://127.0.0.1:0");
            let next = tokio::time::timeout(LONG / 4, builder.start()).await;
            assert_eq!(next.is_err(), is_cut);
            scene.relay.cut();
        }
    });
}

#[test]
fn session_whose_key_was_replaced_is_not_resumed_and_ends_with_its_lease() {
    run(async {
        let scene = Scene::new().await;
        let guard = scene.far.acquire().await.unwrap();
        std::fs::remove_file(scene.site.key()).unwrap();
        make_key_file(scene.site.key()).unwrap();
        scene.relay.cut();
        let lost = guard.lost();
        let next = scene.near.acquire().await.unwrap();
        assert!(next.abandoned().is_some());
        lost.await;
        assert!(!guard.is_valid());
    });
}

#[test]
fn client_of_a_killed_manager_learns_of_it_before_its_lease_ends() {
    run(async {
        let site = Site::new();
        let builder = site.builder().lease(LONG);
        let manager = builder.listen("tls://127.0.0.1:0").spawn().await.unwrap();
        let client = site.connect(&manager.endpoints()[0]).await.unwrap();
        let guard = client.lock().await.unwrap().acquire().await.unwrap();
        kill(manager.pid().unwrap());
        let lost = tokio::time::timeout(LONG / 4, guard.lost()).await;
        assert!(lost.is_ok() && !guard.is_valid());
    });
}

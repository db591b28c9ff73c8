//! Leases over TLS, with a relay that loses what a network may lose.

use std::time::Instant;

use lockkeeper::{Lock, Manager};
use lockkeeper_test_support::{Link, Relay, Role};

use crate::{Site, port, run, services::with_key};

/// A manager, and a client of it on the other side of a relay.
struct Scene {
    site: Site,
    manager: Manager,
    relay: Relay,
    near: Lock,
    far: Lock,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new();
        let manager = site.start().await;
        let relay = Relay::start(0, port(&manager.endpoints()[0]));
        let address = format!("tls://127.0.0.1:{}", relay.port());
        let client = Manager::client().reconnect().key_file(site.key());
        let far = client.connect(address).await.unwrap();
        Self {
            near: manager.named("lock").lock().await.unwrap(),
            far: far.named("lock").lock().await.unwrap(),
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
                lost.await;
                Instant::now()
            });
            scene.relay.set(link);
            let next = scene.near.acquire().await.unwrap();
            let granted = Instant::now();
            assert!(lost.await.unwrap() < granted, "{link:?}");
            assert!(!guard.is_valid() && next.abandoned().is_some());
        }
    });
}

#[test]
fn client_that_connects_again_frees_at_once_what_it_held() {
    run(async {
        let scene = Scene::new().await;
        let begun = Instant::now();
        let guard = scene.far.acquire().await.unwrap();
        scene.relay.set(Link::CutAtClient);
        guard.lost().await;
        scene.relay.set(Link::Up);
        let again = scene.far.acquire().await.unwrap();
        assert!(again.abandoned().is_some(), "after {:?}", begun.elapsed());
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

//! The settings of managers and clients.

use lockkeeper::{Address, Manager, StartError};

use crate::{Site, port, run, unpinned};

#[test]
fn manager_listens_at_several_endpoints_beside_its_own_address() {
    run(async {
        let site = Site::new();
        let builder = site.builder().address(site.path("socket").as_path());
        let builder = builder.listen("tls://127.0.0.1:0").listen("tls://[::1]:0");
        let manager = builder.listen("tls://localhost:0").start().await.unwrap();
        let endpoints = manager.endpoints().to_vec();
        assert_eq!(endpoints.len(), 3);
        let lock = manager.named("lock").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        let mut addresses = endpoints.clone();
        addresses.extend(endpoints.iter().map(unpinned));
        for address in &addresses {
            assert_ne!(port(&endpoints[0]), 0);
            let client = site.connect(address).await.unwrap();
            assert_eq!(client.address(), address);
            let same = client.named("lock").lock().await.unwrap();
            assert!(same.try_acquire().await.unwrap().is_none(), "{address}");
        }
        let local = Manager::connect(site.path("socket").as_path())
            .await
            .unwrap();
        assert_eq!(local.endpoints(), endpoints);
    });
}

#[test]
fn name_of_a_host_is_resolved_while_the_runtime_of_the_caller_runs_on() {
    run(async {
        // The other thread may be done before the first poll returns, which says nothing.
        for _ in 0..100 {
            let site = Site::new();
            let builder = site.builder().listen("tls://no-such-host.invalid:0");
            let mut start = std::pin::pin!(builder.start());
            if futures::poll!(&mut start).is_ready() {
                continue;
            }
            let refused = start.await.map(drop);
            let shown = refused.unwrap_err().to_string();
            assert!(
                shown.contains("no-such-host.invalid is not resolved"),
                "{shown}"
            );
            return;
        }
        panic!("the name was looked up within the first poll");
    });
}

#[test]
fn setting_that_is_missing_or_too_much_is_named() {
    run(async {
        let site = Site::new();
        let endpoint = "tls://127.0.0.1:0";
        let pinned = format!("tls://127.0.0.1:7#sha256:{}", "5a".repeat(32));
        let plain = Manager::builder;
        for (builder, why) in [
            (
                plain().key_file(site.key()).listen(endpoint),
                "needs a state folder",
            ),
            (
                plain().state_folder(site.path("s")).listen(endpoint),
                "needs a key file",
            ),
            (plain().key_file(site.key()), "listens nowhere"),
            (
                plain().address("tls://127.0.0.1:7000"),
                ".listen(..) in place of .address(..)",
            ),
            (site.builder().listen("/tmp/socket"), "cannot listen at"),
            (
                site.builder().listen(pinned.as_str()),
                "without a fingerprint",
            ),
            (
                site.builder().listen("tls://127.0.0.1:7.1"),
                "cannot listen at",
            ),
            (site.builder().listen("127.0.0.1:7"), "tls://host:port"),
            (
                site.builder().listen("tls://198.51.100.7:0"),
                "not this machine",
            ),
            (
                site.builder().listen(endpoint).key_file("/nowhere/key"),
                "No such file",
            ),
        ] {
            let refused = builder.start().await.map(drop);
            let shown = refused.unwrap_err().to_string();
            assert!(shown.contains(why), "{shown}");
        }
        let in_memory = site.builder().listen(endpoint);
        let in_memory = in_memory.in_memory(async |_| ()).await;
        assert!(
            matches!(in_memory, Err(StartError::InvalidSettings(_))),
            "{in_memory:?}"
        );
        let spawned = plain().key_file(site.key()).listen(endpoint).spawn().await;
        let shown = spawned.map(drop).unwrap_err().to_string();
        assert!(shown.contains("needs a state folder"), "{shown}");
    });
}

#[test]
fn port_in_use_is_named() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let taken = unpinned(&manager.endpoints()[0]);
        let other = Site::new();
        let refused = other.builder().listen(&taken).start().await.map(drop);
        let shown = refused.unwrap_err().to_string();
        assert!(shown.contains("use another port"), "{shown}");
        assert!(shown.contains(&taken.to_string()), "{shown}");
    });
}

#[test]
fn key_can_be_replaced_while_the_manager_serves() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint: &Address = &manager.endpoints()[0];
        let before = site.connect(endpoint).await.unwrap();
        let lock = before.named("lock").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        // The manager accepts both keys, then the new one alone.
        let next = Site::new();
        let keys = [site.key(), next.key()].map(|path| std::fs::read_to_string(path).unwrap());
        std::fs::write(site.key(), keys.concat()).unwrap();
        let other = unpinned(endpoint);
        next.connect(&other).await.unwrap();
        std::fs::write(site.key(), &keys[1]).unwrap();
        let old = Site::new();
        std::fs::write(old.key(), &keys[0]).unwrap();
        let refused = Manager::client().key_file(old.key()).label("old");
        let refused = refused.connect(endpoint).await.unwrap_err().to_string();
        assert!(refused.contains("no key of the name"), "{refused}");
        // The session goes on.
        assert!(guard.is_valid());
        lock.status().await.unwrap();
    });
}

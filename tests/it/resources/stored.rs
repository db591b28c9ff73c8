//! A manager stores at most the bytes of its limit, of any kind, and keeps running.

use lockkeeper::{CallError, Limits, Manager, errors::Fault};

use super::Host;
use crate::run;

const MEGABYTE: usize = 1 << 20;

const MOST: usize = 32 * MEGABYTE;

fn limits() -> Limits {
    Limits {
        stored_bytes: MOST,
        ..Limits::default()
    }
}

fn is_limit<T>(outcome: Result<T, CallError>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(CallError::Fault(fault)) => {
            assert_eq!(fault, Fault::limit("bytes of stored data", MOST));
            true
        }
        Err(other) => panic!("{other}"),
    }
}

/// Checks that another client is served.
async fn is_served(manager: &Manager) {
    let lock = manager.named("served").lock().await.unwrap();
    lock.acquire().await.unwrap().release().await.unwrap();
}

#[test]
fn values_above_the_limit_are_refused_and_freed_bytes_can_be_used_again() {
    run(async {
        let host = Host::start(limits());
        let manager = host.connect().await;
        is_served(&manager).await;
        let before = host.peak();
        let small = async |number: usize| {
            let name = number.to_string();
            manager.named(&name).value(String::new()).await
        };
        let mut full = 0;
        while !is_limit(
            small(full)
                .await
                .unwrap()
                .set("x".repeat(4 * MEGABYTE))
                .await,
        ) {
            full += 1;
            assert!(full < 20, "no value is refused");
        }
        assert_eq!(full, 6);
        // Creating an object with a value is refused too.
        assert!(is_limit(manager.value("x".repeat(4 * MEGABYTE)).await));
        assert_eq!(small(full).await.unwrap().get().await.unwrap(), "");
        is_served(&manager).await;
        manager.remove("0").await.unwrap();
        let last = small(full).await.unwrap();
        last.set("x".repeat(4 * MEGABYTE)).await.unwrap();
        let more = host.peak() - before;
        assert!(more < 3 * MOST, "{more} bytes more");
    });
}

#[test]
fn items_above_the_limit_are_returned_to_the_sender() {
    run(async {
        let host = Host::start(limits());
        let manager = host.connect().await;
        let queue = manager.unbounded_queue::<String>().await.unwrap();
        let item = || "x".repeat(MEGABYTE);
        let refused = loop {
            if let Err(refused) = queue.put(item()).await {
                break refused;
            }
        };
        assert_eq!(refused.item, item());
        assert!(is_limit::<()>(Err(refused.error)));
        let len = queue.len().await.unwrap();
        assert!((26..28).contains(&len), "{len}");
        queue.get().await.unwrap().done().await.unwrap();
        queue.put(item()).await.unwrap();
        is_served(&manager).await;
    });
}

#[test]
fn objects_with_long_names_count_until_they_are_removed() {
    run(async {
        let limits = Limits {
            stored_bytes: MEGABYTE,
            ..Limits::default()
        };
        let manager = Manager::builder().limits(limits).start().await.unwrap();
        let name = |number: usize| format!("{number:0>250}");
        let mut made = 0;
        let refused = loop {
            match manager.named(&name(made)).lock().await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        let limit = Fault::limit("bytes of stored data", MEGABYTE);
        assert_eq!(refused, CallError::Fault(limit));
        // One client has at most half, and each object counts its task too.
        assert!((380..480).contains(&made), "{made}");
        // Existing objects are served.
        let lock = manager.named(&name(0)).lock().await.unwrap();
        assert!(!lock.status().await.unwrap().is_held);
        for number in 1..10 {
            manager.remove(&name(number)).await.unwrap();
        }
        let another = manager.named("another").lock().await.unwrap();
        another.acquire().await.unwrap().release().await.unwrap();
    });
}

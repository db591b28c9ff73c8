//! Sentences of errors that fit the kind and the call.

use std::{fmt::Display, thread, time::Duration};

use lockkeeper::{CallError, Manager, ReleaseBy, lock_all};

use crate::run;

const SHORT: Duration = Duration::from_millis(5);

#[track_caller]
fn says<T>(outcome: Result<T, impl Display>, words: &str) {
    let error = outcome.err().expect("it is an error").to_string();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}

#[test]
fn timeout_says_what_the_object_did_not_have() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("x").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        let late = lock.acquire().timeout(SHORT).await;
        says(
            late,
            "timed out: lock \"x\" was not free in time: wait longer",
        );
        let late = lock.acquire().timeout(Duration::ZERO).await;
        says(late, "lock \"x\" was not free, and the call did not wait");

        let rw_lock = manager.rw_lock().await.unwrap();
        let _reader = rw_lock.read().await.unwrap();
        says(rw_lock.write().timeout(SHORT).await, "was not free in time");
        let upgradable = rw_lock.upgradable_read().await.unwrap();
        let late = upgradable.upgrade().timeout(SHORT).await;
        says(late, "was not free of other readers in time");

        let semaphore = manager.semaphore(1).await.unwrap();
        let late = semaphore.acquire_many(2).timeout(SHORT).await;
        says(late, "had too few free permits in time");

        let queue = manager.queue::<u64>(1).await.unwrap();
        says(queue.get().timeout(SHORT).await, "had no item in time");
        queue.put(1).await.unwrap();
        says(queue.put(2).timeout(SHORT).await, "had no room in time");
        says(
            queue.try_put(2).await,
            "had no room, and the call did not wait",
        );
        says(
            queue.join().timeout(SHORT).await,
            "had items that were not done in time",
        );

        let event = manager.event().await.unwrap();
        says(event.wait().timeout(SHORT).await, "was not set in time");
        let latch = manager.latch(1).await.unwrap();
        says(
            latch.wait().timeout(SHORT).await,
            "did not reach zero in time",
        );
        says(
            latch.arrive_and_wait(0).timeout(SHORT).await,
            "did not reach zero in time",
        );
        let barrier = manager.barrier(2).await.unwrap();
        says(
            barrier.wait().timeout(SHORT).await,
            "did not have all its parties in time",
        );
    });
}

#[test]
fn timeout_of_several_calls_says_what_the_object_did_not_have() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let value = manager.named("x").value(1).await.unwrap();
        let never = || value.wait_for(|_| false);
        says(
            never().timeout(SHORT).await,
            "timed out: value \"x\" was not changed in time",
        );
        says(
            never().timeout(Duration::ZERO).await,
            "value \"x\" was not changed, and the call did not wait",
        );

        let other = value.clone();
        let overtaken = value.update(move |value| {
            let other = other.clone();
            let set = thread::spawn(move || other.set(value + 1).blocking());
            set.join().unwrap().unwrap();
            value
        });
        says(
            overtaken.timeout(SHORT).await,
            "value \"x\" did not stay unchanged between a read and its update in time",
        );

        let keys = manager.named("k").keyed_lock().await.unwrap();
        let _guard = keys.acquire("a").await.unwrap();
        let both = || lock_all(["a", "b"].map(|key| (&keys, key)));
        says(
            both().timeout(Duration::ZERO).await,
            "key \"a\" of keyed_lock \"k\" was not free, and the call did not wait",
        );
        says(
            both().timeout(SHORT).await,
            "timed out: key \"a\" of keyed_lock \"k\" was not free in time",
        );
    });
}

#[test]
fn release_of_a_free_object_says_that_nothing_is_held() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let anyone = || manager.release_by(ReleaseBy::Anyone);
        let nothing = "nothing is held, so nothing was released";
        let lock = anyone().lock().await.unwrap();
        says(lock.release_any().await, nothing);
        let keys = anyone().keyed_lock().await.unwrap();
        says(keys.release_any("k").await, nothing);
    });
}

#[test]
fn error_of_a_call_about_a_key_names_the_key_and_that_of_the_object_does_not() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let keys = manager.named("users").keyed_lock().await.unwrap();
        let _guard = keys.acquire("ada").await.unwrap();
        let late = keys.acquire("ada").timeout(SHORT).await.map(drop);
        let error = late.clone().unwrap_err();
        let CallError::TimedOut(subject) = &error else {
            panic!("{error}");
        };
        assert_eq!(subject.name(), Some("users"));
        assert_eq!(subject.key(), Some("ada"));
        says(
            late,
            "timed out: key \"ada\" of keyed_lock \"users\" was not free in time: wait longer",
        );
        says(
            keys.acquire("ada").timeout(Duration::ZERO).await,
            "key \"ada\" of keyed_lock \"users\" was not free, and the call did not wait",
        );
        says(
            keys.release_any("ada").await,
            "key \"ada\" of keyed_lock \"users\" refused the call: ",
        );
        let long = "x".repeat(256);
        for refused in [
            keys.acquire(&long).await.map(drop),
            keys.release_any(&long).await,
            keys.force_unlock(&long).await.map(drop),
            keys.key_status(&long).await.map(drop),
        ] {
            let words = refused.unwrap_err().to_string();
            assert!(words.starts_with("keyed_lock \"users\" refused"), "{words}");
        }

        let permits = manager.named("hosts").keyed_semaphore(2).await.unwrap();
        let _permit = permits.acquire("a").await.unwrap();
        says(
            permits.acquire_many("a", 2).timeout(SHORT).await,
            "key \"a\" of keyed_semaphore \"hosts\" had too few free permits in time",
        );

        manager.remove("users").await.unwrap();
        for gone in [
            keys.acquire("ada").await.map(drop),
            keys.key_status("ada").timeout(SHORT).await.map(drop),
        ] {
            let words = gone.unwrap_err().to_string();
            assert!(words.starts_with("keyed_lock \"users\" is gone"), "{words}");
        }
    });
}

//! Named objects, their removal, and the limits of what a manager accepts from clients.

use std::time::Duration;

use futures::FutureExt;
use lockkeeper::{
    CallError, Limits, Manager, ReleaseBy, StartError,
    builders::Program,
    dynamic::Object,
    errors::{Fault, Refusal, WrongKind, WrongSpec},
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use lockkeeper_test_support::until;
use serde::{Deserialize, Serialize};

use crate::run;

/// A custom kind that answers with the requested number of bytes.
struct Bytes {
    /// The number of served swaps.
    served: usize,
}

/// Sends a text, and requests a number of bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Swap(String, usize);

impl Operation for Swap {
    const NAME: &'static str = "swap";
    type Reply = String;
}

/// Returns the number of served swaps.
#[derive(Debug, Serialize, Deserialize)]
struct Served;

impl Operation for Served {
    const NAME: &'static str = "served";
    type Reply = usize;
}

impl Primitive for Bytes {
    const KIND: &'static str = "bytes";
    type Spec = u32;

    fn create(spec: u32) -> Result<Self, Refusal> {
        if spec > 9 {
            return Err(Refusal::Invalid("a number up to 9".to_owned()));
        }
        Ok(Self { served: 0 })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Swap>().on::<Served>();
    }
}

impl Serve<Swap> for Bytes {
    fn serve(&mut self, Swap(text, length): Swap, call: Call<String>) {
        assert!(text != "panic", "the kind was asked to");
        self.served += 1;
        call.reply("x".repeat(length));
    }
}

impl Serve<Served> for Bytes {
    fn serve(&mut self, _: Served, call: Call<usize>) {
        call.reply(self.served);
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.register::<Bytes>()
}

async fn limited(limits: Limits) -> Manager {
    let builder = Manager::builder().limits(limits);
    builder.spawn().await.unwrap()
}

#[test]
fn same_name_is_the_same_object() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let one = manager.named("db").lock().await.unwrap();
        let other = manager.named("db").lock().await.unwrap();
        let _guard = one.acquire().await.unwrap();
        assert!(other.try_acquire().await.unwrap().is_none());
        let another = manager.named("cache").lock().await.unwrap();
        assert!(another.try_acquire().await.unwrap().is_some());
        assert_eq!(one.token().name, "db");
    });
}

#[test]
fn anonymous_objects_are_all_different() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let one = manager.lock().await.unwrap();
        let other = manager.lock().await.unwrap();
        let _guard = one.acquire().await.unwrap();
        assert!(other.try_acquire().await.unwrap().is_some());
        assert!(one.token().name.starts_with('#'));
        assert_ne!(one.token().name, other.token().name);
    });
}

#[test]
fn name_of_another_kind_or_spec_is_refused() {
    run(async {
        let manager = Manager::start().await.unwrap();
        manager.named("db").semaphore(2).await.unwrap();
        let wrong_kind = Fault::WrongKind(Box::new(WrongKind {
            name: "db".to_owned(),
            is: "semaphore".to_owned(),
            asked: "lock".to_owned(),
        }));
        assert!(
            wrong_kind
                .to_string()
                .contains("is a semaphore, not a lock")
        );
        let outcome = manager.named("db").lock().await.map(drop);
        assert_eq!(outcome, Err(CallError::Fault(wrong_kind)));
        let outcome = manager.named("db").bounded_semaphore(2).await.map(drop);
        let refused = matches!(outcome, Err(CallError::Fault(Fault::WrongKind { .. })));
        assert!(refused, "{outcome:?}");
        let outcome = manager.named("db").semaphore(3).await.map(drop);
        let wrong_spec = Fault::WrongSpec(Box::new(WrongSpec {
            name: "db".to_owned(),
            kind: "semaphore".to_owned(),
            is: r#"{permits: 2, release_by: "Holder"}"#.to_owned(),
            asked: r#"{permits: 3, release_by: "Holder"}"#.to_owned(),
        }));
        assert_eq!(outcome, Err(CallError::Fault(wrong_spec)));
        let same = manager.named("db").semaphore(2).await.unwrap();
        assert_eq!(same.status().await.unwrap().available, 2);
    });
}

#[test]
fn names_that_are_not_allowed_are_refused() {
    run(async {
        let limits = Limits {
            name_bytes: 10,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        for name in ["", "#1", "#", "eleven byte", "fünf ümläute"] {
            let outcome = manager.named(name).lock().await.map(drop);
            let refused = matches!(outcome, Err(CallError::Fault(Fault::BadName(_))));
            assert!(refused, "{name:?}: {outcome:?}");
        }
        for name in ["a", "a#", "ten bytes.", "ümläut", "/", " ", "\0"] {
            manager.named(name).lock().await.unwrap();
        }
    });
}

#[test]
fn removed_object_is_gone_for_all_clients_and_its_name_is_free() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("db").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let lost = tokio::spawn(guard.lost());
        let waiting = tokio::spawn(lock.acquire());
        until("a call waits", || async {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        manager.remove("db").await.unwrap();
        assert_eq!(waiting.await.unwrap().map(drop), Err(CallError::gone()));
        lost.await.unwrap();
        assert!(!guard.is_valid());
        assert_eq!(lock.acquire().await.map(drop), Err(CallError::gone()));
        let unknown = CallError::NoObject {
            name: "db".to_owned(),
            address: manager.address().clone(),
        };
        let again = manager.remove("db").await;
        let told = again.clone().unwrap_err().to_string();
        assert!(told.contains(&manager.address().to_string()), "{told}");
        assert_eq!(again, Err(unknown));

        let successor = manager.named("db").semaphore(1).await.unwrap();
        drop(guard);
        assert_eq!(successor.status().await.unwrap().available, 1);
        assert!(successor.acquire().await.unwrap().is_valid());
    });
}

#[test]
fn anonymous_object_is_removed_by_the_name_in_its_token() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager.semaphore(1).await.unwrap();
        let kept = manager.lock().await.unwrap();
        let permit = permits.acquire().await.unwrap();
        manager.remove(&permits.token().name).await.unwrap();
        permit.lost().await;
        assert_eq!(permits.acquire().await.map(drop), Err(CallError::gone()));
        drop(kept.acquire().await.unwrap());
    });
}

#[test]
fn object_limit_refuses_new_objects_until_one_is_removed() {
    run(async {
        let limits = Limits {
            objects: 2,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        manager.named("one").lock().await.unwrap();
        let two = manager.lock().await.unwrap();
        let limit = CallError::Fault(Fault::limit("hosted objects", 2));
        assert_eq!(manager.lock().await.map(drop), Err(limit.clone()));
        assert_eq!(manager.named("three").lock().await.map(drop), Err(limit));
        manager.named("one").lock().await.unwrap();
        manager.remove(&two.token().name).await.unwrap();
        manager.named("three").lock().await.unwrap();
    });
}

#[test]
fn call_that_would_wait_above_the_limit_in_flight_is_refused_and_the_others_continue() {
    run(async {
        let limits = Limits {
            calls_in_flight: 2,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let mut first = Box::pin(lock.acquire());
        let mut second = Box::pin(lock.acquire());
        // After one poll the calls are sent.
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        let limit = CallError::Fault(Fault::limit("calls in flight", 2));
        assert_eq!(lock.acquire().await.map(drop), Err(limit));
        assert_eq!(lock.status().await.map(|status| status.waiting), Ok(2));
        drop(guard);
        drop(first.await.unwrap());
        drop(second.await.unwrap());
        drop(lock.acquire().await.unwrap());
    });
}

#[test]
fn message_above_the_limit_is_refused_by_client_and_manager() {
    run(async {
        let frame_bytes = 64 << 10;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        let bytes = manager.open::<Bytes>(1).await.unwrap();
        let below = "x".repeat(frame_bytes - 1100);
        let reply = bytes.call(Swap(below.clone(), below.len())).await.unwrap();
        assert!(reply == below);
        let limit = Fault::limit("bytes of arguments", frame_bytes - 1024);
        for length in [frame_bytes - 100, frame_bytes] {
            let outcome = bytes.call(Swap("x".repeat(length), 1)).await;
            assert_eq!(outcome, Err(CallError::Fault(limit.clone())));
        }
        let outcome = bytes.call(Swap(String::new(), frame_bytes)).await;
        let limit = Fault::limit("bytes in a message", frame_bytes);
        assert_eq!(outcome, Err(CallError::Fault(limit)));
        assert_eq!(bytes.call(Swap(String::new(), 1)).await.unwrap(), "x");
    });
}

/// The bytes that a [`Swap`] adds to a text of 256 to 65,535 bytes: an array, the length of the text, and a number.
const AROUND_TEXT: usize = 5;

#[test]
fn one_way_call_is_served_up_to_the_limit_of_arguments_and_refused_above_it() {
    run(async {
        let frame_bytes = 64 << 10;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        let named = manager.named("bytes");
        let bytes = named.open::<Bytes>(1).await.unwrap();
        let untyped = Object::open(&manager, "bytes", Some("bytes"), &[1]).await;
        let untyped = untyped.unwrap();
        let most = frame_bytes - 1024;
        let swap = |arguments| Swap("x".repeat(arguments - AROUND_TEXT), 1);
        let encoded = |arguments| rmp_serde::to_vec(&swap(arguments)).unwrap();
        assert_eq!(encoded(most).len(), most);
        bytes.cast(swap(most));
        untyped.cast("swap", &encoded(most)).await.unwrap();
        assert_eq!(bytes.call(Served).await, Ok(2));

        let limit = CallError::Fault(Fault::limit("bytes of arguments", most));
        let above = encoded(most + 1);
        assert_eq!(untyped.cast("swap", &above).await, Err(limit.clone()));
        let called = untyped.call("swap", &above).await;
        assert_eq!(called.map(drop), Err(limit.clone()));
        assert_eq!(bytes.call(swap(most + 1)).await, Err(limit));
        bytes.cast(swap(most + 1));
        assert_eq!(bytes.call(Served).await, Ok(2));
    });
}

#[test]
fn session_above_the_limit_is_refused_and_the_others_continue() {
    run(async {
        let limits = Limits {
            sessions: 1,
            ..Limits::default()
        };
        let manager = limited(limits).await;
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let address = manager.address().clone();
        let refused = tokio::task::spawn_blocking(move || last_words(&address)).await;
        let reason = refused.unwrap();
        assert!(reason.contains("at most 1 sessions"), "{reason}");
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}

/// Returns the message of a manager to a client that sends nothing.
fn last_words(address: &lockkeeper::Address) -> String {
    use std::{io::Read, os::unix::net::UnixStream};
    let mut words = Vec::new();
    let mut stream = UnixStream::connect(address.path().unwrap()).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream.read_to_end(&mut words).unwrap();
    String::from_utf8_lossy(&words).into_owned()
}

#[test]
fn client_without_a_hello_is_disconnected() {
    run(async {
        let limits = Limits {
            handshake_time: Duration::from_millis(50),
            ..Limits::default()
        };
        let manager = limited(limits).await;
        let address = manager.address().clone();
        let shown = tokio::task::spawn_blocking(move || last_words(&address)).await;
        let reason = shown.unwrap();
        assert!(reason.contains("no hello came in time"), "{reason}");
        manager.lock().await.unwrap();
    });
}

#[test]
fn custom_kind_may_refuse_its_spec_and_may_panic() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let outcome = manager.open::<Bytes>(10).await.map(drop);
        let refusal = Refusal::Invalid("a number up to 9".to_owned());
        assert_eq!(outcome, Err(CallError::refused(refusal)));
        let bytes = manager.named("b").open::<Bytes>(9).await.unwrap();
        let lock = manager.lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let outcome = bytes.call(Swap("panic".to_owned(), 1)).await;
        assert_eq!(outcome, Err(CallError::gone()));
        let outcome = bytes.call(Swap(String::new(), 1)).await;
        assert_eq!(outcome, Err(CallError::gone()));
        assert!(guard.is_valid(), "other objects are unchanged");
        manager.remove("b").await.unwrap();
        let bytes = manager.named("b").open::<Bytes>(9).await.unwrap();
        assert_eq!(bytes.call(Swap(String::new(), 1)).await.unwrap(), "x");
    });
}

#[test]
fn kinds_of_the_builder_cannot_be_used_in_another_process() {
    run(async {
        let builder = Manager::builder().register::<Bytes>();
        let refused = builder.spawn().await.map(drop);
        assert!(
            matches!(refused, Err(StartError::InvalidSettings(_))),
            "{refused:?}"
        );
    });
}

#[test]
fn name_and_choice_of_an_object_may_come_in_either_order() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let anyone = manager.release_by(ReleaseBy::Anyone);
        let lock = anyone.named("jobs").lock().await.unwrap();
        let same = manager.named("jobs").release_by(ReleaseBy::Anyone);
        assert_eq!(same.lock().await.unwrap().token(), lock.token());

        let queue = manager.schema("job/2").named("items").queue::<u8>(1);
        queue.await.unwrap().put(7).await.unwrap();
        let same = manager.named("items").schema("job/2").queue::<u64>(1);
        assert_eq!(*same.await.unwrap().get().await.unwrap(), 7);
    });
}

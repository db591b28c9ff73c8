//! The longest turn of a shard with many objects, keys and waiting calls, in processor time of its thread.
//!
//! A task on the shard wakes up each millisecond. The processor time between two of its turns is that of the
//! longest turn plus at most a millisecond, and bounds how long a call of another client waits; other
//! processes do not affect it. The tests use 40,000 objects, or `LOCKKEEPER_TURNS_OBJECTS`, and print what
//! they measured:
//!
//! ```sh
//! LOCKKEEPER_TURNS_OBJECTS=4000000 LOCKKEEPER_CHAOS_SECONDS=3000 \
//!     cargo test --release --lib turns -- --nocapture --test-threads=1
//! ```

use std::{
    env,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lockkeeper_actors::{
    Primitive,
    sync::{KeyedLock, Lock, RwLock},
};
use lockkeeper_protocol::{
    Fault, Page, Proof, Question,
    codec::{self, BlobRef},
    frame::{Request, Response, append},
    operations::{
        Access, Acquire, AcquireFor, AcquireKey, GetRwLockStatus, KeyPage, ListKeys, Release,
        RwLockStatus,
    },
};
use lockkeeper_test_support::Watchdog;
use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Builder, sync::mpsc, task, time};

use crate::{
    limits::Limits,
    server::session::{
        serve::serve,
        tests::{House, SPEC, hello, number_of},
    },
    tests::{
        protocol::SESSION,
        raw::{Raw, encoded},
    },
    transport::stream::Stream,
};

/// The most time of a turn. An unoptimized build takes up to 40 ms on a slow machine, and one turn for all objects of a
/// test would take 400 ms there.
const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 10 });

/// The time limit for the hang-up of the most objects on a busy machine.
const LONG: Duration = Duration::from_secs(600);

/// The number of requests in one batch.
const BATCH: u64 = 500;

/// The number of objects, keys or calls of a test.
fn many() -> u64 {
    env::var("LOCKKEEPER_TURNS_OBJECTS").map_or(40_000, |many| {
        many.parse().expect("LOCKKEEPER_TURNS_OBJECTS is a number")
    })
}

/// The inside of a manager on a thread of its own.
struct Shard {
    streams: Option<mpsc::UnboundedSender<Arc<dyn Stream>>>,
    thread: Option<JoinHandle<()>>,
    measured: Arc<Measured>,
}

/// The measurements of the task on the shard.
#[derive(Default)]
struct Measured {
    /// The most processor time between two of its turns, in nanoseconds.
    longest: AtomicU64,
    turns: AtomicU64,
}

impl Shard {
    fn start() -> Self {
        let (streams, mut arriving) = mpsc::unbounded_channel::<Arc<dyn Stream>>();
        let measured = Arc::new(Measured::default());
        let told = Arc::clone(&measured);
        let thread = thread::spawn(|| {
            actix_rt::System::new().block_on(async move {
                // Two sessions with four million objects each exceed the default limits.
                let house = House::new(Limits {
                    stored_bytes: usize::MAX,
                    ..Limits::default()
                });
                task::spawn_local(tick(told));
                let mut ids = SESSION.number()..;
                while let Some(stream) = arriving.recv().await {
                    let id = ids.next().expect("another id");
                    task::spawn_local(serve(
                        stream,
                        house.admit(id).expect("it has no limit"),
                        None,
                        Rc::clone(&house.context),
                    ));
                }
            });
        });
        Self {
            streams: Some(streams),
            thread: Some(thread),
            measured,
        }
    }

    /// Adds a client.
    async fn connect(&self) -> Far {
        let (raw, stream) = Raw::client();
        let streams = self.streams.as_ref().expect("the shard runs");
        streams.send(stream).expect("the shard runs");
        let mut far = Far { raw, seq: 0 };
        far.raw.send(&hello(1)).await;
        let welcome = far.raw.hear().await.expect("a welcome");
        let Ok(Response::Welcome { .. }) = Response::decode(&welcome) else {
            panic!("no welcome");
        };
        far
    }

    /// Prints and returns the longest turn since the last call.
    fn tell(&self, what: &str) -> Duration {
        // The turn of the last answer may not be measured yet.
        let turns = self.measured.turns.load(Ordering::Relaxed);
        while self.measured.turns.load(Ordering::Relaxed) < turns + 2 {
            thread::sleep(Duration::from_millis(1));
        }
        let longest = self.measured.longest.swap(0, Ordering::Relaxed);
        let longest = Duration::from_nanos(longest);
        eprintln!(
            "{:>9} {what}: at most {longest:?} between two turns",
            many()
        );
        longest
    }

    /// Asserts that the longest turn since the last call was short.
    fn was_quick(&self, what: &str) {
        let longest = self.tell(what);
        assert!(longest < MOST, "{what}: {longest:?} between two turns");
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.streams = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Measures the processor time between its turns, for ever.
async fn tick(measured: Arc<Measured>) {
    let mut last = processor_time();
    loop {
        time::sleep(Duration::from_millis(1)).await;
        let now = processor_time();
        measured.longest.fetch_max(now - last, Ordering::Relaxed);
        measured.turns.fetch_add(1, Ordering::Relaxed);
        last = now;
    }
}

/// The processor time of this thread, in nanoseconds.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("not before the start")
}

/// A client of the shard.
struct Far {
    raw: Raw,
    seq: u64,
}

impl Far {
    /// Sends `count` requests, and calls `each` with each response.
    async fn all(
        &mut self,
        count: u64,
        put: impl Fn(u64, u64, &mut Vec<u8>),
        mut each: impl FnMut(&Response<'_>),
    ) {
        let mut number = 0;
        while number < count {
            let mut bytes = Vec::new();
            let batch = BATCH.min(count - number);
            for number in number..number + batch {
                self.seq += 1;
                put(self.seq, number, &mut bytes);
            }
            self.raw.write(&bytes).await.expect("the shard reads");
            for _ in 0..batch {
                let frame = self.raw.hear().await.expect("a response");
                each(&Response::decode(&frame).expect("a response"));
            }
            number += batch;
        }
    }

    async fn open<P: Primitive>(&mut self, count: u64, name: impl Fn(u64) -> Option<String>) {
        let put = |seq, number, bytes: &mut Vec<u8>| {
            let name = name(number);
            let open = Request::Open {
                seq,
                kind: P::KIND,
                name: name.as_deref(),
                spec: Some(BlobRef(SPEC)),
            };
            append(bytes, &open, usize::MAX).expect("it encodes");
        };
        let each = |response: &Response<'_>| {
            assert!(matches!(response, Response::Opened { .. }), "{response:?}");
        };
        self.all(count, put, each).await;
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        request: impl FnOnce(u64) -> Request<'static>,
    ) -> T {
        self.seq += 1;
        self.raw.send(&request(self.seq)).await;
        let frame = self.raw.hear().await.expect("an answer");
        match Response::decode(&frame).expect("a response") {
            Response::Reply { body, .. } => codec::decode(body.0).expect("the reply"),
            other => panic!("{other:?}"),
        }
    }
}

/// Appends a call to the bytes.
fn put_call<O: lockkeeper_protocol::Operation, P: Primitive>(
    bytes: &mut Vec<u8>,
    seq: u64,
    object: u32,
    micros: Option<u64>,
    operation: &O,
) {
    let arguments = encoded(operation);
    let call = Request::Call {
        seq,
        object,
        operation: number_of::<P>(O::NAME),
        micros,
        arguments: BlobRef(&arguments),
    };
    append(bytes, &call, usize::MAX).expect("it encodes");
}

fn object(number: u64) -> u32 {
    number.try_into().expect("a session has fewer objects")
}

fn is_reply(response: &Response<'_>) {
    assert!(matches!(response, Response::Reply { .. }), "{response:?}");
}

static ONE: Mutex<()> = Mutex::new(());

/// Runs a test against a shard.
fn run<F: Future>(test: impl FnOnce(Shard) -> F) {
    // The tests run one at a time, because each needs two threads.
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = Watchdog::start();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime
        .expect("the system gives a runtime")
        .block_on(test(Shard::start()));
}

#[test]
fn no_turn_is_long_while_named_objects_are_opened_inspected_hung_up_and_removed() {
    run(async |shard| {
        let name = |number| Some(format!("name {number}"));
        let mut first = shard.connect().await;
        first.open::<Lock>(many(), name).await;
        shard.was_quick("names are given");
        let mut second = shard.connect().await;
        second.open::<Lock>(many(), name).await;
        shard.was_quick("names are opened by a second session");

        let acquire = |seq, number, bytes: &mut Vec<u8>| {
            put_call::<_, Lock>(bytes, seq, object(number), None, &Acquire);
        };
        first.all(many(), acquire, is_reply).await;
        shard.was_quick("locks are acquired");
        let mut told = 0;
        let mut above = Some(0);
        while let Some(number) = above {
            let question = Question::All(number);
            let page: Page = second.ask(|seq| Request::Inspect { seq, question }).await;
            told += page.objects.len() as u64;
            above = page.next;
        }
        assert_eq!(told, many());
        shard.was_quick("objects are inspected");

        drop(first);
        // All holds pass to the waiters, including the last one.
        second.all(many(), acquire, is_reply).await;
        shard.was_quick("the session that holds them ends");

        let remove = |seq, number, bytes: &mut Vec<u8>| {
            let name = name(number).expect("a name");
            append(bytes, &Request::Remove { seq, name: &name }, usize::MAX).expect("it encodes");
        };
        let mut third = shard.connect().await;
        third.all(many(), remove, is_reply).await;
        drop(second);
        third.open::<Lock>(1, name).await;
        shard.was_quick("names are removed");
    });
}

#[test]
fn no_turn_is_long_while_nameless_objects_are_opened_by_sessions_that_end() {
    run(async |shard| {
        let mut witness = shard.connect().await;
        witness
            .open::<Lock>(1, |_| Some("waited for".to_owned()))
            .await;
        for what in ["objects are opened", "objects are opened again"] {
            let mut client = shard.connect().await;
            client.open::<Lock>(many(), |_| None).await;
            shard.was_quick(what);
            client
                .open::<Lock>(1, |_| Some("waited for".to_owned()))
                .await;
            // The session holds the last object that it opened, and another session waits for it.
            let hold = |seq, _, bytes: &mut Vec<u8>| {
                put_call::<_, Lock>(bytes, seq, object(many()), None, &Acquire);
            };
            client.all(1, hold, is_reply).await;
            witness.seq += 1;
            let mut bytes = Vec::new();
            put_call::<_, Lock>(&mut bytes, witness.seq, 0, None, &Acquire);
            witness.raw.write(&bytes).await.expect("the shard reads");
            drop(client);
            let granted = witness.raw.hear_within(LONG).await.expect("a grant");
            let granted = Response::decode(&granted).expect("a response");
            assert!(matches!(granted, Response::Reply { .. }), "{granted:?}");
            shard.was_quick("their session ends");
            let release = Release {
                grant: Proof::Own(witness.seq),
            };
            let release = |seq, _, bytes: &mut Vec<u8>| {
                put_call::<_, Lock>(bytes, seq, 0, None, &release);
            };
            witness.all(1, release, is_reply).await;
        }
    });
}

#[test]
fn no_turn_is_long_while_keys_are_acquired_and_listed() {
    // A reply with 40,000 keys would still be short enough.
    let keys = 4 * many();
    run(async |shard| {
        let mut client = shard.connect().await;
        let name = |_| Some("keys".to_owned());
        client.open::<KeyedLock>(1, name).await;
        let acquire = |seq, number, bytes: &mut Vec<u8>| {
            let key = format!("key {number}").as_str().into();
            put_call::<_, KeyedLock>(bytes, seq, 0, None, &AcquireKey { key });
        };
        client.all(keys, acquire, is_reply).await;
        shard.was_quick("keys are acquired");
        let (mut told, mut from) = (0, Some(0));
        while let Some(place) = from {
            let mut page = KeyPage::default();
            let list = |seq, _, bytes: &mut Vec<u8>| {
                put_call::<_, KeyedLock>(bytes, seq, 0, None, &ListKeys { from: place });
            };
            let read = |response: &Response<'_>| match response {
                Response::Reply { body, .. } => page = codec::decode(body.0).expect("a page"),
                other => panic!("{other:?}"),
            };
            client.all(1, list, read).await;
            told += page.keys.len() as u64;
            from = page.next;
        }
        assert_eq!(told, keys);
        shard.was_quick("keys are listed");
        let mut other = shard.connect().await;
        other.open::<KeyedLock>(1, name).await;
        drop(client);
        // The last key that was acquired is released with all others.
        let last = |seq, _, bytes: &mut Vec<u8>| {
            let key = format!("key {}", keys - 1).as_str().into();
            put_call::<_, KeyedLock>(bytes, seq, 0, None, &AcquireKey { key });
        };
        other.all(1, last, is_reply).await;
        shard.was_quick("the session ends that holds all keys");
    });
}

#[test]
fn no_turn_is_long_while_sessions_end_that_hold_much_of_one_object_or_wait_for_it() {
    run(async |shard| {
        let mut holder = shard.connect().await;
        let mut waiter = shard.connect().await;
        let mut other = shard.connect().await;
        for client in [&mut holder, &mut waiter, &mut other] {
            client
                .open::<RwLock>(1, |_| Some("readers".to_owned()))
                .await;
        }
        let enter = |access| {
            move |seq, _, bytes: &mut Vec<u8>| {
                put_call::<_, RwLock>(bytes, seq, 0, None, &AcquireFor { access });
            }
        };
        holder.all(many(), enter(Access::Read), is_reply).await;
        let mut bytes = Vec::new();
        let waiting = many().min(
            Limits::default()
                .calls_in_flight
                .try_into()
                .expect("a limit"),
        );
        for _ in 0..waiting {
            waiter.seq += 1;
            enter(Access::Write)(waiter.seq, 0, &mut bytes);
        }
        waiter.raw.write(&bytes).await.expect("the shard reads");
        while other.status().await.waiting < waiting {}
        // One read of the socket may carry thousands of calls to the object.
        shard.tell("readers enter, and writers wait");
        drop(waiter);
        while other.status().await.waiting > 0 {}
        shard.was_quick("the session ends that waits");
        drop(holder);
        other.all(1, enter(Access::Write), is_reply).await;
        shard.was_quick("the session ends that reads");
    });
}

impl Far {
    async fn status(&mut self) -> RwLockStatus {
        let mut status = RwLockStatus::default();
        let count = |seq, _, bytes: &mut Vec<u8>| {
            put_call::<_, RwLock>(bytes, seq, 0, None, &GetRwLockStatus);
        };
        let read = |response: &Response<'_>| match response {
            Response::Reply { body, .. } => status = codec::decode(body.0).expect("a status"),
            other => panic!("{other:?}"),
        };
        self.all(1, count, read).await;
        status
    }
}

#[test]
fn no_turn_is_long_while_calls_wait_with_deadlines_that_all_pass() {
    run(async |shard| {
        let mut holder = shard.connect().await;
        let mut waiter = shard.connect().await;
        let name = |number: u64| Some(format!("lock {number}"));
        holder.open::<Lock>(many(), name).await;
        waiter.open::<Lock>(many(), name).await;
        let hold = |seq, number, bytes: &mut Vec<u8>| {
            put_call::<_, Lock>(bytes, seq, object(number), None, &Acquire);
        };
        holder.all(many(), hold, is_reply).await;
        shard.was_quick("locks are opened by two sessions, and held by one");
        // The timeouts expire at about the same time, before or after the last call has arrived.
        let mut bytes = Vec::new();
        for number in 0..many() {
            waiter.seq += 1;
            put_call::<_, Lock>(
                &mut bytes,
                waiter.seq,
                object(number),
                Some(2_000_000),
                &Acquire,
            );
        }
        waiter.raw.write(&bytes).await.expect("the shard reads");
        for _ in 0..many() {
            let frame = waiter.raw.hear().await.expect("an answer");
            let answer = Response::decode(&frame).expect("a response");
            let Response::Fault {
                fault: Fault::TimedOut,
                ..
            } = answer
            else {
                panic!("{answer:?}");
            };
        }
        shard.was_quick("calls wait and time out");
    });
}

//! The duration of turns that concern many calls of one object:
//!
//! ```sh
//! cargo test --release -p lockkeeper-actors bulk -- --ignored --nocapture --test-threads=1
//! ```
//!
//! Each line states the processor time of one call in nanoseconds, without the connection, and the longest
//! turn. `LOCKKEEPER_BULK` sets the number of calls, one million by default.

use std::{env, rc::Rc, sync::Arc, time::Duration};

use lockkeeper_protocol::{
    CallId, ManagerSecret, Operation, Peer, Proof, SECRET_BYTES, SessionId,
    codec::Blob,
    operations::{
        Access, Acquire, AcquireFor, AcquireKey, AcquireMany, AddPermits, Arrive, BarrierSpec,
        Chunk, CountDown, Get, LatchSpec, Next, Notify, Put, QueueSpec, Release, ReleaseBy,
        SemaphoreSpec, Set, Sleep, Submit, WaitOpen, WaitSet,
    },
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    data::{queue::Queue, task_queue::TaskQueue},
    host::{
        host::Host,
        input::{Input, RawCall},
        shell::{ReplySink, Shell},
    },
    kind::{
        answer::Outcome,
        fences::Fences,
        primitive::{Operations, Primitive, Serve},
    },
    sync::{
        barrier::Barrier, condition::Condition, event::Event, keyed::variants::KeyedLock,
        latch::Latch, rw_lock::RwLock, semaphore::Semaphore,
    },
};

/// A sink that drops all answers.
struct Nowhere;

impl ReplySink for Nowhere {
    fn answer(&self, _: u64, _: Outcome<'_>) {}

    fn gone(&self, _: u32) {}
}

/// An object, and the number of calls made.
struct Object<P: Primitive> {
    host: Host<P>,
    numbers: Vec<&'static str>,
    calls: u64,
}

fn many() -> u64 {
    env::var("LOCKKEEPER_BULK").map_or(1_000_000, |many| {
        many.parse().expect("LOCKKEEPER_BULK is a number")
    })
}

impl<P: Primitive> Object<P> {
    fn new(spec: P::Spec) -> Self {
        let secret = ManagerSecret::new([0; SECRET_BYTES]);
        let shell = Shell::new(Fences::count_from(1), secret);
        for session in 0..4 {
            shell.join(SessionId::new(session), Rc::new(Nowhere));
        }
        let mut operations = Operations::default();
        P::operations(&mut operations);
        Self {
            numbers: operations.names().collect(),
            host: Host::new(
                P::create(spec).expect("it is made"),
                Arc::new(operations),
                shell,
            ),
            calls: 0,
        }
    }

    fn call<O: Operation>(&mut self, session: u64, operation: &O) -> CallId
    where
        P: Serve<O>,
    {
        self.calls += 1;
        let id = CallId::new(SessionId::new(session), self.calls);
        let number = self.numbers.iter().position(|name| *name == O::NAME);
        self.input(Input::Call(RawCall {
            id,
            operation: u32::try_from(number.expect("it is served")).expect("few operations"),
            timeout: None,
            arguments: P::FORM.encode(operation).expect("it encodes").into(),
        }));
        id
    }

    fn input(&mut self, input: Input) {
        self.host.turn(Duration::from_secs(self.calls), input);
        self.host.deliver();
    }

    fn hang_up(&mut self, what: &str, session: u64) {
        let peer = Arc::new(Peer::default());
        let mut turns = vec![processor_time()];
        self.input(Input::HangUp(SessionId::new(session), peer));
        turns.push(processor_time());
        while self.host.is_unfinished() {
            self.host.handle_slice();
            self.host.deliver();
            turns.push(processor_time());
        }
        let longest = turns.windows(2).map(|pair| pair[1] - pair[0]).max();
        let all = turns[turns.len() - 1] - turns[0];
        tell(what, all, longest.expect("a turn"));
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("not before the start")
}

/// Runs a turn for many calls, and prints its duration.
fn timed(what: &str, turn: impl FnOnce()) {
    let begun = processor_time();
    turn();
    let time = processor_time() - begun;
    tell(what, time, time);
}

fn tell(what: &str, time: Duration, longest: Duration) {
    let each = time.as_nanos() / u128::from(many());
    println!("{each:>6} ns a call, longest turn {longest:>9.1?}: {what}");
}

fn permits(permits: i64) -> SemaphoreSpec {
    SemaphoreSpec {
        permits: permits.into(),
        release_by: ReleaseBy::Holder,
    }
}

#[test]
#[ignore = "it measures"]
fn sessions_end() {
    let many = many();
    let keys = |object: &mut Object<KeyedLock>, session| {
        for key in 0..many {
            let key = format!("key {key}").as_str().into();
            object.call(session, &AcquireKey { key });
        }
    };
    let mut object = Object::<KeyedLock>::new(ReleaseBy::Holder);
    timed("keys are acquired", || keys(&mut object, 1));
    object.hang_up("keys of a session", 1);
    timed("marked keys are acquired", || keys(&mut object, 2));
    object.hang_up("keys that were marked", 2);
    keys(&mut object, 1);
    keys(&mut object, 2);
    object.hang_up("keys that others wait for", 1);
    keys(&mut object, 3);
    object.hang_up("calls that wait for keys", 3);

    let mut object = Object::<Semaphore>::new(permits(1 << 31));
    (0..many).for_each(|_| _ = object.call(1, &AcquireMany { permits: 1 }));
    object.hang_up("permits of a semaphore", 1);
    let mut object = Object::<Semaphore>::new(permits(0));
    (0..many).for_each(|_| _ = object.call(1, &AcquireMany { permits: 1 }));
    object.hang_up("calls that wait for permits", 1);

    let mut object = Object::<RwLock>::new(ReleaseBy::Holder);
    let read = AcquireFor {
        access: Access::Read,
    };
    (0..many).for_each(|_| _ = object.call(1, &read));
    object.hang_up("readers", 1);

    let mut object = Object::<Queue>::new(QueueSpec {
        capacity: None,
        schema: "item".to_owned(),
    });
    (0..many).for_each(|_| {
        _ = object.call(
            2,
            &Put {
                item: Blob::from(vec![7]),
            },
        )
    });
    (0..many).for_each(|_| _ = object.call(1, &Get));
    object.hang_up("items that were taken", 1);

    let mut object = Object::<TaskQueue>::new(());
    let chunk = || Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![7]),
    };
    (0..many).for_each(|_| {
        _ = object.call(
            2,
            &Submit {
                chunk: chunk(),
                rule: None,
                series: None,
            },
        )
    });
    (0..many / 1000).for_each(|_| {
        _ = object.call(
            1,
            &Next {
                finished: None,
                most: 1000,
            },
        )
    });
    object.hang_up("tasks that a worker has", 1);
    object.hang_up("tasks that a session has submitted", 2);

    let mut object = Object::<Condition>::new(ReleaseBy::Holder);
    sleep(&mut object);
    object.hang_up("sleepers of a condition", 1);
    let mut object = Object::<Event>::new(());
    (0..many).for_each(|_| _ = object.call(1, &WaitSet { since: None }));
    object.hang_up("calls that wait for an event", 1);
    let mut object = Object::<Barrier>::new(BarrierSpec::from(u32::MAX));
    (0..many).for_each(|_| _ = object.call(1, &Arrive { acts: false }));
    object.hang_up("parties of a barrier", 1);
}

fn sleep(object: &mut Object<Condition>) {
    for _ in 0..many() {
        let grant = object.call(1, &Acquire);
        let set = String::new();
        object.call(
            1,
            &Sleep {
                grant: Proof::own(grant),
                set,
            },
        );
    }
}

#[test]
#[ignore = "it measures"]
fn waiting_calls_are_completed() {
    let many = many();
    let mut object = Object::<Event>::new(());
    (0..many).for_each(|_| _ = object.call(1, &WaitSet { since: None }));
    timed("an event is set", || _ = object.call(2, &Set));
    let mut object = Object::<Latch>::new(LatchSpec { count: 1 });
    (0..many).for_each(|_| _ = object.call(1, &WaitOpen));
    timed("a latch opens", || _ = object.call(2, &CountDown { by: 1 }));
    let parties = u32::try_from(many).expect("not too many");
    let mut object = Object::<Barrier>::new(BarrierSpec::from(parties));
    (1..many).for_each(|_| _ = object.call(1, &Arrive { acts: false }));
    timed("the last party of a barrier arrives", || {
        object.call(2, &Arrive { acts: false });
    });
    let mut object = Object::<RwLock>::new(ReleaseBy::Holder);
    let writer = object.call(
        2,
        &AcquireFor {
            access: Access::Write,
        },
    );
    let read = AcquireFor {
        access: Access::Read,
    };
    (0..many).for_each(|_| _ = object.call(1, &read));
    timed("a writer leaves readers in", || {
        object.call(
            2,
            &Release {
                grant: Proof::own(writer),
            },
        );
    });
    let mut object = Object::<Semaphore>::new(permits(0));
    (0..many).for_each(|_| _ = object.call(1, &AcquireMany { permits: 1 }));
    timed("permits are added", || {
        object.call(
            2,
            &AddPermits {
                permits: parties.into(),
            },
        );
    });
    let mut object = Object::<Condition>::new(ReleaseBy::Holder);
    sleep(&mut object);
    let grant = Proof::own(object.call(2, &Acquire));
    timed("all sleepers are notified", || {
        object.call(
            2,
            &Notify {
                grant,
                set: String::new(),
                most: None,
            },
        );
    });
}

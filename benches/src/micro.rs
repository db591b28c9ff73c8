//! Measures the parts of a call separately: the codec, one turn of each primitive, the host as an
//! actor, and a chunk of frames through a session.
//!
//!     cargo bench --manifest-path benches/Cargo.toml --bench micro
//!
//! Absolute times depend on the machine: compare two versions of the code on the same one.

use std::{
    cell::Cell,
    hint::black_box,
    io::{BufReader, Read, Write},
    os::unix::net::UnixStream,
    rc::Rc,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput};
use lockkeeper::{Manager, block_on};
use lockkeeper_actors::{
    Bench, CallId, Fence, Fences, Host, Input, Inputs, ManagerSecret, Operation, Operations,
    Outcome, Primitive, Proof, RawCall, ReplySink, SECRET_BYTES, Serve, SessionId, Shell,
    codec::{self, Blob, CodecError, Elements, Fields},
    data::{Chunk, Finished, JobOutcome, Next, Submit, TaskQueue},
    sync::{
        Acquire, AcquireAs, AcquireKey, AcquireMany, Arrive, Barrier, Condition, Event, KeyedLock,
        Lock, Notify, ReentrantLock, Release, ReleaseBy, ReleasePermits, Semaphore, SemaphoreSpec,
        Set, Sleep,
    },
};
use serde::Serialize;

/// The number of calls in a chunk of frames, and in a batch of turns.
const CALLS: u64 = 64;

/// The session that calls.
const SESSION: u64 = 1;

/// Returns the id of a call of that session.
fn id(seq: u64) -> CallId {
    CallId::new(SessionId::new(SESSION), seq)
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let release = Release {
        grant: Proof::own(id(7)),
    };
    let mut buffer = Vec::new();
    group.bench_function("encode a release into a buffer", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            codec::encode_into(&mut buffer, black_box(&release)).expect("it encodes");
        });
    });
    let bytes = codec::encode(&release).expect("it encodes");
    group.bench_function("decode a release", |bencher| {
        bencher.iter(|| codec::decode::<Release>(black_box(&bytes)).expect("it decodes"));
    });
    group.bench_function("decode a fence", |bencher| {
        let bytes = codec::encode(&1_u64).expect("it encodes");
        bencher.iter(|| codec::decode::<Fence>(black_box(&bytes)).expect("it decodes"));
    });
    group.bench_function("write the frame of a call", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            write_call(&mut buffer, black_box(&bytes));
        });
    });
    let mut frame = Vec::new();
    write_call(&mut frame, &bytes);
    group.bench_function("read the frame of a call", |bencher| {
        bencher.iter(|| read_call(black_box(&frame)).expect("it decodes"));
    });
}

/// Writes a call without a deadline, in the format of PROTOCOL.md.
fn write_call(frame: &mut Vec<u8>, arguments: &[u8]) {
    let call = Elements::begin(frame).number(3u8).number(70_000u32);
    let call = call.number(7u8).number(0u8).optional(None::<u64>);
    call.bytes(arguments).end().expect("it encodes");
}

/// Reads a call, and returns its number and its arguments.
fn read_call(frame: &[u8]) -> Result<(u64, &[u8]), CodecError> {
    let mut fields = Fields::of(frame)?;
    fields.number::<u8>()?;
    let seq = fields.number()?;
    for _ in ["object", "operation"] {
        black_box(fields.number::<u32>()?);
    }
    black_box(fields.optional(Fields::number::<u64>)?);
    let arguments = fields.bytes()?;
    fields.end()?;
    Ok((seq, arguments))
}

/// Measures one batch of turns of a new primitive.
fn turns<P: Primitive>(
    criterion: &mut Criterion,
    name: &str,
    spec: impl Fn() -> P::Spec,
    mut turn: impl FnMut(&mut Bench<P>),
) {
    let mut group = criterion.benchmark_group("turns");
    group.throughput(Throughput::Elements(CALLS));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || Bench::<P>::new(spec()).expect("the spec is allowed"),
            |bench| (0..CALLS).for_each(|_| turn(bench)),
            BatchSize::SmallInput,
        );
    });
}

fn primitives(criterion: &mut Criterion) {
    turns::<Lock>(
        criterion,
        "lock: acquire, release",
        || ReleaseBy::Holder,
        |bench| {
            let grant = bench.call(SESSION, Acquire);
            bench.call(
                SESSION,
                Release {
                    grant: Proof::own(grant),
                },
            );
        },
    );
    turns::<ReentrantLock>(
        criterion,
        "reentrant lock: enter twice, leave twice",
        || ReleaseBy::Holder,
        |bench| {
            let entries = [(); 2].map(|()| bench.call(SESSION, AcquireAs { owner: 1 }));
            for grant in entries {
                bench.call(
                    SESSION,
                    Release {
                        grant: Proof::own(grant),
                    },
                );
            }
        },
    );
    turns::<KeyedLock>(
        criterion,
        "keyed lock: acquire, release, among 1,024 keys",
        || ReleaseBy::Holder,
        {
            let keys: Vec<String> = (0..1024).map(|n| format!("record {n:07}")).collect();
            let mut keys = keys.into_iter().cycle();
            move |bench| {
                let key = keys.next().expect("the iterator is endless");
                let key = key.as_str().into();
                let grant = bench.call(SESSION, AcquireKey { key });
                bench.call(
                    SESSION,
                    Release {
                        grant: Proof::own(grant),
                    },
                );
            }
        },
    );
    turns::<Semaphore>(
        criterion,
        "semaphore: acquire, release",
        || SemaphoreSpec::from(4),
        |bench| {
            let grant = bench.call(SESSION, AcquireMany { permits: 1 });
            bench.call(
                SESSION,
                ReleasePermits {
                    grant: Proof::own(grant),
                    permits: 1,
                },
            );
        },
    );
    turns::<Event>(
        criterion,
        "event: set",
        || (),
        |bench| {
            bench.call(SESSION, Set);
        },
    );
    turns::<Condition>(
        criterion,
        "condition: sleep, notify, wake",
        || ReleaseBy::Holder,
        |bench| {
            let (set, most) = (String::new(), Some(1));
            let grant = bench.call(SESSION, Acquire);
            let sleeper = bench.call(
                SESSION,
                Sleep {
                    grant: Proof::own(grant),
                    set: set.clone(),
                },
            );
            let grant = bench.call(SESSION, Acquire);
            bench.call(
                SESSION,
                Notify {
                    grant: Proof::own(grant),
                    set,
                    most,
                },
            );
            bench.call(
                SESSION,
                Release {
                    grant: Proof::own(grant),
                },
            );
            bench.call(
                SESSION,
                Release {
                    grant: Proof::own(sleeper),
                },
            );
        },
    );
    turns::<Barrier>(
        criterion,
        "barrier of 2: arrive, arrive",
        || 2.into(),
        |bench| {
            for _ in 0..2 {
                bench.call(SESSION, Arrive { acts: false });
            }
        },
    );
    turns::<TaskQueue>(
        criterion,
        "task queue: submit, next, finished",
        || (),
        |bench| {
            let chunk = Chunk {
                task: "double".to_owned(),
                arguments: Blob::from(vec![0, 0, 0, 1, 7]),
            };
            let job = bench.call(
                SESSION,
                Submit {
                    chunk,
                    rule: None,
                    series: None,
                },
            );
            let (finished, most) = (None, 1);
            bench.call(SESSION, Next { finished, most });
            let outcome = JobOutcome::Done(Blob::default());
            bench.call(
                SESSION,
                Finished {
                    job: job.into(),
                    outcome,
                },
            );
        },
    );
}

/// Counts answers.
#[derive(Default)]
struct Counter(Cell<u64>);

impl ReplySink for Counter {
    fn answer(&self, _: u64, _: Outcome<'_>) {
        self.0.set(self.0.get() + 1);
    }

    fn gone(&self, _: u32) {}
}

/// Makes the input that a session passes to a host for a call.
fn raw_call<P: Serve<O>, O: Operation>(id: CallId, operation: &O) -> Input {
    let mut operations = Operations::<P>::default();
    P::operations(&mut operations);
    let place = operations.names().position(|name| name == O::NAME);
    Input::Call(RawCall {
        id,
        operation: place
            .and_then(|place| u32::try_from(place).ok())
            .expect("the kind has this operation"),
        arguments: codec::encode(operation).expect("it encodes").into(),
        timeout: None,
    })
}

/// Measures messages to the actor of a lock, each with a release and the next acquire.
fn host(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("host");
    group.throughput(Throughput::Elements(1));
    group.bench_function("lock: one message of a release and an acquire", |bencher| {
        bencher.iter_custom(|times| actix_rt::System::new().block_on(exchange(times)));
    });
}

async fn exchange(times: u64) -> Duration {
    let shell = Shell::new(Fences::count_from(1), ManagerSecret::new([0; SECRET_BYTES]));
    let counter = Rc::new(Counter::default());
    shell.join(SessionId::new(SESSION), counter.clone());
    let mut operations = Operations::default();
    Lock::operations(&mut operations);
    let lock = Lock::create(ReleaseBy::Holder).expect("every spec is valid");
    let mailbox = Host::new(lock, operations.into(), Rc::clone(&shell)).launch();
    let first = raw_call::<Lock, _>(id(1), &Acquire);
    mailbox.do_send(Inputs::one(shell.now(), first));
    let begun = Instant::now();
    for seq in 2..times + 2 {
        let mut inputs = shell.inputs();
        let grant = id(seq - 1);
        inputs.push(raw_call::<Lock, _>(
            id(seq),
            &Release {
                grant: Proof::own(grant),
            },
        ));
        inputs.push(raw_call::<Lock, _>(id(seq), &Acquire));
        let _ = mailbox.send(inputs.at(shell.now())).await;
    }
    begun.elapsed()
}

/// A raw client that is written from PROTOCOL.md.
struct RawClient {
    socket: BufReader<UnixStream>,
    bytes: Vec<u8>,
}

impl RawClient {
    fn append(&mut self, frame: &impl Serialize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        codec::encode_into(&mut self.bytes, frame).expect("it encodes");
        let length = u32::try_from(self.bytes.len() - start - 4).expect("a short frame");
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes all frames at once.
    fn send(&mut self) {
        self.socket
            .get_mut()
            .write_all(&self.bytes)
            .expect("the manager is running");
        self.bytes.clear();
    }

    /// Reads and drops frames, and returns the last one.
    fn skip(&mut self, frames: u64) -> Vec<u8> {
        let mut message = Vec::new();
        for _ in 0..frames {
            let mut header = [0; 4];
            self.socket
                .read_exact(&mut header)
                .expect("the manager is running");
            let length = usize::try_from(u32::from_be_bytes(header)).expect("a short frame");
            message.resize(length, 0);
            self.socket
                .read_exact(&mut message)
                .expect("the manager is running");
        }
        message
    }
}

/// Measures a chunk of `status` calls in one write. The answers are read in one or a few reads.
fn session(criterion: &mut Criterion) {
    let manager = block_on(Manager::start()).expect("a manager starts");
    let address = manager.address().to_string();
    let socket =
        BufReader::new(UnixStream::connect(address).expect("the socket accepts connections"));
    let mut raw_client = RawClient {
        socket,
        bytes: Vec::new(),
    };
    raw_client.append(&(1, "lockkeeper", 1, std::process::id(), "micro", ""));
    let spec = Blob::from(codec::encode(&()).expect("it encodes"));
    raw_client.append(&(2, 1, "lock", None::<&str>, spec));
    raw_client.send();
    let opened = raw_client.skip(2);
    let (_, _, object, _, operations): (u8, u64, u32, String, Vec<String>) =
        codec::decode(&opened).expect("the lock is opened");
    let status = operations
        .iter()
        .position(|name| name == "status")
        .expect("the kind has this operation");
    let no_arguments = Blob::from(codec::encode(&()).expect("it encodes"));
    let mut seq = 1;
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(CALLS));
    group.bench_function("a chunk of 64 calls of one object", |bencher| {
        bencher.iter(|| {
            for _ in 0..CALLS {
                seq += 1;
                raw_client.append(&(3, seq, object, status, None::<u64>, &no_arguments));
            }
            raw_client.send();
            raw_client.skip(CALLS)
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encoding(&mut criterion);
    primitives(&mut criterion);
    host(&mut criterion);
    session(&mut criterion);
    criterion.final_summary();
}

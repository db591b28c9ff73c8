//! The frames, kinds and operations of the protocol, as this test writes them: the only file to
//! change when PROTOCOL.md does.
//!
//! Operations have their names here. An attack learns their numbers from the answer to its `Open`.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::pack::Pack;

/// The version of the protocol.
pub(crate) const VERSION: u64 = 1;

/// The numbers of the frames that a client sends.
pub(crate) mod request {
    pub(crate) const HELLO: u64 = 1;
    pub(crate) const OPEN: u64 = 2;
    pub(crate) const CALL: u64 = 3;
    pub(crate) const CAST: u64 = 4;
    pub(crate) const WITHDRAW: u64 = 5;
    pub(crate) const REMOVE: u64 = 6;
    pub(crate) const INSPECT: u64 = 7;
    pub(crate) const CALL_BY: u64 = 8;
    pub(crate) const REPORT_PIPE: u64 = 9;
}

/// A frame that a manager sends.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Welcome {
        incarnation: u64,
        session: u64,
    },
    Opened {
        seq: u64,
        object: u64,
        operations: Vec<String>,
    },
    Reply {
        seq: u64,
        body: Vec<u8>,
    },
    Fault {
        seq: u64,
        fault: Pack,
    },
    Revoked,
    Gone,
    Bye(String),
}

impl Heard {
    /// Reads a frame; `None` if a manager never sends such a one.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let frame = Pack::read(frame)?;
        let elements = frame.elements();
        let number = |place: usize| elements.get(place)?.number();
        Some(match number(0)? {
            65 => Self::Welcome {
                incarnation: number(2)?,
                session: number(3)?,
            },
            66 => Self::Opened {
                seq: number(1)?,
                object: number(2)?,
                operations: {
                    let names = elements.get(4)?.elements().iter();
                    names
                        .map(|name| Some(name.as_text()?.to_owned()))
                        .collect::<Option<_>>()?
                },
            },
            67 => Self::Reply {
                seq: number(1)?,
                body: match elements.get(2)? {
                    Pack::Bytes(bytes) => bytes.clone(),
                    _ => return None,
                },
            },
            68 => Self::Fault {
                seq: number(1)?,
                fault: elements.get(2)?.clone(),
            },
            69 => Self::Revoked,
            70 => Self::Gone,
            71 => Self::Bye(elements.get(1)?.as_text()?.to_owned()),
            _ => return None,
        })
    }

    /// The number of the request that it answers.
    pub(crate) fn answers(&self) -> Option<u64> {
        match self {
            Self::Opened { seq, .. } | Self::Reply { seq, .. } | Self::Fault { seq, .. } => {
                Some(*seq)
            }
            Self::Welcome { .. } | Self::Revoked | Self::Gone | Self::Bye(_) => None,
        }
    }
}

pub(crate) fn hello(pid: u64, program: &str, label: &str) -> Pack {
    let [program, label] = [program, label].map(Pack::text);
    Pack::list([
        Pack::Number(request::HELLO),
        Pack::text("lockkeeper"),
        Pack::Number(VERSION),
        Pack::Number(pid),
        program,
        label,
    ])
}

pub(crate) fn open(seq: u64, kind: &str, name: Option<&str>, spec: Option<&Pack>) -> Pack {
    Pack::list([
        Pack::Number(request::OPEN),
        Pack::Number(seq),
        Pack::text(kind),
        name.map_or(Pack::Nil, Pack::text),
        spec.map_or(Pack::Nil, Pack::wrapped),
    ])
}

/// A call that may wait so many microseconds.
pub(crate) fn call(
    seq: u64,
    object: u64,
    operation: u64,
    micros: Option<u64>,
    arguments: &Pack,
) -> Pack {
    Pack::list([
        Pack::Number(request::CALL),
        Pack::Number(seq),
        Pack::Number(object),
        Pack::Number(operation),
        micros.map_or(Pack::Nil, Pack::Number),
        arguments.wrapped(),
    ])
}

pub(crate) fn call_by(
    seq: u64,
    object: u64,
    operation: u64,
    micros: Option<u64>,
    arguments: &Pack,
    caller: u64,
) -> Pack {
    Pack::list([
        Pack::Number(request::CALL_BY),
        Pack::Number(seq),
        Pack::Number(object),
        Pack::Number(operation),
        micros.map_or(Pack::Nil, Pack::Number),
        arguments.wrapped(),
        Pack::Number(caller),
    ])
}

pub(crate) fn cast(seq: u64, object: u64, operation: u64, arguments: &Pack) -> Pack {
    Pack::list([
        Pack::Number(request::CAST),
        Pack::Number(seq),
        Pack::Number(object),
        Pack::Number(operation),
        arguments.wrapped(),
    ])
}

pub(crate) fn withdraw(object: u64, seq: u64) -> Pack {
    Pack::list([request::WITHDRAW, object, seq].map(Pack::Number))
}

pub(crate) fn remove(seq: u64, name: &str) -> Pack {
    Pack::list([
        Pack::Number(request::REMOVE),
        Pack::Number(seq),
        Pack::text(name),
    ])
}

pub(crate) fn inspect(seq: u64, question: Pack) -> Pack {
    Pack::list([Pack::Number(request::INSPECT), Pack::Number(seq), question])
}

pub(crate) fn report_pipe(seq: u64, object: u64, operation: u64, descriptor: u64) -> Pack {
    Pack::list([request::REPORT_PIPE, seq, object, operation, descriptor].map(Pack::Number))
}

/// A question of `Inspect` about all objects.
pub(crate) fn all_above(number: u64) -> Pack {
    Pack::variant("All", Pack::Number(number))
}

pub(crate) fn named(name: &str) -> Pack {
    Pack::variant("Named", Pack::text(name))
}

/// Arguments of `feed`: tasks of a series from a number on, none of which is tried again.
pub(crate) fn feed(series: u64, first: u64, task: &str, row: Pack) -> Pack {
    let [series, first] = [series, first].map(Pack::Number);
    Pack::list([series, first, Pack::text(task), row, Pack::Number(0)])
}

/// The row of so many tasks, each of a byte.
pub(crate) fn row(tasks: u64) -> Pack {
    let lengths = (0..tasks).map(|_| Pack::Number(1));
    let bytes = lengths.clone().map(|_| 1).collect();
    Pack::list([Pack::Bytes(bytes), Pack::List(lengths.collect())])
}

/// A call that was granted something, as it is known to its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) session: u64,
    pub(crate) seq: u64,
}

/// The proof of a grant, as the session that got it writes it.
pub(crate) fn proof(grant: Grant) -> Pack {
    Pack::list([grant.session, grant.seq].map(Pack::Number))
}

/// What a session may take for the proof of a grant of another one.
pub(crate) fn guessed_proof(random: &mut StdRng, grant: Grant) -> Pack {
    let Grant { session, seq } = grant;
    match random.random_range(0..6) {
        0 => Pack::Number(seq),
        1 => {
            let secret: [u8; 16] = random.random();
            let [session, seq] = [session, seq].map(Pack::Number);
            Pack::list([session, seq, Pack::Bytes(secret.to_vec())])
        }
        2 => Pack::list([session, seq, random.random()].map(Pack::Number)),
        _ => Pack::list([session, seq].map(Pack::Number)),
    }
}

/// A part of arguments or of a spec.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Proof,
    Count,
    Number,
    OptionalNumber,
    Truth,
    Text,
    Bytes,
    Access,
    Expected,
    OnDeath,
    Row,
    Chunk,
    Outcome,
    OptionalFault,
    JobId,
    Job,
    OptionalJob,
    Jobs,
}

use Shape::{
    Access, Bytes, Chunk, Count, Expected, Job, JobId, Jobs, Number, OnDeath, OptionalFault,
    OptionalJob, OptionalNumber, Outcome, Proof, Row, Text, Truth,
};

/// A kind: its name, its spec, and its operations with the fields of their arguments.
pub(crate) type Kind = (&'static str, Spec, &'static [Operation]);

/// What the objects of a kind are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spec {
    Nothing,
    /// A record of such fields.
    Record(&'static [Shape]),
}

use Spec::{Nothing, Record};

pub(crate) type Operation = (&'static str, &'static [Shape]);

const LOCK: &[Operation] = &[
    ("acquire", &[]),
    ("release", &[Proof]),
    ("adopt", &[Proof]),
    ("mark_consistent", &[Proof]),
    ("force_unlock", &[]),
    ("status", &[]),
];

const SEMAPHORE: &[Operation] = &[
    ("acquire", &[Count]),
    ("release", &[Proof, Count]),
    ("forget", &[Proof, Count]),
    ("add_permits", &[Count]),
    ("mark_consistent", &[Proof]),
    ("close", &[]),
    ("count", &[]),
];

pub(crate) const KINDS: &[Kind] = &[
    ("lock", Nothing, LOCK),
    ("semaphore", Record(&[Count]), SEMAPHORE),
    ("bounded_semaphore", Record(&[Count]), SEMAPHORE),
    (
        "reentrant_lock",
        Nothing,
        &[
            ("acquire", &[Number]),
            ("release", &[Proof]),
            ("adopt", &[Proof, Number]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
        ],
    ),
    (
        "event",
        Nothing,
        &[
            ("set", &[]),
            ("clear", &[]),
            ("wait", &[OptionalNumber]),
            ("look", &[]),
        ],
    ),
    (
        "condition",
        Nothing,
        &[
            ("acquire", &[]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
            ("wait", &[Proof, Text]),
            ("notify", &[Proof, Text, OptionalNumber]),
            ("sleepers", &[Text]),
        ],
    ),
    (
        "barrier",
        Record(&[Count, OnDeath]),
        &[
            ("wait", &[Truth]),
            ("finish", &[Proof]),
            ("fail", &[Proof]),
            ("abort", &[]),
            ("reset", &[]),
            ("count", &[]),
        ],
    ),
    (
        "rw_lock",
        Nothing,
        &[
            ("acquire", &[Access]),
            ("release", &[Proof]),
            ("upgrade", &[Proof]),
            ("downgrade", &[Proof, Access]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
        ],
    ),
    (
        "latch",
        Record(&[Count]),
        &[
            ("count_down", &[Count]),
            ("wait", &[]),
            ("arrive_and_wait", &[Count]),
            ("count", &[]),
        ],
    ),
    (
        "queue",
        Record(&[OptionalNumber, Text]),
        &[
            ("put", &[Bytes]),
            ("get", &[]),
            ("done", &[Proof]),
            ("put_back", &[Proof]),
            ("join", &[]),
            ("close", &[]),
            ("count", &[]),
            ("check_type", &[Text]),
        ],
    ),
    (
        "value",
        Record(&[Bytes, Text]),
        &[
            ("read", &[]),
            ("store", &[Bytes]),
            ("swap", &[Bytes]),
            ("exchange", &[Expected, Bytes]),
            ("wait_change", &[Number]),
            ("count", &[]),
            ("check_type", &[Text]),
        ],
    ),
    (
        "keyed_lock",
        Nothing,
        &[
            ("acquire", &[Text]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[Text]),
            ("status", &[Text]),
            ("count", &[]),
            ("keys", &[]),
        ],
    ),
    (
        "keyed_semaphore",
        Record(&[Count]),
        &[
            ("acquire", &[Text, Count]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[Text]),
            ("status", &[Text]),
            ("count", &[]),
            ("keys", &[]),
        ],
    ),
    (
        "task_queue",
        Nothing,
        &[
            ("submit", &[Chunk, Count]),
            ("next", &[OptionalJob, Count]),
            ("finished", &[JobId, Outcome]),
            ("hand_back", &[Jobs]),
            ("close", &[OptionalFault]),
            ("count", &[]),
            ("reports", &[Job, Job]),
            ("feed", &[Number, Number, Text, Row, Count]),
            ("collect", &[Number]),
            ("leave", &[Number]),
        ],
    ),
];

/// A spec of random values.
pub(crate) fn random_spec(random: &mut StdRng, spec: Spec) -> Pack {
    match spec {
        Nothing => Pack::Nil,
        Record(fields) => record(random, fields, &[]),
    }
}

/// The spec of kinds that are made from nothing.
pub(crate) fn nothing() -> Pack {
    Pack::Nil
}

/// The spec of a lock, of whatever sort.
pub(crate) fn lock_spec() -> Pack {
    Pack::Nil
}

pub(crate) fn semaphore_spec(permits: u64) -> Pack {
    Pack::list([Pack::Number(permits)])
}

/// The spec of a queue of byte strings.
pub(crate) fn queue_spec(capacity: Option<u64>) -> Pack {
    let capacity = capacity.map_or(Pack::Nil, Pack::Number);
    Pack::list([capacity, Pack::text("bytes")])
}

/// The spec of a value that is a byte string at first.
pub(crate) fn value_spec(bytes: Vec<u8>) -> Pack {
    Pack::list([Pack::Bytes(bytes), Pack::text("bytes")])
}

/// A record of random values of these shapes. Proofs are mostly those of the given grants.
pub(crate) fn record(random: &mut StdRng, shapes: &[Shape], grants: &[Grant]) -> Pack {
    let fields = shapes.iter().map(|shape| value(random, *shape, grants));
    Pack::List(fields.collect())
}

fn value(random: &mut StdRng, shape: Shape, grants: &[Grant]) -> Pack {
    match shape {
        Proof => match grants.choose(random) {
            Some(grant) if random.random_ratio(9, 10) => proof(*grant),
            _ => {
                let [session, seq] = [number(random), number(random)];
                guessed_proof(random, Grant { session, seq })
            }
        },
        Count => Pack::Number(count(random)),
        Number => Pack::Number(number(random)),
        OptionalNumber => match random.random_range(0..3) {
            0 => Pack::Nil,
            _ => Pack::Number(number(random)),
        },
        Truth => Pack::Truth(random.random()),
        Text => Pack::Text(text(random)),
        Bytes => {
            let length = length(random);
            Pack::Bytes(vec![random.random(); length])
        }
        Access => Pack::text(
            ["Read", "Upgradable", "Write"]
                .choose(random)
                .expect("three"),
        ),
        Expected => match random.random::<bool>() {
            true => Pack::variant("Version", Pack::Number(random.random_range(0..9))),
            false => Pack::variant("Equal", value(random, Bytes, grants)),
        },
        OnDeath => Pack::text(["Break", "Retract"].choose(random).expect("two")),
        Row => {
            let lengths: Vec<_> = (0..random.random_range(0..20))
                .map(|_| count(random))
                .collect();
            let lengths = lengths.into_iter().map(Pack::Number);
            Pack::list([value(random, Bytes, grants), Pack::List(lengths.collect())])
        }
        Chunk => record(random, &[Text, Bytes], grants),
        Outcome => match random.random::<bool>() {
            true => Pack::variant("Ok", value(random, Bytes, grants)),
            false => Pack::variant("Err", Pack::text("Terminated")),
        },
        OptionalFault => match random.random_range(0..9) {
            0 => Pack::text("Closed"),
            _ => Pack::Nil,
        },
        JobId => {
            let grant = grants.choose(random).copied();
            let [session, job] = grant.map_or([0, 0], |grant| [grant.session, grant.seq]);
            Pack::list([session, job].map(Pack::Number))
        }
        Job => record(random, &[JobId, Outcome], grants),
        OptionalJob => match random.random::<bool>() {
            true => Pack::Nil,
            false => value(random, Job, grants),
        },
        Jobs => {
            let jobs = (0..random.random_range(0..5)).map(|_| value(random, JobId, grants));
            Pack::List(jobs.collect())
        }
    }
}

/// A number of 32 bits: mostly a small one, else one at an edge.
pub(crate) fn count(random: &mut StdRng) -> u64 {
    match random.random_range(0..12) {
        0 => u64::from(u32::MAX),
        1 => u64::from(u32::MAX) - 1,
        2 => 1_000_000,
        _ => random.random_range(0..5),
    }
}

/// A number of 64 bits: mostly a small one, else one at an edge.
pub(crate) fn number(random: &mut StdRng) -> u64 {
    match random.random_range(0..12) {
        0 => u64::MAX,
        1 => 1 << 63,
        2 => (1 << 63) - 1,
        3 => random.random(),
        _ => random.random_range(0..20),
    }
}

/// How many bytes something has: mostly few.
fn length(random: &mut StdRng) -> usize {
    match random.random_range(0..20) {
        0 => 60_000,
        1 => 5_000,
        _ => random.random_range(0..40),
    }
}

/// A text: mostly a short one, else one that does not belong on a terminal, or is too long.
pub(crate) fn text(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => "\u{1b}]0;title\u{7}\u{1b}[2J\r\n".to_owned(),
        1 => "\u{202e}\u{0}\u{85}\u{2028}".to_owned(),
        2 => "x".repeat(255),
        3 => "\u{1f512}".repeat(64),
        4 => "y".repeat(random.random_range(256..5_000)),
        5 => String::new(),
        _ => format!("key {}", random.random_range(0..8)),
    }
}

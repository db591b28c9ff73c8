//! The built-in kinds, and random specs and arguments of the right shape.
//!
//! Operations are identified by name here. An attack gets their numbers from the answer to its
//! `Open`.

use std::{collections::BTreeSet, path::Path, time::Instant};

use lockkeeper_test_support::seeded;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    client::{Attacker, Findings, decoded},
    pack::Pack,
    protocol::{self, Grant, guessed_proof, proof},
};

/// The type of a field of arguments or of a spec.
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
    ReleaseBy,
}

use Shape::{
    Access, Bytes, Count, Expected, Number, OnDeath, OptionalNumber, Proof, ReleaseBy, Text, Truth,
};

/// A kind: its name, its spec, and its operations with the fields of their arguments.
pub(crate) type Kind = (&'static str, Spec, &'static [Operation]);

/// The spec of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spec {
    Nothing,
    /// A release rule.
    Release,
    /// A record of these fields.
    Record(&'static [Shape]),
}

use Spec::{Nothing, Record, Release};

pub(crate) type Operation = (&'static str, &'static [Shape]);

const LOCK: &[Operation] = &[
    ("acquire", &[]),
    ("release", &[Proof]),
    ("adopt", &[Proof]),
    ("mark_consistent", &[Proof]),
    ("force_unlock", &[]),
    ("status", &[]),
    ("release_any", &[]),
];

const SEMAPHORE: &[Operation] = &[
    ("acquire", &[Count]),
    ("release", &[Proof, Count]),
    ("forget", &[Proof, Count]),
    ("add_permits", &[Count]),
    ("mark_consistent", &[Proof]),
    ("close", &[]),
    ("status", &[]),
    ("release_any", &[]),
];

pub(crate) const KINDS: &[Kind] = &[
    ("lock", Release, LOCK),
    ("semaphore", Record(&[Count, ReleaseBy]), SEMAPHORE),
    ("bounded_semaphore", Record(&[Count, ReleaseBy]), SEMAPHORE),
    (
        "reentrant_lock",
        Release,
        &[
            ("acquire", &[Number]),
            ("release", &[Proof]),
            ("adopt", &[Proof, Number]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
            ("release_any", &[]),
        ],
    ),
    (
        "event",
        Nothing,
        &[
            ("set", &[]),
            ("clear", &[]),
            ("wait", &[OptionalNumber]),
            ("status", &[]),
        ],
    ),
    (
        "condition",
        Release,
        &[
            ("acquire", &[]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
            ("release_any", &[]),
            ("wait", &[Proof, Text]),
            ("notify", &[Proof, Text, OptionalNumber]),
            ("sleepers", &[Text]),
            ("release_any", &[]),
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
            ("status", &[]),
        ],
    ),
    (
        "rw_lock",
        Release,
        &[
            ("acquire", &[Access]),
            ("release", &[Proof]),
            ("upgrade", &[Proof]),
            ("downgrade", &[Proof, Access]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[]),
            ("status", &[]),
            ("release_any", &[]),
        ],
    ),
    (
        "latch",
        Record(&[Count]),
        &[
            ("count_down", &[Count]),
            ("wait", &[]),
            ("arrive_and_wait", &[Count]),
            ("status", &[]),
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
            ("status", &[]),
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
            ("status", &[]),
            ("check_type", &[Text]),
        ],
    ),
    (
        "keyed_lock",
        Release,
        &[
            ("acquire", &[Text]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[Text]),
            ("key_status", &[Text]),
            ("status", &[]),
            ("keys", &[Count]),
            ("release_any", &[Text]),
        ],
    ),
    (
        "keyed_semaphore",
        Record(&[Count, ReleaseBy]),
        &[
            ("acquire", &[Text, Count]),
            ("release", &[Proof]),
            ("adopt", &[Proof]),
            ("mark_consistent", &[Proof]),
            ("force_unlock", &[Text]),
            ("key_status", &[Text]),
            ("status", &[]),
            ("keys", &[Count]),
            ("release_any", &[Text]),
        ],
    ),
];

/// Makes a spec with random values.
pub(crate) fn random_spec(random: &mut StdRng, spec: Spec) -> Pack {
    match spec {
        Nothing => Pack::Nil,
        Release => value(random, ReleaseBy, &[]),
        Record(fields) => record(random, fields, &[]),
    }
}

/// Returns the spec of kinds without parameters.
pub(crate) fn nothing() -> Pack {
    Pack::Nil
}

/// Returns the spec of a lock of any kind.
pub(crate) fn lock_spec() -> Pack {
    Pack::text("Holder")
}

pub(crate) fn semaphore_spec(permits: u64) -> Pack {
    Pack::list([Pack::Number(permits), Pack::text("Holder")])
}

/// Returns the spec of a queue of byte strings.
pub(crate) fn queue_spec(capacity: Option<u64>) -> Pack {
    let capacity = capacity.map_or(Pack::Nil, Pack::Number);
    Pack::list([capacity, Pack::text("bytes")])
}

/// Returns the spec of a value that is a byte string.
pub(crate) fn value_spec(bytes: Vec<u8>) -> Pack {
    Pack::list([Pack::Bytes(bytes), Pack::text("bytes")])
}

/// Makes a record of random values of these shapes. Most proofs are those of the given grants.
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
        ReleaseBy => Pack::text(["Holder", "Anyone"].choose(random).expect("two")),
    }
}

/// Draws a number of 32 bits: usually a small one, otherwise one at the limit of a range.
pub(crate) fn count(random: &mut StdRng) -> u64 {
    match random.random_range(0..12) {
        0 => u64::from(u32::MAX),
        1 => u64::from(u32::MAX) - 1,
        2 => 1_000_000,
        _ => random.random_range(0..5),
    }
}

/// Draws a number of 64 bits: usually a small one, otherwise one at the limit of a range.
pub(crate) fn number(random: &mut StdRng) -> u64 {
    match random.random_range(0..12) {
        0 => u64::MAX,
        1 => 1 << 63,
        2 => (1 << 63) - 1,
        3 => random.random(),
        _ => random.random_range(0..20),
    }
}

/// Draws a length in bytes, which is usually small.
fn length(random: &mut StdRng) -> usize {
    match random.random_range(0..20) {
        0 => 60_000,
        1 => 5_000,
        _ => random.random_range(0..40),
    }
}

/// Draws a text: usually a short one, otherwise one with control characters, or one that is too
/// long.
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

/// The number of random specs and arguments of which the manager must decode at least one.
const TRIES: usize = 100;

/// Checks that a manager decodes the specs and the arguments of this file, and has no other operations.
pub(crate) fn check(address: &Path) {
    let mut attacker = Attacker {
        address: address.display().to_string(),
        honest: 0,
        random: StdRng::from_rng(&mut seeded()),
        until: Instant::now(),
        found: Findings::default(),
    };
    let mut client = attacker.client().expect("a manager");
    for (kind, spec, operations) in KINDS {
        let object = (0..TRIES).find_map(|_| {
            let spec = random_spec(&mut attacker.random, *spec);
            client.open(kind, None, Some(&spec)).expect("an answer")
        });
        let object = object.unwrap_or_else(|| panic!("no spec of {kind} is accepted"));
        let listed: BTreeSet<&str> = operations.iter().map(|(name, _)| *name).collect();
        let hosted = object.operations().iter().map(String::as_str).collect();
        assert_eq!(listed, hosted, "the operations of {kind}");
        for (name, shapes) in *operations {
            let is_decoded = (0..TRIES).any(|_| {
                let seq = client.next();
                let grants = [client.own(seq)];
                let arguments = record(&mut attacker.random, shapes, &grants);
                let number = object.operation(name);
                let call = protocol::call(seq, object.number, number, Some(0), &arguments);
                decoded(client.ask(seq, &call).expect("an answer")).is_ok()
            });
            assert!(is_decoded, "no arguments of {name} of {kind} are decoded");
        }
    }
}

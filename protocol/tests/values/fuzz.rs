//! Decodes random bytes: mutations of the corpus and of the bytes in PROTOCOL.md.
//!
//! Each test runs for `LOCKKEEPER_FUZZ_SECONDS`, or one second. If it fails, it prints the input: add it
//! to `protocol/tests/corpus`.

use std::{
    collections::{BTreeMap, HashSet},
    env, fmt,
    fmt::Debug,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use lockkeeper_protocol::{
    Fault,
    codec::{Blob, BlobRef, Form, decode, decode_within},
    frame::{self, Encode, Inbox, Misread, Request, Response},
    operations::{Exchange, Next, QueueSpec},
};
use lockkeeper_test_support::seeded;
use rand::{Rng, rngs::StdRng};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    sample::{Double, Single},
    schema::{Schema, Typed, decode_as},
};

/// The most bytes of an input that are printed and kept.
const MOST_BYTES: usize = 4096;

/// The most inputs that are kept.
const MOST_INPUTS: usize = 4000;

/// Tries inputs for the time in the environment variable. `check` returns the outcome of an input. An input
/// with a new outcome is kept and mutated further.
fn fuzz(name: &'static str, mark: &str, check: fn(&[u8]) -> String) {
    let seconds = env::var("LOCKKEEPER_FUZZ_SECONDS").map_or(1, |seconds| {
        seconds
            .parse()
            .expect("LOCKKEEPER_FUZZ_SECONDS is a number")
    });
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rng = seeded();
    let mut inputs = corpus(name, mark);
    let test = move || {
        let mut shown = HashSet::new();
        let mut tries = 0_u64;
        for input in &inputs {
            let _print = PrintOnPanic(input);
            check(input);
        }
        while Instant::now() < until {
            let mut input = inputs[rng.random_range(0..inputs.len())].clone();
            let other = rng.random_range(0..inputs.len());
            if rng.random_ratio(1, 16) {
                input = encoded(&mut rng);
            }
            for _ in 0..rng.random_range(0..6) {
                mutate(&mut input, &inputs[other], &mut rng);
            }
            input.truncate(MOST_BYTES);
            let print = PrintOnPanic(&input);
            let is_new = shown.insert(check(&input));
            drop(print);
            tries += 1;
            if is_new && inputs.len() < MOST_INPUTS {
                inputs.push(input);
            }
        }
        println!("{tries} inputs of {name}, {} outcomes", shown.len());
    };
    // This is the stack size of the library's threads.
    let thread = thread::Builder::new().stack_size(2 << 20).spawn(test);
    thread.expect("a thread").join().expect("no input fails");
}

/// Prints the current input if its test panics.
struct PrintOnPanic<'a>(&'a [u8]);

impl Drop for PrintOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("failed with {}", Hex(self.0));
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x} "))
    }
}

/// Returns the inputs of the corpus, and those in PROTOCOL.md after a mark.
fn corpus(name: &str, mark: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = root.join("tests/corpus").join(name);
    let kept = fs::read_to_string(&kept).expect("the corpus");
    let page = fs::read_to_string(root.join("../PROTOCOL.md")).expect("PROTOCOL.md");
    let mut inputs: Vec<Vec<u8>> = kept.lines().map(bytes_of).collect();
    let blocks = page.split("```text\n").skip(1);
    for block in blocks.filter_map(|block| block.split("```").next()) {
        for line in block.lines() {
            let is_first = line.starts_with(['<', '>', '=']);
            match inputs.last_mut() {
                Some(input) if !is_first => input.extend(bytes_of(line)),
                _ if mark.contains(line.get(..1).unwrap_or(" ")) => inputs.push(bytes_of(line)),
                _ => inputs.push(Vec::new()),
            }
        }
    }
    inputs.retain(|input| !input.is_empty());
    assert!(inputs.len() > 20, "{}", inputs.len());
    inputs
}

/// Parses the hexadecimal bytes of a line, up to a comment.
fn bytes_of(line: &str) -> Vec<u8> {
    let line = line.split('#').next().unwrap_or_default();
    let line = line.trim_start_matches(['<', '>', '=']);
    let bytes = line
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16));
    bytes
        .collect::<Result<_, _>>()
        .expect("bytes in hexadecimal")
}

/// Encodes a value of a random type.
fn encoded(rng: &mut StdRng) -> Vec<u8> {
    let schema = Schema::random(rng, 3);
    let value = schema.value(rng);
    let form = [Form::Named, Form::Compact][rng.random_range(0..2)];
    form.encode(&Typed(&schema, &value)).unwrap_or_default()
}

/// Markers and lengths that change the meaning of the following bytes.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x7f, 0x80, 0x81, 0x90, 0x91, 0xa0, 0xa1, 0xc0, 0xc1, 0xc4, 0xc7, 0xc9, 0xca,
    0xcf, 0xd4, 0xd8, 0xd9, 0xdd, 0xdf, 0xe0, 0xff,
];

fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut StdRng) {
    let place = rng.random_range(0..=input.len());
    match rng.random_range(0..7) {
        0 => input.truncate(place),
        1 => input.insert(place, TELLING[rng.random_range(0..TELLING.len())]),
        2 => {
            if let Some(byte) = input.get_mut(place) {
                *byte = TELLING[rng.random_range(0..TELLING.len())];
            }
        }
        3 => {
            if let Some(byte) = input.get_mut(place) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        4 => {
            let from = rng.random_range(0..=other.len());
            input.splice(place..place, other[from..].iter().copied());
        }
        5 => {
            let end = rng.random_range(place..=input.len());
            input.drain(place..end);
        }
        _ => {
            let end = rng.random_range(place..=input.len());
            let part = input[place..end].repeat(rng.random_range(1..40));
            input.splice(place..place, part);
        }
    }
    input.truncate(MOST_BYTES);
}

/// Any value that the bytes may contain.
#[derive(Debug, PartialEq)]
enum Any {
    Unit,
    Some(Box<Self>),
    Bool(bool),
    Unsigned(u128),
    Signed(i128),
    Single(u32),
    Double(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unit => to.serialize_unit(),
            Self::Some(some) => to.serialize_some(some),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Unsigned(value) => to.serialize_u128(*value),
            Self::Signed(value) => to.serialize_i128(*value),
            Self::Single(bits) => to.serialize_f32(f32::from_bits(*bits)),
            Self::Double(bits) => to.serialize_f64(f64::from_bits(*bits)),
            Self::Text(value) => to.serialize_str(value),
            Self::Bytes(value) => to.serialize_bytes(value),
            Self::List(values) => to.collect_seq(values),
            Self::Map(entries) => to.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyVisitor;

        impl<'de> Visitor<'de> for AnyVisitor {
            type Value = Any;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E>(self) -> Result<Any, E> {
                Ok(Any::Unit)
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Any, D::Error> {
                // An extension around any other value can be decoded, but is never encoded.
                Any::deserialize(from).map(|some| match some {
                    Any::Unit | Any::Some(_) => Any::Some(Box::new(some)),
                    some => some,
                })
            }

            fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
                Ok(Any::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
                Ok(Any::Unsigned(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
                Ok(Any::Signed(value.into()))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Any, E> {
                Ok(Any::Unsigned(value))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Any, E> {
                let unsigned = u128::try_from(value).map(Any::Unsigned);
                Ok(unsigned.unwrap_or(Any::Signed(value)))
            }

            fn visit_f32<E>(self, value: f32) -> Result<Any, E> {
                Ok(Any::Single(value.to_bits()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
                Ok(Any::Double(value.to_bits()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Any, E> {
                Ok(Any::Text(value.to_owned()))
            }

            fn visit_bytes<E>(self, value: &[u8]) -> Result<Any, E> {
                Ok(Any::Bytes(value.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Any::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Any::Map(entries))
            }
        }

        from.deserialize_any(AnyVisitor)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plain {
    a: Option<Option<Box<Self>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<Variant>,
    #[serde(default)]
    c: BTreeMap<String, Option<()>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(Box<Plain>),
    Tuple(u128, Single, Double),
    Named { a: char, b: Option<Blob> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "a")]
enum Tagged {
    Unit,
    Newtype(Box<Plain>),
    Named {
        b: Vec<Self>,
        #[serde(flatten)]
        rest: BTreeMap<String, Mixed>,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Mixed {
    Tagged(Box<Tagged>),
    Maybe(Option<Option<i8>>),
    Text(String),
    Pair(Box<(Self, Self)>),
}

/// Decodes bytes as a type. A decoded value must pass the checks of any other value.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], shown: &mut String) {
    match decode::<T>(bytes) {
        Ok(value) => {
            shown.push_str("+ ");
            let encoded = Form::Named.encode(&value);
            // Encoding may fail: the encoded value may nest deeper than the bytes that it was decoded from.
            if let Ok(encoded) = encoded {
                let again = decode::<T>(&encoded);
                assert_eq!(again.as_ref(), Ok(&value), "{}", Hex(&encoded));
            }
        }
        Err(error) => {
            let text = error.to_string();
            shown.extend(
                text.chars()
                    .filter(|letter| !letter.is_ascii_digit())
                    .take(40),
            );
        }
    }
}

fn check_value(bytes: &[u8]) -> String {
    let mut shown = String::new();
    if let Ok(any) = decode::<Any>(bytes) {
        let encoded = Form::Named
            .encode(&any)
            .expect("a decoded value can be encoded");
        assert_eq!(
            decode::<Any>(&encoded).as_ref(),
            Ok(&any),
            "{}",
            Hex(&encoded)
        );
        assert!(decode::<IgnoredAny>(bytes).is_ok());
    }
    read::<Plain>(bytes, &mut shown);
    read::<Variant>(bytes, &mut shown);
    read::<Vec<Option<Blob>>>(bytes, &mut shown);
    read::<Result<Option<Option<()>>, (i128, String)>>(bytes, &mut shown);
    // Variants of these types may have the same encoding.
    for outcome in [
        decode::<Tagged>(bytes).is_ok(),
        decode::<Mixed>(bytes).is_ok(),
    ] {
        shown.push(if outcome { '+' } else { '-' });
    }
    let _ = decode::<serde_json::Value>(bytes);
    let _ = decode::<BlobRef<'_>>(bytes);
    let whole = bytes::Bytes::copy_from_slice(bytes);
    let _ = decode_within::<Vec<Blob>>(&whole, &whole);
    // Built-in kinds.
    let _ = (
        decode::<Exchange>(bytes),
        decode::<Next>(bytes),
        decode::<QueueSpec>(bytes),
    );
    let _ = decode::<Fault>(bytes);
    let _ = decode_as(LIST, bytes);
    shown
}

const LIST: &Schema = &Schema::UnitStruct;

fn check_frames(bytes: &[u8]) -> String {
    let mut shown = String::new();
    let mut inbox = Inbox::new(MOST_BYTES);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        inbox.feed(part);
        loop {
            match inbox.next_message() {
                Ok(Some(message)) => check_message(&message, &mut shown),
                Ok(None) => break,
                Err(error) => {
                    shown.push_str(&error.to_string());
                    return shown;
                }
            }
        }
    }
    for message in frame::frames(bytes).flatten() {
        check_message(message, &mut shown);
    }
    check_message(bytes, &mut shown);
    shown
}

fn check_message(bytes: &[u8], shown: &mut String) {
    let note = |shown: &mut String, outcome: Result<&str, String>| {
        let text = outcome.map_or_else(|error| error, str::to_owned);
        shown.extend(
            text.chars()
                .filter(|letter| !letter.is_ascii_digit())
                .take(60),
        );
    };
    let written = |message: &dyn Encode| {
        let mut buffer = Vec::new();
        message
            .encode_into(&mut buffer, usize::MAX)
            .expect("a decoded value can be encoded");
        buffer
    };
    match Request::decode(bytes) {
        Ok(request) => {
            let again = written(&request);
            assert_eq!(Request::decode(&again).as_ref(), Ok(&request));
            note(shown, Ok("request "));
        }
        Err(error) => {
            shown.push_str(match Misread::of(bytes) {
                Misread::Call(_) => "call ",
                Misread::OneWay => "one way ",
                Misread::Stream => "stream ",
            });
            note(shown, Err(error.to_string()));
        }
    }
    match Response::decode(bytes) {
        Ok(response) => {
            let again = written(&response);
            assert_eq!(Response::decode(&again).as_ref(), Ok(&response));
            note(shown, Ok("response "));
        }
        Err(error) => {
            let _ = frame::faulted(bytes);
            note(shown, Err(error.to_string()));
        }
    }
}

#[test]
fn no_bytes_make_the_decoder_of_values_fail() {
    fuzz("values.hex", "=", check_value);
}

#[test]
fn no_bytes_make_the_decoder_of_frames_fail() {
    fuzz("frames.hex", "<>", check_frames);
}

//! Deeply nested values: encoding and decoding return an error, and never overflow the stack of a thread.

use std::{collections::BTreeMap, thread};

use lockkeeper_protocol::codec::{Form, MAX_DEPTH, decode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::sample::{Outcome, ours};

/// The stack size of a manager's and of tokio's threads: the default of the standard library.
const STACK_BYTES: usize = 2 << 20;

/// Runs a test with the stack size of the library's threads.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(test);
    thread.expect("a thread").join().expect("the test passes");
}

/// A recursive type.
trait Nest: Serialize + DeserializeOwned + PartialEq + Send + Sized + 'static {
    /// The number of levels of each round.
    const LEVELS: u32;
    fn innermost() -> Self;
    fn around(self) -> Self;
}

fn nested<T: Nest>(rounds: u32) -> T {
    (0..rounds).fold(T::innermost(), |inner, _| inner.around())
}

/// Checks the limit for one type. Dropping a nested value recurses too, so the deepest value is
/// forgotten.
fn check<T: Nest>() {
    let name = std::any::type_name::<T>();
    // The innermost value may have two further levels.
    let fits = MAX_DEPTH / T::LEVELS - 2;
    on_small_stack(move || {
        for rounds in [0, 1, fits / 2, fits] {
            assert_eq!(
                ours(&nested::<T>(rounds)),
                Outcome::Equal,
                "{rounds} of {name}"
            );
        }
        for rounds in [fits + 3, 2 * MAX_DEPTH, 1000] {
            let value = nested::<T>(rounds);
            for form in [Form::Named, Form::Compact] {
                let error = form.encode(&value).expect_err(name).to_string();
                assert!(error.contains("deeper than 128 levels"), "{error}");
            }
        }
    });
    // The value of 100,000 rounds is forgotten, because its drop would overflow the stack.
    let value = nested::<T>(100_000);
    on_small_stack(move || {
        let value = std::mem::ManuallyDrop::new(value);
        assert!(Form::Named.encode(&*value).is_err(), "{name}");
    });
}

macro_rules! nests {
    ($($test:ident: $type:ty, $levels:literal, $innermost:expr, $around:expr;)*) => {$(
        impl Nest for $type {
            const LEVELS: u32 = $levels;
            fn innermost() -> Self {
                $innermost
            }
            fn around(self) -> Self {
                let around: fn(Self) -> Self = $around;
                around(self)
            }
        }

        #[test]
        fn $test() {
            check::<$type>();
        }
    )*};
}

#[derive(PartialEq, Serialize, Deserialize)]
struct List(Vec<Self>);

#[derive(PartialEq, Serialize, Deserialize)]
struct Options(Option<Box<Self>>);

#[derive(PartialEq, Serialize, Deserialize)]
struct Chain {
    number: u8,
    next: Option<Box<Self>>,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum External {
    Leaf,
    Newtype(Box<Self>),
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Fields {
    Leaf,
    Named { inner: (u8, Box<Self>) },
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag")]
enum Internal {
    Leaf,
    Named { inner: Box<Self> },
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag", content = "content")]
enum Adjacent {
    Leaf,
    Newtype(Box<Self>),
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Leaf(u8),
    Inner { inner: Box<Self> },
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Flat {
    number: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Self>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Keys(BTreeMap<Self, ()>);

nests! {
    lists: List, 2, List(Vec::new()), |inner| List(vec![inner]);
    options: Options, 2, Options(None), |inner| Options(Some(Box::new(inner)));
    chains: Chain, 2, Chain { number: 1, next: None }, |inner| Chain {
        number: 1,
        next: Some(Box::new(inner)),
    };
    variants: External, 1, External::Leaf, |inner| External::Newtype(Box::new(inner));
    fields_of_variants: Fields, 3, Fields::Leaf, |inner| Fields::Named { inner: (1, Box::new(inner)) };
    internally_tagged: Internal, 1, Internal::Leaf, |inner| Internal::Named {
        inner: Box::new(inner),
    };
    adjacently_tagged: Adjacent, 1, Adjacent::Leaf, |inner| Adjacent::Newtype(Box::new(inner));
    untagged: Untagged, 1, Untagged::Leaf(1), |inner| Untagged::Inner { inner: Box::new(inner) };
    flattened: Flat, 1, Flat { number: 1, rest: BTreeMap::new() }, |inner| Flat {
        number: 1,
        rest: BTreeMap::from([("inner".to_owned(), inner)]),
    };
    keys: Keys, 2, Keys(BTreeMap::new()), |inner| Keys(BTreeMap::from([(inner, ())]));
}

/// Decodes bytes that nest too deep, which no encoder of ours writes.
#[test]
fn bytes_that_nest_too_deep_are_an_error_of_the_receiver() {
    let wrapper = |inner: Vec<u8>| {
        let length = u32::try_from(inner.len()).expect("the content is short");
        let mut bytes = vec![0xc9];
        bytes.extend(length.to_be_bytes());
        bytes.push(0);
        bytes.extend(inner);
        bytes
    };
    let wrapped = (0..2000).fold(vec![0xc0], |inner, _| wrapper(inner));
    let arrays = vec![0x91; 1_000_000];
    let maps = b"\x81\xa5inner".repeat(100_000);
    let variants = b"\x81\xa7Newtype".repeat(100_000);
    on_small_stack(move || {
        for bytes in [&wrapped, &arrays, &maps, &variants] {
            assert!(decode::<List>(bytes).is_err());
            assert!(decode::<Options>(bytes).is_err());
            assert!(decode::<External>(bytes).is_err());
            assert!(decode::<Untagged>(bytes).is_err());
            assert!(decode::<Internal>(bytes).is_err());
            assert!(decode::<Flat>(bytes).is_err());
            assert!(decode::<serde::de::IgnoredAny>(bytes).is_err() || bytes == &wrapped);
            assert!(decode::<serde_json::Value>(bytes).is_err());
        }
    });
}

#[test]
fn infinite_type_is_an_error_of_the_receiver() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the type has no values")]
    struct Endless(Box<Self>);

    on_small_stack(|| {
        let error = decode::<Endless>(&[1])
            .err()
            .expect("the type has no values");
        assert!(
            error.to_string().contains("deeper than 128 levels"),
            "{error}"
        );
    });
}

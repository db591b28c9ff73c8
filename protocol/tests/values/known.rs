//! Values that serde itself cannot preserve: each is an error, or is ambiguous in every format. SEMANTICS.md
//! lists them.

use std::{collections::BTreeMap, fmt};

use lockkeeper_protocol::codec::{Form, decode};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};

use crate::sample::{Outcome, json, ours};

#[track_caller]
fn is(value: &(impl Serialize + DeserializeOwned + PartialEq), outcome: Outcome) {
    assert_eq!(ours(value), outcome);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag")]
enum Internal {
    Huge { number: u128 },
    Pair { pair: (u8, Option<Option<()>>) },
    List(Vec<u8>),
    Map(BTreeMap<u8, Option<()>>),
    Maybe(Option<Inner>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    inner: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    First { number: u8 },
    Second { number: u8 },
    Maybe(Option<u8>),
    Unit,
    Huge(u128),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    inner: Option<Lenient>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Lenient {
    a: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Twice {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[test]
fn integers_of_128_bits_in_buffered_content_are_an_error_of_the_receiver() {
    for number in [1, u128::MAX] {
        is(&Internal::Huge { number }, Outcome::RefusedByReceiver);
        is(
            &Untagged::Huge(number),
            if number == 1 {
                // It is decoded as an `Option<u8>`, which is the first variant.
                Outcome::Other
            } else {
                Outcome::RefusedByReceiver
            },
        );
    }
}

#[test]
fn content_that_cannot_have_a_tag_inside_is_an_error_of_the_sender() {
    is(&Internal::List(vec![1]), Outcome::RefusedBySender);
    let pair = (1, Some(None));
    is(&Internal::Pair { pair }, Outcome::Equal);
}

#[test]
fn variants_with_the_same_encoding_are_ambiguous_in_every_format() {
    for value in [Untagged::Second { number: 1 }, Untagged::Unit] {
        assert_eq!(
            (ours(&value), json(&value)),
            (Outcome::Other, Outcome::Other)
        );
    }
    is(&Untagged::First { number: 1 }, Outcome::Equal);
    is(&Untagged::Maybe(None), Outcome::Equal);
    let flat = Flat { inner: None };
    assert_eq!((ours(&flat), json(&flat)), (Outcome::Other, Outcome::Other));
}

#[test]
fn flattened_entry_with_the_name_of_a_field_is_an_error_of_the_receiver() {
    let rest = BTreeMap::from([("a".to_owned(), 2)]);
    is(&Twice { a: 1, rest }, Outcome::RefusedByReceiver);
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct FlatOption<T> {
    beside: u8,
    #[serde(flatten)]
    inner: Option<T>,
}

/// Checks a flattened option whose absence leaves no trace in the encoding.
#[track_caller]
fn none_becomes_some<T>(some: T)
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    for inner in [Some(some), None] {
        let expected = match inner {
            Some(_) => Outcome::Equal,
            None => Outcome::Other,
        };
        let value = FlatOption { beside: 1, inner };
        assert_eq!((ours(&value), json(&value)), (expected, expected));
    }
}

#[test]
fn flattened_option_of_a_unit_or_of_an_option_is_ambiguous_in_every_format() {
    none_becomes_some(());
    none_becomes_some(Unit);
    none_becomes_some(None::<Inner>);
    // An option of a struct with a field that is always written has a trace.
    for inner in [Some(Inner { inner: 1 }), None] {
        is(&FlatOption { beside: 1, inner }, Outcome::Equal);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag")]
enum Outer {
    Enum(TaggedAlike),
    Struct(FieldLikeTag),
    Map(BTreeMap<String, u8>),
    Other(TaggedOtherwise),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag")]
enum TaggedAlike {
    Empty {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum TaggedOtherwise {
    Empty {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FieldLikeTag {
    tag: u8,
}

#[test]
fn content_with_the_name_of_the_tag_is_an_error_of_the_receiver() {
    let map = |key: &str| Outer::Map(BTreeMap::from([(key.to_owned(), 1)]));
    for value in [
        Outer::Enum(TaggedAlike::Empty {}),
        Outer::Struct(FieldLikeTag { tag: 1 }),
        map("tag"),
    ] {
        is(&value, Outcome::RefusedByReceiver);
        assert_eq!(json(&value), Outcome::RefusedByReceiver);
    }
    is(&Outer::Other(TaggedOtherwise::Empty {}), Outcome::Equal);
    is(&map("other"), Outcome::Equal);
}

#[test]
fn flattened_field_with_the_name_of_another_field_is_an_error_of_the_receiver() {
    #[derive(PartialEq, Serialize, Deserialize)]
    struct Beside {
        inner: u8,
        #[serde(flatten)]
        flat: Inner,
    }

    #[derive(PartialEq, Serialize, Deserialize)]
    struct TwoFlat {
        #[serde(flatten)]
        first: Inner,
        #[serde(flatten)]
        second: Inner,
    }

    let [first, second] = [1, 2].map(|inner| Inner { inner });
    let flat = first.clone();
    is(&Beside { inner: 2, flat }, Outcome::RefusedByReceiver);
    is(&TwoFlat { first, second }, Outcome::RefusedByReceiver);
}

#[test]
fn recursion_by_options_alone_is_bounded_outside_of_buffers_and_a_field_bounds_it_inside() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Options(Option<Box<Self>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chain {
        next: Option<Box<Self>>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Buffered {
        Chain(Chain),
        Number(u8),
    }

    // In place of `Chain`, `Options` would overflow the stack: serde reads its buffer without a call to the decoder.
    is(&Buffered::Number(5), Outcome::Equal);
    is(&Buffered::Chain(Chain { next: None }), Outcome::Equal);
    let error = decode::<Options>(b"\x05").unwrap_err().to_string();
    assert!(error.contains("deeper than 128 levels"), "{error}");
}

#[test]
fn field_that_is_written_and_not_read_needs_a_default() {
    #[derive(PartialEq, Serialize, Deserialize)]
    struct Hidden {
        a: u8,
        #[serde(skip_serializing)]
        b: u8,
        #[serde(skip_deserializing)]
        c: u8,
    }
    is(&Hidden { a: 1, b: 2, c: 0 }, Outcome::RefusedByReceiver);
}

#[test]
fn serialize_that_announces_a_wrong_count_is_an_error_of_the_sender() {
    use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, Serializer};

    struct WrongElementCount(usize, usize);
    struct WrongEntryCount(usize, usize);
    struct WrongFieldCount(usize, usize);
    struct HalfAnEntry;

    impl Serialize for WrongElementCount {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut list = to.serialize_seq(Some(self.0))?;
            (0..self.1).try_for_each(|_| list.serialize_element(&1))?;
            list.end()
        }
    }

    impl Serialize for WrongEntryCount {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut map = to.serialize_map(Some(self.0))?;
            (0..self.1).try_for_each(|key| map.serialize_entry(&key, &1))?;
            map.end()
        }
    }

    impl Serialize for WrongFieldCount {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut fields = to.serialize_struct("WrongFieldCount", self.0)?;
            (0..self.1).try_for_each(|_| fields.serialize_field("a", &1))?;
            fields.end()
        }
    }

    impl Serialize for HalfAnEntry {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut map = to.serialize_map(None)?;
            map.serialize_key(&1)?;
            map.end()
        }
    }

    for form in [Form::Named, Form::Compact] {
        for (announced, written) in [(0, 1), (1, 0), (16, 15), (15, 16), (70_000, 3)] {
            assert!(form.encode(&WrongElementCount(announced, written)).is_err());
            assert!(form.encode(&WrongEntryCount(announced, written)).is_err());
            assert!(form.encode(&WrongFieldCount(announced, written)).is_err());
            assert!(form.encode(&WrongElementCount(written, written)).is_ok());
        }
        assert!(form.encode(&HalfAnEntry).is_err());
    }
}

#[test]
fn structs_of_either_form_and_byte_strings_for_lists_are_read() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Point {
        x: u8,
        #[serde(default)]
        y: Option<u8>,
        unit: Unit,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    let point = Point {
        x: 1,
        y: Some(2),
        unit: Unit,
    };
    for (form, bytes) in [
        (Form::Compact, &b"\x93\x01\x02\x90"[..]),
        (Form::Named, b"\x83\xa1x\x01\xa1y\x02\xa4unit\xc0"),
    ] {
        assert_eq!(form.encode(&point).unwrap(), bytes);
        assert_eq!(decode::<Point>(bytes).unwrap(), point);
        // Another implementation of MessagePack can read it.
        assert_eq!(rmp_serde::from_slice::<Point>(bytes).unwrap(), point);
    }
    assert_eq!(decode::<Vec<u8>>(b"\xc4\x02\x07\x08").unwrap(), [7, 8]);
    assert_eq!(decode::<[u8; 2]>(b"\xc4\x02\x07\x08").unwrap(), [7, 8]);
    assert!(decode::<[u8; 3]>(b"\xc4\x02\x07\x08").is_err());
    assert!(decode::<[u8; 1]>(b"\xc4\x02\x07\x08").is_err());
}

/// What a type is told of the number of its parts before it reads them.
struct Hinted(Option<usize>);

impl<'de> Deserialize<'de> for Hinted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Hinted;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list or a map")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Hinted, A::Error> {
                let hint = parts.size_hint();
                while parts.next_element::<u8>()?.is_some() {}
                Ok(Hinted(hint))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Hinted, A::Error> {
                let hint = parts.size_hint();
                while parts.next_entry::<u32, u8>()?.is_some() {}
                Ok(Hinted(hint))
            }
        }

        deserializer.deserialize_any(Parts)
    }
}

#[test]
fn type_is_told_to_reserve_room_for_few_parts_of_a_long_message() {
    let hint = |bytes: Vec<u8>| decode::<Hinted>(&bytes).unwrap().0.unwrap();
    for form in [Form::Compact, Form::Named] {
        for parts in [0_u32, 3, 100_000] {
            let list: Vec<u8> = (0..parts).map(|_| 1).collect();
            let map: BTreeMap<u32, u8> = (0..parts).map(|key| (key, 1)).collect();
            for hint in [
                hint(form.encode(&list).unwrap()),
                hint(form.encode(&map).unwrap()),
            ] {
                let parts = usize::try_from(parts).unwrap();
                assert!(hint <= parts && (hint == parts || hint >= 1000), "{hint}");
                assert!(hint <= 10_000, "{hint}");
            }
        }
    }
}

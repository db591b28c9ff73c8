//! Random types: a schema describes which methods of serde a type calls, and its values call them.

use std::{cell::Cell, fmt};

use lockkeeper_protocol::codec::{CodecError, Form, decode};
use lockkeeper_test_support::seeded;
use rand::{Rng, rngs::StdRng};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// Names of fields and variants. Serde requires them to be `'static`.
const NAMES: [&str; 6] = ["a", "type", "a longer name", "b", "", "Ok"];

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Schema {
    Bool,
    /// The number of bits.
    Signed(u8),
    Unsigned(u8),
    Single,
    Double,
    Char,
    Text,
    Bytes,
    Unit,
    UnitStruct,
    Option(Box<Self>),
    Newtype(Box<Self>),
    Seq(Box<Self>, Length),
    Map(Box<Self>, Box<Self>, Length),
    Tuple(Vec<Self>),
    TupleStruct(Vec<Self>),
    Struct(Vec<Self>),
    Enum(Vec<Variant>),
}

/// Whether a sequence or a map announces its length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Known,
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) enum Variant {
    Unit,
    Newtype(Schema),
    Tuple(Vec<Schema>),
    Struct(Vec<Schema>),
}

/// A value of some type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Signed(i128),
    Unsigned(u128),
    /// The bits.
    Single(u32),
    Double(u64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Unit,
    Option(Option<Box<Self>>),
    Newtype(Box<Self>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Variant(usize, Box<Self>),
}

impl Schema {
    pub(crate) fn random(rng: &mut StdRng, depth: u32) -> Self {
        let inner = |rng: &mut StdRng| Box::new(Self::random(rng, depth.saturating_sub(1)));
        let bits = |rng: &mut StdRng| [8, 16, 32, 64, 128][rng.random_range(0..5)];
        let length = |rng: &mut StdRng| match rng.random() {
            true => Length::Known,
            false => Length::Unknown,
        };
        match rng.random_range(0..if depth == 0 { 10 } else { 19 }) {
            0 => Self::Bool,
            1 => Self::Signed(bits(rng)),
            2 => Self::Unsigned(bits(rng)),
            3 => Self::Single,
            4 => Self::Double,
            5 => Self::Char,
            6 => Self::Text,
            7 => Self::Bytes,
            8 => Self::Unit,
            9 => Self::UnitStruct,
            10 | 11 => Self::Option(inner(rng)),
            12 => Self::Newtype(inner(rng)),
            13 => Self::Seq(inner(rng), length(rng)),
            14 => Self::Map(inner(rng), inner(rng), length(rng)),
            15 => Self::Tuple(Self::several(rng, depth)),
            16 => Self::TupleStruct(Self::several(rng, depth)),
            17 => Self::Struct(Self::several(rng, depth)),
            _ => {
                let variants = rng.random_range(1..NAMES.len());
                Self::Enum((0..variants).map(|_| Variant::random(rng, depth)).collect())
            }
        }
    }

    fn several(rng: &mut StdRng, depth: u32) -> Vec<Self> {
        let parts = rng.random_range(0..NAMES.len());
        (0..parts).map(|_| Self::random(rng, depth - 1)).collect()
    }

    pub(crate) fn value(&self, rng: &mut StdRng) -> Value {
        let many = |rng: &mut StdRng| [0, 1, 2, 3, 15, 16, 17][rng.random_range(0..7)];
        let list = |parts: &[Self], rng: &mut StdRng| {
            Value::List(parts.iter().map(|part| part.value(rng)).collect())
        };
        match self {
            Self::Bool => Value::Bool(rng.random()),
            Self::Signed(bits) => {
                let number = rng.random::<i128>() >> (128 - u32::from(*bits));
                Value::Signed(number >> rng.random_range(0..u32::from(*bits)))
            }
            Self::Unsigned(bits) => {
                let number = rng.random::<u128>() >> (128 - u32::from(*bits));
                Value::Unsigned(number >> rng.random_range(0..u32::from(*bits)))
            }
            Self::Single => Value::Single(rng.random()),
            Self::Double => Value::Double(rng.random()),
            Self::Char => Value::Char(rng.random()),
            Self::Text => Value::Text((0..many(rng)).map(|_| rng.random::<char>()).collect()),
            Self::Bytes => Value::Bytes((0..many(rng)).map(|_| rng.random()).collect()),
            Self::Unit | Self::UnitStruct => Value::Unit,
            Self::Option(some) => {
                let some = rng.random::<bool>().then(|| Box::new(some.value(rng)));
                Value::Option(some)
            }
            Self::Newtype(inner) => Value::Newtype(Box::new(inner.value(rng))),
            Self::Seq(each, _) => Value::List((0..many(rng)).map(|_| each.value(rng)).collect()),
            Self::Map(key, each, _) => {
                let entries = (0..many(rng)).map(|_| (key.value(rng), each.value(rng)));
                Value::Map(entries.collect())
            }
            Self::Tuple(parts) | Self::TupleStruct(parts) | Self::Struct(parts) => list(parts, rng),
            Self::Enum(variants) => {
                let place = rng.random_range(0..variants.len());
                let content = match &variants[place] {
                    Variant::Unit => Value::Unit,
                    Variant::Newtype(inner) => inner.value(rng),
                    Variant::Tuple(parts) | Variant::Struct(parts) => list(parts, rng),
                };
                Value::Variant(place, Box::new(content))
            }
        }
    }
}

impl Variant {
    fn random(rng: &mut StdRng, depth: u32) -> Self {
        match rng.random_range(0..4) {
            0 => Self::Unit,
            1 => Self::Newtype(Schema::random(rng, depth - 1)),
            2 => Self::Tuple(Schema::several(rng, depth)),
            _ => Self::Struct(Schema::several(rng, depth)),
        }
    }
}

/// A value with its type. Its `Serialize` makes the same calls as derived code.
pub(crate) struct Typed<'a>(pub(crate) &'a Schema, pub(crate) &'a Value);

/// Returns whether a field is skipped, as by `skip_serializing_if = "Option::is_none"`.
fn is_skipped(value: &Value) -> bool {
    matches!(value, Value::Option(None))
}

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(schema, value) = self;
        match (schema, value) {
            (Schema::Bool, Value::Bool(value)) => to.serialize_bool(*value),
            (Schema::Signed(8), Value::Signed(value)) => to.serialize_i8(narrow(*value)),
            (Schema::Signed(16), Value::Signed(value)) => to.serialize_i16(narrow(*value)),
            (Schema::Signed(32), Value::Signed(value)) => to.serialize_i32(narrow(*value)),
            (Schema::Signed(64), Value::Signed(value)) => to.serialize_i64(narrow(*value)),
            (Schema::Signed(_), Value::Signed(value)) => to.serialize_i128(*value),
            (Schema::Unsigned(8), Value::Unsigned(value)) => to.serialize_u8(narrow(*value)),
            (Schema::Unsigned(16), Value::Unsigned(value)) => to.serialize_u16(narrow(*value)),
            (Schema::Unsigned(32), Value::Unsigned(value)) => to.serialize_u32(narrow(*value)),
            (Schema::Unsigned(64), Value::Unsigned(value)) => to.serialize_u64(narrow(*value)),
            (Schema::Unsigned(_), Value::Unsigned(value)) => to.serialize_u128(*value),
            (Schema::Single, Value::Single(bits)) => to.serialize_f32(f32::from_bits(*bits)),
            (Schema::Double, Value::Double(bits)) => to.serialize_f64(f64::from_bits(*bits)),
            (Schema::Char, Value::Char(value)) => to.serialize_char(*value),
            (Schema::Text, Value::Text(value)) => to.serialize_str(value),
            (Schema::Bytes, Value::Bytes(value)) => to.serialize_bytes(value),
            (Schema::Unit, Value::Unit) => to.serialize_unit(),
            (Schema::UnitStruct, Value::Unit) => to.serialize_unit_struct("UnitStruct"),
            (Schema::Option(_), Value::Option(None)) => to.serialize_none(),
            (Schema::Option(inner), Value::Option(Some(value))) => {
                to.serialize_some(&Self(inner, value))
            }
            (Schema::Newtype(inner), Value::Newtype(value)) => {
                to.serialize_newtype_struct("Newtype", &Self(inner, value))
            }
            (Schema::Seq(each, length), Value::List(values)) => {
                let mut list = to.serialize_seq(announced(*length, values.len()))?;
                for value in values {
                    list.serialize_element(&Self(each, value))?;
                }
                list.end()
            }
            (Schema::Map(key, each, length), Value::Map(entries)) => {
                let mut map = to.serialize_map(announced(*length, entries.len()))?;
                for (name, value) in entries {
                    map.serialize_key(&Self(key, name))?;
                    map.serialize_value(&Self(each, value))?;
                }
                map.end()
            }
            (Schema::Tuple(parts), Value::List(values)) => {
                let mut tuple = to.serialize_tuple(parts.len())?;
                for (part, value) in parts.iter().zip(values) {
                    tuple.serialize_element(&Self(part, value))?;
                }
                tuple.end()
            }
            (Schema::TupleStruct(parts), Value::List(values)) => {
                let mut tuple = to.serialize_tuple_struct("TupleStruct", parts.len())?;
                for (part, value) in parts.iter().zip(values) {
                    tuple.serialize_field(&Self(part, value))?;
                }
                tuple.end()
            }
            (Schema::Struct(parts), Value::List(values)) => {
                let written = values.iter().filter(|value| !is_skipped(value)).count();
                let mut fields = to.serialize_struct("Struct", written)?;
                for (name, (part, value)) in NAMES.iter().zip(parts.iter().zip(values)) {
                    if is_skipped(value) {
                        fields.skip_field(name)?;
                    } else {
                        fields.serialize_field(name, &Self(part, value))?;
                    }
                }
                fields.end()
            }
            (Schema::Enum(variants), Value::Variant(place, value)) => {
                let (index, name) = (u32::try_from(*place).expect("few"), NAMES[*place]);
                match (&variants[*place], &**value) {
                    (Variant::Unit, Value::Unit) => to.serialize_unit_variant("Enum", index, name),
                    (Variant::Newtype(inner), value) => {
                        let content = &Self(inner, value);
                        to.serialize_newtype_variant("Enum", index, name, content)
                    }
                    (Variant::Tuple(parts), Value::List(values)) => {
                        let count = parts.len();
                        let mut tuple = to.serialize_tuple_variant("Enum", index, name, count)?;
                        for (part, value) in parts.iter().zip(values) {
                            tuple.serialize_field(&Self(part, value))?;
                        }
                        tuple.end()
                    }
                    (Variant::Struct(parts), Value::List(values)) => {
                        let written = values.iter().filter(|value| !is_skipped(value)).count();
                        let mut fields =
                            to.serialize_struct_variant("Enum", index, name, written)?;
                        for (name, (part, value)) in NAMES.iter().zip(parts.iter().zip(values)) {
                            if is_skipped(value) {
                                fields.skip_field(name)?;
                            } else {
                                fields.serialize_field(name, &Self(part, value))?;
                            }
                        }
                        fields.end()
                    }
                    (variant, value) => panic!("{value:?} is not a value of {variant:?}"),
                }
            }
            (schema, value) => panic!("{value:?} is not a value of {schema:?}"),
        }
    }
}

fn narrow<W, N: TryFrom<W, Error: fmt::Debug>>(wide: W) -> N {
    N::try_from(wide).expect("the value fits into the bits of its schema")
}

fn announced(length: Length, elements: usize) -> Option<usize> {
    match length {
        Length::Known => Some(elements),
        Length::Unknown => None,
    }
}

impl<'de> DeserializeSeed<'de> for &Schema {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self {
            Schema::Bool => bool::deserialize(from).map(Value::Bool),
            Schema::Signed(8) => i8::deserialize(from).map(|n| Value::Signed(n.into())),
            Schema::Signed(16) => i16::deserialize(from).map(|n| Value::Signed(n.into())),
            Schema::Signed(32) => i32::deserialize(from).map(|n| Value::Signed(n.into())),
            Schema::Signed(64) => i64::deserialize(from).map(|n| Value::Signed(n.into())),
            Schema::Signed(_) => i128::deserialize(from).map(Value::Signed),
            Schema::Unsigned(8) => u8::deserialize(from).map(|n| Value::Unsigned(n.into())),
            Schema::Unsigned(16) => u16::deserialize(from).map(|n| Value::Unsigned(n.into())),
            Schema::Unsigned(32) => u32::deserialize(from).map(|n| Value::Unsigned(n.into())),
            Schema::Unsigned(64) => u64::deserialize(from).map(|n| Value::Unsigned(n.into())),
            Schema::Unsigned(_) => u128::deserialize(from).map(Value::Unsigned),
            Schema::Single => f32::deserialize(from).map(|n| Value::Single(n.to_bits())),
            Schema::Double => f64::deserialize(from).map(|n| Value::Double(n.to_bits())),
            Schema::Char => char::deserialize(from).map(Value::Char),
            Schema::Text => String::deserialize(from).map(Value::Text),
            Schema::Bytes => from.deserialize_byte_buf(Reader::Bytes),
            Schema::Unit => <()>::deserialize(from).map(|()| Value::Unit),
            Schema::UnitStruct => from.deserialize_unit_struct("UnitStruct", Reader::Unit),
            Schema::Option(inner) => from.deserialize_option(Reader::Option(inner)),
            Schema::Newtype(inner) => {
                from.deserialize_newtype_struct("Newtype", Reader::Newtype(inner))
            }
            Schema::Seq(each, _) => from.deserialize_seq(Reader::Seq(each)),
            Schema::Map(key, each, _) => from.deserialize_map(Reader::Map(key, each)),
            Schema::Tuple(parts) => from.deserialize_tuple(parts.len(), Reader::Parts(parts)),
            Schema::TupleStruct(parts) => {
                let reader = Reader::Parts(parts);
                from.deserialize_tuple_struct("TupleStruct", parts.len(), reader)
            }
            Schema::Struct(parts) => {
                let names = &NAMES[..parts.len()];
                from.deserialize_struct("Struct", names, Reader::Fields(parts))
            }
            Schema::Enum(variants) => {
                let names = &NAMES[..variants.len()];
                from.deserialize_enum("Enum", names, Reader::Enum(variants))
            }
        }
    }
}

/// Reads a value of a type that has parts.
enum Reader<'a> {
    Bytes,
    Unit,
    Option(&'a Schema),
    Newtype(&'a Schema),
    Seq(&'a Schema),
    Map(&'a Schema, &'a Schema),
    Parts(&'a [Schema]),
    Fields(&'a [Schema]),
    Enum(&'a [Variant]),
}

fn missing<E: de::Error>(place: usize) -> E {
    E::invalid_length(place, &"more parts")
}

/// Reads a name, and returns its index.
fn name<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<usize>, A::Error> {
    let Some(key) = map.next_key::<String>()? else {
        return Ok(None);
    };
    let place = NAMES.iter().position(|name| *name == key);
    place
        .map(Some)
        .ok_or_else(|| de::Error::unknown_field(&key, &NAMES))
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the schema")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        match self {
            Self::Bytes => Ok(Value::Bytes(bytes.to_vec())),
            _ => Err(E::invalid_type(de::Unexpected::Bytes(bytes), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        match self {
            Self::Unit => Ok(Value::Unit),
            Self::Option(_) => Ok(Value::Option(None)),
            _ => Err(E::invalid_type(de::Unexpected::Unit, &self)),
        }
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self {
            Self::Option(inner) => Ok(Value::Option(Some(Box::new(inner.deserialize(from)?)))),
            _ => Err(de::Error::invalid_type(de::Unexpected::Option, &self)),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self {
            Self::Newtype(inner) => Ok(Value::Newtype(Box::new(inner.deserialize(from)?))),
            _ => Err(de::Error::invalid_type(
                de::Unexpected::NewtypeStruct,
                &self,
            )),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        match self {
            // JSON encodes bytes as an array.
            Self::Bytes => {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                return Ok(Value::Bytes(bytes));
            }
            Self::Seq(each) => {
                while let Some(value) = seq.next_element_seed(each)? {
                    values.push(value);
                }
            }
            Self::Parts(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let value = seq.next_element_seed(part)?;
                    values.push(value.ok_or_else(|| missing(place))?);
                }
            }
            Self::Fields(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let value = seq.next_element_seed(part)?;
                    let default = matches!(part, Schema::Option(_)).then(|| Value::Option(None));
                    let value = value.or(default);
                    values.push(value.ok_or_else(|| missing(place))?);
                }
            }
            Self::Newtype(inner) => {
                let value = seq.next_element_seed(inner)?;
                return Ok(Value::Newtype(Box::new(value.ok_or_else(|| missing(0))?)));
            }
            _ => return Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        match self {
            Self::Map(key, each) => {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key_seed(key)? {
                    entries.push((key, map.next_value_seed(each)?));
                }
                Ok(Value::Map(entries))
            }
            Self::Fields(parts) => {
                let mut values = vec![None; parts.len()];
                while let Some(place) = name(&mut map)? {
                    let part = parts.get(place).ok_or_else(|| missing(place))?;
                    if values[place].replace(map.next_value_seed(part)?).is_some() {
                        return Err(de::Error::duplicate_field(NAMES[place]));
                    }
                }
                let values = values.into_iter().zip(parts).enumerate();
                let values = values.map(|(place, (value, part))| match (value, part) {
                    (Some(value), _) => Ok(value),
                    (None, Schema::Option(_)) => Ok(Value::Option(None)),
                    (None, _) => Err(missing(place)),
                });
                values.collect::<Result<_, _>>().map(Value::List)
            }
            _ => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Value, A::Error> {
        let Self::Enum(variants) = self else {
            return Err(de::Error::invalid_type(de::Unexpected::Enum, &self));
        };
        let (name, content): (String, _) = from.variant()?;
        let place = NAMES.iter().position(|known| *known == name);
        let place = place.filter(|place| *place < variants.len());
        let place = place.ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))?;
        let content = match &variants[place] {
            Variant::Unit => content.unit_variant().map(|()| Value::Unit)?,
            Variant::Newtype(inner) => content.newtype_variant_seed(inner)?,
            Variant::Tuple(parts) => content.tuple_variant(parts.len(), Reader::Parts(parts))?,
            Variant::Struct(parts) => {
                content.struct_variant(&NAMES[..parts.len()], Reader::Fields(parts))?
            }
        };
        Ok(Value::Variant(place, Box::new(content)))
    }
}

thread_local! {
    /// The type of the value that `Dynamic` reads.
    static READ: Cell<Option<&'static Schema>> = const { Cell::new(None) };
}

/// A value of the thread's current schema. It is a type of its own because `decode` takes types and
/// no seeds.
struct Dynamic(Value);

impl<'de> Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let schema = READ.get().expect("the thread reads a value of a schema");
        schema.deserialize(from).map(Self)
    }
}

/// Decodes a value of a type.
pub(crate) fn decode_as(schema: &'static Schema, bytes: &[u8]) -> Result<Value, CodecError> {
    READ.set(Some(schema));
    decode::<Dynamic>(bytes).map(|Dynamic(value)| value)
}

/// Returns whether a skipped field precedes one that is not skipped.
fn is_gap(values: &[Value]) -> bool {
    let first = values.iter().position(is_skipped);
    first.is_some_and(|first| !values.iter().skip(first).all(is_skipped))
}

/// Returns whether any struct in a value has such a gap.
fn has_gap(schema: &Schema, value: &Value) -> bool {
    let any = |parts: &[Schema], values: &[Value]| {
        parts
            .iter()
            .zip(values)
            .any(|(part, value)| has_gap(part, value))
    };
    match (schema, value) {
        (Schema::Option(inner), Value::Option(Some(value)))
        | (Schema::Newtype(inner), Value::Newtype(value)) => has_gap(inner, value),
        (Schema::Seq(each, _), Value::List(values)) => {
            values.iter().any(|value| has_gap(each, value))
        }
        (Schema::Map(key, each, _), Value::Map(entries)) => entries
            .iter()
            .any(|(name, value)| has_gap(key, name) || has_gap(each, value)),
        (Schema::Tuple(parts) | Schema::TupleStruct(parts), Value::List(values)) => {
            any(parts, values)
        }
        (Schema::Struct(parts), Value::List(values)) => is_gap(values) || any(parts, values),
        (Schema::Enum(variants), Value::Variant(place, value)) => {
            match (&variants[*place], &**value) {
                (Variant::Newtype(inner), value) => has_gap(inner, value),
                (Variant::Tuple(parts), Value::List(values)) => any(parts, values),
                (Variant::Struct(parts), Value::List(values)) => {
                    is_gap(values) || any(parts, values)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

#[test]
fn values_of_random_types_arrive_equal_in_either_form() {
    let rng = &mut seeded();
    let mut equal_as_json = 0;
    for depth in (0..6).cycle().take(600) {
        let schema: &'static Schema = Box::leak(Box::new(Schema::random(rng, depth)));
        for _ in 0..4 {
            let value = schema.value(rng);
            let bytes = Form::Named.encode(&Typed(schema, &value));
            let bytes = bytes.unwrap_or_else(|error| panic!("{value:?} of {schema:?}: {error}"));
            let read = decode_as(schema, &bytes);
            assert_eq!(read.as_ref(), Ok(&value), "{schema:?}: {bytes:02x?}");

            let compact = Form::Compact.encode(&Typed(schema, &value));
            if has_gap(schema, &value) {
                let error = compact
                    .expect_err("a gap cannot be encoded in the compact form")
                    .to_string();
                assert!(error.contains("is skipped"), "{error}");
            } else {
                let bytes = compact.expect("the value has no gap");
                assert_eq!(decode_as(schema, &bytes).as_ref(), Ok(&value), "{schema:?}");
            }
            equal_as_json += u32::from(is_equal_as_json(schema, &value));
        }
    }
    // The schemas make the calls that other formats expect.
    assert!(equal_as_json > 600, "{equal_as_json} of 2400");
}

/// Returns whether JSON preserves the value: it flattens options, and cannot encode some numbers and
/// keys.
fn is_equal_as_json(schema: &'static Schema, value: &Value) -> bool {
    let Ok(text) = serde_json::to_string(&Typed(schema, value)) else {
        return false;
    };
    let mut from = serde_json::Deserializer::from_str(&text);
    schema
        .deserialize(&mut from)
        .is_ok_and(|read| read == *value)
}

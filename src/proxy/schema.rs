//! The schema of a type: a description of what its `Deserialize` requests from serde.
//!
//! Programs compare schemas to check that they mean the same type. Compiler type names differ between
//! programs with separate copies of a type, while the requests of `Deserialize` decide whether bytes can
//! be decoded. So this module deserializes the type from an empty source and records the requests. Of
//! an enum it records all variant names, and the content of the first. A type that rejects the made-up
//! values is described up to that point.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess,
        SeqAccess, VariantAccess, Visitor, value::StrDeserializer,
    },
};

/// Describes a type, in at most some thousand bytes.
pub(crate) fn of<T: DeserializeOwned>() -> String {
    let mut text = String::new();
    let left = Cell::new(MOST_VALUES);
    let tracer = Tracer {
        text: &mut text,
        left: &left,
        depth: MOST_DEPTH,
    };
    if T::deserialize(tracer).is_err() {
        text.push_str("..");
    }
    shorten(text)
}

/// How many values a type may ask for: one of many fields that are alike may ask for ever more.
const MOST_VALUES: u32 = 1000;

/// How deep they nest: a type that has itself inside goes on for ever.
const MOST_DEPTH: u32 = 8;

/// A longer description ends with a number that stands for its rest.
const MOST_BYTES: usize = 1000;

/// Cuts what is too long, and keeps what tells it from others.
fn shorten(mut text: String) -> String {
    if text.len() > MOST_BYTES {
        // FNV-1a: the same in all programs, unlike the hash of the standard library.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut ends = (0..=MOST_BYTES).rev();
        let end = ends.find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push_str(&format!(".. #{hash:016x}"));
    }
    text
}

/// Says that enough is known, or that the type does not want what is made up.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Writes down what one value asks for, and makes it up.
struct Tracer<'a> {
    text: &'a mut String,
    left: &'a Cell<u32>,
    depth: u32,
}

impl Tracer<'_> {
    /// Writes the word of a value without parts, and makes one up.
    fn leaf<T>(self, word: &str, make_up: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
        self.text.push_str(word);
        let left = self.left.get().checked_sub(1).ok_or(Stop)?;
        self.left.set(left);
        make_up()
    }

    /// Has a visitor read so many parts, and writes what each of them asks for.
    fn parts<T>(
        self,
        most: usize,
        read: impl FnOnce(Parts<'_>) -> Result<T, Stop>,
        write: impl FnOnce(&mut String, &[String]),
    ) -> Result<T, Stop> {
        let depth = self.depth.checked_sub(1).ok_or(Stop)?;
        let mut texts = Vec::new();
        let outcome = read(Parts {
            texts: &mut texts,
            most,
            left: self.left,
            depth,
        });
        write(self.text, &texts);
        outcome
    }

    /// How many parts to make up of something that may have none.
    const fn some(&self) -> usize {
        if self.depth > 1 { 1 } else { 0 }
    }
}

/// Makes up the parts of a value.
struct Parts<'a> {
    texts: &'a mut Vec<String>,
    most: usize,
    left: &'a Cell<u32>,
    depth: u32,
}

impl Parts<'_> {
    /// Has one part read.
    fn trace<T>(&mut self, read: impl FnOnce(Tracer<'_>) -> Result<T, Stop>) -> Result<T, Stop> {
        let mut text = String::new();
        let part = read(Tracer {
            text: &mut text,
            left: self.left,
            depth: self.depth,
        });
        self.texts.push(text);
        part
    }

    fn part<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.trace(|tracer| seed.deserialize(tracer))
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        if self.texts.len() >= self.most {
            return Ok(None);
        }
        self.part(seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.part(seed)
    }
}

/// Makes up the first variant of an enum.
struct First<'a> {
    variant: &'static str,
    tracer: Tracer<'a>,
}

impl<'de, 'a> EnumAccess<'de> for First<'a> {
    type Error = Stop;
    type Variant = Tracer<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Tracer<'a>), Stop> {
        let name: StrDeserializer<'_, Stop> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self.tracer))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        self.parts(1, |mut parts| parts.part(seed), list)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.parts(len, |parts| visitor.visit_seq(parts), list)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let write = |text: &mut String, parts: &[String]| record(text, fields, parts);
        self.parts(fields.len(), |parts| visitor.visit_seq(parts), write)
    }
}

/// Parts in parentheses.
fn list(text: &mut String, parts: &[String]) {
    text.push_str(&format!("({})", parts.join(", ")));
}

/// Parts with the names of their fields.
fn record(text: &mut String, fields: &[&str], parts: &[String]) {
    let field = |(place, name)| {
        let part: Option<&String> = parts.get(place);
        format!("{name}: {}", part.map_or("..", String::as_str))
    };
    let fields: Vec<String> = fields.iter().enumerate().map(field).collect();
    text.push_str(&format!(" {{ {} }}", fields.join(", ")));
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    fn is_human_readable(&self) -> bool {
        false
    }

    // Numbers are one, since some types have no zero.

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("any", || visitor.visit_unit())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("any", || visitor.visit_unit())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("bool", || visitor.visit_bool(true))
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("i8", || visitor.visit_i8(1))
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("i16", || visitor.visit_i16(1))
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("i32", || visitor.visit_i32(1))
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("i64", || visitor.visit_i64(1))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("i128", || visitor.visit_i128(1))
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("u8", || visitor.visit_u8(1))
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("u16", || visitor.visit_u16(1))
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("u32", || visitor.visit_u32(1))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("u64", || visitor.visit_u64(1))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("u128", || visitor.visit_u128(1))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("f32", || visitor.visit_f32(1.0))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("f64", || visitor.visit_f64(1.0))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("char", || visitor.visit_char('a'))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("text", || visitor.visit_str("a"))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("text", || visitor.visit_str("a"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("text", || visitor.visit_str("a"))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("bytes", || visitor.visit_bytes(&[1]))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("bytes", || visitor.visit_bytes(&[1]))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("()", || visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.leaf(name, || visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.text.push_str(name);
        self.parts(1, |parts| visitor.visit_seq(parts), list)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let write = |text: &mut String, parts: &[String]| {
            text.push_str(&format!("Option<{}>", parts.concat()));
        };
        let some = self.some();
        let read = |mut parts: Parts<'_>| match some {
            0 => visitor.visit_none(),
            _ => parts.trace(|tracer| visitor.visit_some(tracer)),
        };
        self.parts(some, read, write)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let write = |text: &mut String, parts: &[String]| {
            text.push_str(&format!("[{}]", parts.concat()));
        };
        let most = self.some();
        self.parts(most, |parts| visitor.visit_seq(parts), write)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.parts(len, |parts| visitor.visit_seq(parts), list)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.text.push_str(name);
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let write = |text: &mut String, parts: &[String]| {
            text.push_str(&format!("{{{}}}", parts.join(": ")));
        };
        let most = self.some();
        self.parts(most, |parts| visitor.visit_map(parts), write)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.text.push_str(name);
        self.struct_variant(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let names = variants.join(" | ");
        self.text.push_str(&format!("{name}::<{names}>"));
        let variant = variants.first().ok_or(Stop)?;
        visitor.visit_enum(First {
            variant,
            tracer: self,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        num::NonZeroU8,
        path::PathBuf,
        time::Duration,
    };

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Job {
        id: u64,
        name: Option<String>,
        rows: Vec<(f64, char)>,
        kind: Kind,
        last: NonZeroU8,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Kind {
        Long { times: BTreeMap<String, Id> },
        Short,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Id(u32);

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Tree {
        left: Option<Box<Self>>,
        middle: Option<Box<Self>>,
        right: Option<Box<Self>>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Sum {
        Of(Box<Self>, Box<Self>),
        Number(u8),
    }

    #[test]
    fn shape_tells_what_is_inside() {
        assert_eq!(of::<u64>(), "u64");
        assert_eq!(of::<(bool, ())>(), "(bool, ())");
        let job = "Job { id: u64, name: Option<text>, rows: [(f64, char)], \
                   kind: Kind::<Long | Short> { times: {text: Id(u32)} }, last: u8 }";
        assert_eq!(of::<Job>(), job);
        assert_eq!(of::<Duration>(), "Duration { secs: u64, nanos: u32 }");
    }

    #[test]
    fn what_is_written_alike_has_one_shape() {
        assert_eq!(of::<String>(), of::<Box<str>>());
        assert_eq!(of::<PathBuf>(), of::<String>());
        assert_eq!(of::<BTreeMap<u8, bool>>(), of::<HashMap<u8, bool>>());
        assert_eq!(of::<Vec<u8>>(), of::<Box<[u8]>>());
        assert_ne!(of::<u32>(), of::<u64>());
        assert_ne!(of::<Id>(), of::<u32>());
        assert_ne!(of::<[u8; 2]>(), of::<[u8; 3]>());
    }

    #[test]
    fn type_that_has_itself_inside_comes_to_an_end() {
        let tree = of::<Tree>();
        assert!(
            tree.starts_with("Tree { left: Option<Tree { left: "),
            "{tree}"
        );
        assert!(tree.len() < 1100 && tree.contains(".. #"), "{tree}");
        let sum = of::<Sum>();
        assert!(
            sum.starts_with("Sum::<Of | Number>(Sum::<Of | Number>("),
            "{sum}"
        );
        assert!(sum.len() < 1100, "{sum}");
    }

    #[test]
    fn type_that_refuses_what_is_made_up_is_described_as_far_as_that() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        struct Guarded {
            port: u16,
            only: Only,
            more: u16,
        }

        #[derive(Deserialize)]
        #[serde(try_from = "u8")]
        struct Only;

        impl TryFrom<u8> for Only {
            type Error = String;

            fn try_from(_: u8) -> Result<Self, String> {
                Err("none will do".to_owned())
            }
        }

        assert_eq!(
            of::<Guarded>(),
            "Guarded { port: u16, only: u8, more: .. }.."
        );
    }
}

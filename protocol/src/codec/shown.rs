//! The text of an encoded value, for errors that show it.
//!
//! Invariant: the text has at most [`MOST_BYTES`] bytes and an ellipsis, however large the value is.

use std::fmt;

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use crate::codec::{deserializer, form::Form, guarded::guarded};

/// The most bytes of a text.
const MOST_BYTES: usize = 200;

/// Returns the text of a value, in which each field of a struct has its name. It is cut after about 200 bytes.
#[must_use]
pub fn text_of<T: Serialize + ?Sized>(value: &T) -> String {
    match guarded(|| Form::Named.encode(value)) {
        Ok(bytes) => text_of_bytes(&bytes),
        Err(_) => "what cannot be shown".to_owned(),
    }
}

/// Returns the text of an encoded value, as [`text_of`] does.
#[must_use]
pub fn text_of_bytes(bytes: &[u8]) -> String {
    let mut text = Text(String::new());
    let shown = deserializer::Deserializer::new(bytes).deserialize_any(&mut text);
    let Text(text) = text;
    match shown {
        Ok(()) => text,
        Err(_) if text.len() > MOST_BYTES => cut(text, MOST_BYTES),
        Err(_) => "what cannot be shown".to_owned(),
    }
}

/// Cuts a text that has more than `most` bytes, and marks it as cut.
#[must_use]
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(end_of(&text, most));
        text.push_str("..");
    }
    text
}

/// The end of the last character within the first `most` bytes.
fn end_of(text: &str, most: usize) -> usize {
    let mut ends = (0..=most.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    end.unwrap_or_default()
}

/// The text as far as it is written.
struct Text(String);

impl Text {
    /// Appends a part, unless the text is long enough already.
    fn push<E: Error>(&mut self, part: impl fmt::Display) -> Result<(), E> {
        use fmt::Write;
        // A string takes whatever is written.
        let _ = write!(self.0, "{part}");
        if self.0.len() > MOST_BYTES {
            return Err(E::custom("the text is long enough"));
        }
        Ok(())
    }

    /// Removes the quotes of a name, which are those of the last part.
    fn unquote(&mut self, start: usize) {
        let part = self.0.get(start..).unwrap_or_default();
        let name = part
            .strip_prefix('"')
            .and_then(|part| part.strip_suffix('"'));
        if let Some(name) = name.map(str::to_owned) {
            self.0.truncate(start);
            self.0.push_str(&name);
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Text {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Text {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.push(value)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        self.push(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(format_args!("{value:?}"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        // A long string is cut before it is escaped.
        let start = value.get(..end_of(value, MOST_BYTES)).unwrap_or_default();
        self.push(format_args!("{start:?}"))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        self.push(format_args!("{} bytes", value.len()))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.push("nothing")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.push("none")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.push("[")?;
        let mut before = "";
        // The separator is written before it is known whether there is a part, and is removed if not.
        loop {
            let length = self.0.len();
            self.push(before)?;
            if seq.next_element_seed(&mut *self)?.is_none() {
                self.0.truncate(length);
                return self.push("]");
            }
            before = ", ";
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.push("{")?;
        let mut before = "";
        loop {
            let length = self.0.len();
            self.push(before)?;
            let start = self.0.len();
            if map.next_key_seed(&mut *self)?.is_none() {
                self.0.truncate(length);
                return self.push("}");
            }
            self.unquote(start);
            self.push(": ")?;
            map.next_value_seed(&mut *self)?;
            before = ", ";
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codec::blob::Blob;

    #[derive(Serialize, Deserialize)]
    enum Mode {
        Held,
        Up(u8),
    }

    #[derive(Serialize)]
    struct Spec {
        permits: Option<u32>,
        mode: Vec<Mode>,
        name: String,
        first: Blob,
        odd: (f64, i8, (), bool),
        keys: BTreeMap<u8, char>,
    }

    #[test]
    fn text_has_the_names_of_fields_and_all_values() {
        let spec = Spec {
            permits: Some(3),
            mode: vec![Mode::Held, Mode::Up(7)],
            name: "a\nb".to_owned(),
            first: vec![1, 2].into(),
            odd: (0.5, -1, (), true),
            keys: [(1, 'x')].into(),
        };
        assert_eq!(
            text_of(&spec),
            "{permits: 3, mode: [\"Held\", {Up: 7}], name: \"a\\nb\", first: 2 bytes, \
             odd: [0.5, -1, nothing, true], keys: {1: \"x\"}}"
        );
        assert_eq!(text_of(&Vec::<u8>::new()), "[]");
    }

    #[test]
    fn text_of_a_large_value_is_cut() {
        for long in [
            text_of(&"\u{1f480}".repeat(1 << 20)),
            text_of(&vec![1_u64; 1 << 20]),
            text_of(&BTreeMap::from([("x".repeat(1 << 20), 1)])),
        ] {
            assert!(
                long.len() <= MOST_BYTES + 2 && long.ends_with(".."),
                "{long}"
            );
        }
        assert_eq!(text_of_bytes(&[0x92, 1]), "what cannot be shown");
    }
}

//! `Key`: the key of a keyed lock. Short keys, which are the most frequent, are stored in place.
//!
//! Invariant: a text that fits in place is stored there and padded with zeros, so equal keys have equal
//! bytes.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{fault::Refusal, printable::Printable};

/// The key of a keyed lock or semaphore: any text of at most 255 bytes, including the empty one.
///
/// A key of at most 22 bytes takes no memory beyond its own 24 bytes.
///
/// ```
/// use lockkeeper::inspect::Key;
///
/// let key = Key::from("/stock/4711");
/// assert_eq!(key.as_str(), "/stock/4711");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Text);

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

/// The most bytes that are stored in place.
const SHORT: usize = 22;

/// The most bytes of a key.
const MOST_BYTES: usize = 255;

impl Key {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Short { .. } => str::from_utf8(self.bytes()).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// Returns an error if the text is too long for a key.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.bytes().len() {
            0..=MOST_BYTES => Ok(()),
            length => Err(Refusal::Invalid(format!(
                "a key has at most {MOST_BYTES} bytes, not {length}"
            ))),
        }
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Text::Short { length, bytes })
            }
            (Some(_) | None, Ok(_) | Err(_)) => Self(Text::Long(text.into())),
        }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // This equals the hash of `str`, as which a key can be borrowed.
        state.write(self.bytes());
        state.write_u8(0xff);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Key {
    /// Writes the key with escapes. [`Self::as_str`] returns the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.as_str()).fmt(f)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl de::Visitor<'_> for Reader {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn keys_of_every_length_are_the_text_that_they_were_made_of() {
        let hasher = RandomState::new();
        for length in 0..=300 {
            let text = "ä".repeat(length / 2) + &"x".repeat(length % 2);
            let key = Key::from(text.as_str());
            assert_eq!(key.as_str(), text);
            assert_eq!(hasher.hash_one(&key), hasher.hash_one(&*text));
            assert_eq!(key.check().is_ok(), length <= 255, "{length}");
            assert_ne!(key, Key::from((text + "\0").as_str()));
        }
        assert_eq!(size_of::<Key>(), 24);
    }

    #[test]
    fn key_is_shown_escaped_and_is_its_own_text_as_a_string() {
        let key = Key::from("a\n\u{1b}");
        assert_eq!(key.to_string(), "a\\n\\u{1b}");
        assert_eq!(String::from(key), "a\n\u{1b}");
    }

    #[test]
    fn keys_are_in_the_order_of_their_texts() {
        let texts = ["", "a", "ab", "b", &"b".repeat(30), "c", "ß"];
        assert!(texts.map(Key::from).is_sorted());
    }
}

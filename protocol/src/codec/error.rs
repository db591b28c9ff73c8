//! `CodecError`: why a value could not be encoded or decoded.

use std::fmt::{self, Write};

use serde::{
    de::{self, Expected, Unexpected},
    ser,
};

use crate::printable::PrintableText;

/// The error of encoding or decoding a value.
#[derive(Clone, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    /// Makes an error from its message, in lower case and without a full stop.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Makes an error from a message that may quote the value or the input. A long message is cut.
    #[cold]
    fn quote(error: &dyn fmt::Display) -> Self {
        let mut short = Short {
            text: String::new(),
            left: MAX_QUOTED,
        };
        if write!(short, "{error}").is_err() {
            short.text.push_str("..");
        }
        Self(short.text)
    }
}

/// The most characters of a message that an error keeps.
const MAX_QUOTED: usize = 300;

/// A text with a limit of characters.
struct Short {
    text: String,
    left: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some((end, _)) = text.char_indices().nth(self.left) {
            self.text.push_str(text.get(..end).unwrap_or_default());
            self.left = 0;
            return Err(fmt::Error);
        }
        self.left -= text.chars().count();
        self.text.push_str(text);
        Ok(())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PrintableText(&self.0).fmt(f)
    }
}

/// The same text as `Display`, because `main` prints the `Debug` form of an error that it returns.
impl fmt::Debug for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for CodecError {}

/// The error type inside serde. It has the size of a pointer, so that a result is returned in a
/// register.
#[derive(Debug)]
pub(crate) struct Failure(Box<CodecError>);

impl Failure {
    #[cold]
    pub(crate) fn new(text: &dyn fmt::Display) -> Self {
        Self(Box::new(CodecError::quote(text)))
    }
}

impl From<Failure> for CodecError {
    fn from(Failure(error): Failure) -> Self {
        *error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(&text)
    }
}

impl de::Error for Failure {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(&text)
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (Found(found), Plain(expected));
        Self::new(&format_args!("invalid type: {found}, expected {expected}"))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (Found(found), Plain(expected));
        Self::new(&format_args!("invalid value: {found}, expected {expected}"))
    }
}

/// What serde expects, where a number type of Rust is its range in words.
struct Plain<'a>(&'a dyn Expected);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let (is_nonzero, name) = match text.strip_prefix("a nonzero ") {
            Some(name) => (true, name),
            None => (false, &*text),
        };
        match range_of(name) {
            Some((least, most)) if is_nonzero && least == "0" => {
                write!(f, "a whole number from 1 to {most}")
            }
            Some((least, most)) => {
                write!(f, "a whole number from {least} to {most}")?;
                f.write_str(if is_nonzero { ", not 0" } else { "" })
            }
            None => f.write_str(&text),
        }
    }
}

/// What serde has found, without the type of a number of more than 64 bits.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Other("u128" | "i128") => f.write_str("integer of more than 64 bits"),
            Unexpected::Other(found) => {
                let number = found
                    .strip_suffix(" as u128")
                    .or_else(|| found.strip_suffix(" as i128"));
                f.write_str(number.unwrap_or(found))
            }
            found => found.fmt(f),
        }
    }
}

/// The least and the largest number of a type.
fn range_of(name: &str) -> Option<(String, String)> {
    macro_rules! ranges {
        ($($number:ident)*) => {
            match name {
                $(stringify!($number) => Some(($number::MIN.to_string(), $number::MAX.to_string())),)*
                _ => None,
            }
        };
    }
    ranges!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroI8, NonZeroU16};

    use serde::de::DeserializeOwned;

    use crate::codec::{decode, encode};

    use super::*;

    fn error_of<T: DeserializeOwned + fmt::Debug>(value: &impl serde::Serialize) -> String {
        let bytes = encode(value).expect("it encodes");
        decode::<T>(&bytes).expect_err("another type").to_string()
    }

    #[test]
    fn range_of_a_number_is_told_in_words() {
        let cases = [
            (
                error_of::<u8>(&300),
                "`300`, expected a whole number from 0 to 255",
            ),
            (
                error_of::<i16>(&-40_000),
                "`-40000`, expected a whole number from -32768 to 32767",
            ),
            (
                error_of::<u32>(&"x"),
                "\"x\", expected a whole number from 0 to 4294967295",
            ),
            (
                error_of::<NonZeroU16>(&0),
                "`0`, expected a whole number from 1 to 65535",
            ),
            (
                error_of::<NonZeroI8>(&0),
                "expected a whole number from -128 to 127, not 0",
            ),
            (
                error_of::<u64>(&u128::MAX),
                "211455`, expected a whole number from 0 to 18446744073709551615",
            ),
            (
                error_of::<i128>(&u128::MAX),
                "expected a whole number from -170141183460469231731687303715884105728 to",
            ),
            (error_of::<bool>(&7), "`7`, expected a boolean"),
        ];
        for (message, words) in cases {
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn text_that_quotes_the_input_is_cut() {
        for part in ["x", "é", "\u{1f480}"] {
            let whole = part.repeat(MAX_QUOTED);
            assert_eq!(CodecError::quote(&whole).0, whole);
            let long = part.repeat(1 << 16);
            assert_eq!(CodecError::quote(&long).0, format!("{whole}.."));
            let parts = format_args!("{part}{long}").to_string();
            assert_eq!(CodecError::quote(&parts).0, format!("{whole}.."));
        }
    }
}

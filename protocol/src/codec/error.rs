//! `CodecError`: why a value could not be encoded or decoded.

use std::fmt::{self, Write};

use serde::{de, ser};

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
}

#[cfg(test)]
mod tests {
    use super::*;

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

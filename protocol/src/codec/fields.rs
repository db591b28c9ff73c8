//! `Fields`: reads a message element by element.
//!
//! Frames use it instead of serde, which took a sixth of a manager's time.
//!
//! Invariant: malformed input is an error, and reading allocates nothing.

use std::fmt;

use serde::Deserialize;

use crate::codec::{
    error::CodecError,
    input::{Head, Input},
    markers::{BIN8, FIX_ARRAY, FIX_STR, MOST_FIX, NIL, STR32, U8, U16, U32, U64},
    value::decode,
};

/// The unread elements of a message that is an array.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    left: u32,
    /// How many elements the message has.
    of: u32,
}

/// The bytes of an element beside its text.
const MARGIN: usize = 64;

impl<'a> Fields<'a> {
    /// The most bytes of a short text, such as a name.
    pub const MOST_SHORT: usize = 1 << 16;

    /// Begins to read a message.
    ///
    /// # Errors
    ///
    /// Returns an error when the message is not an array.
    #[inline]
    pub fn of(message: &'a [u8]) -> Result<Self, CodecError> {
        if let [marker @ FIX_ARRAY..FIX_STR, rest @ ..] = message {
            let left = (marker & 0x0f).into();
            return Ok(Self {
                rest,
                left,
                of: left,
            });
        }
        let mut input = Input::new(message);
        let Ok(Head::Array(left)) = input.head() else {
            return Err(no_array());
        };
        Ok(Self {
            rest: input.rest(),
            left,
            of: left,
        })
    }

    /// Reads a number of any encoded width.
    ///
    /// # Errors
    ///
    /// Returns an error when the next element is not a number or does not fit into the type.
    #[inline]
    pub fn number<N: TryFrom<u64>>(&mut self) -> Result<N, CodecError> {
        self.step()?;
        let number = match *self.rest {
            // Most numbers are small, and are their own markers.
            [small @ ..=MOST_FIX, ref rest @ ..] => {
                self.rest = rest;
                small.into()
            }
            _ => match self.wide() {
                Some(number) => number,
                None => return Err(self.expected("a number that is not negative")),
            },
        };
        N::try_from(number).map_err(|_| self.out_of_range(number))
    }

    /// Reads a number with a separate marker. It is a separate function, so that only small numbers are read
    /// inline.
    fn wide(&mut self) -> Option<u64> {
        let (number, rest) = match *self.rest {
            [U8, small, ref rest @ ..] => (small.into(), rest),
            [U16, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
            [U32, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]).into(), rest),
            [U64, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            _ => match self.head()? {
                Head::Unsigned(number) => return Some(number),
                _ => return None,
            },
        };
        self.rest = rest;
        Some(number)
    }

    /// Reads a boolean.
    ///
    /// # Errors
    ///
    /// Returns an error when the next element has another type.
    #[inline]
    pub fn truth(&mut self) -> Result<bool, CodecError> {
        self.step()?;
        match self.head() {
            Some(Head::Bool(truth)) => Ok(truth),
            _ => Err(self.expected("true or false")),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// Returns an error when the next element has another type.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, CodecError> {
        self.step()?;
        match self.head() {
            Some(Head::Text(text)) => Ok(text),
            _ => Err(self.expected("a text in UTF-8")),
        }
    }

    /// Reads a text of at most [`Self::MOST_SHORT`] bytes. The length is checked first, because the check of a text of
    /// megabytes would delay other messages.
    ///
    /// # Errors
    ///
    /// Returns an error when the next element has another type or is longer.
    pub fn short_text(&mut self) -> Result<&'a str, CodecError> {
        if let [STR32, a, b, c, d, ..] = *self.rest {
            let length = u32::from_be_bytes([a, b, c, d]);
            if usize::try_from(length).map_or(true, |length| length > Self::MOST_SHORT) {
                self.step()?;
                return Err(self.too_large(&length));
            }
        }
        self.text()
    }

    /// Reads a byte string.
    ///
    /// # Errors
    ///
    /// Returns an error when the next element has another type.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        self.step()?;
        if let [BIN8, length, rest @ ..] = self.rest {
            self.rest = rest;
            return self.take((*length).into());
        }
        match self.head() {
            Some(Head::Bytes(bytes)) => Ok(bytes),
            _ => Err(self.expected("a byte string")),
        }
    }

    /// Reads nil, or an element with `read`.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no element, and the error of `read`.
    #[inline]
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.left > 0
            && let Some((&NIL, rest)) = self.rest.split_first()
        {
            self.rest = rest;
            self.left -= 1;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// Reads an array of texts, and calls `each` with each of them.
    ///
    /// # Errors
    ///
    /// Returns an error when the element is not an array, or has an entry of another type.
    pub fn texts(&mut self, mut each: impl FnMut(&'a str)) -> Result<(), CodecError> {
        self.step()?;
        let Some(Head::Array(count)) = self.head() else {
            return Err(self.expected("an array of texts"));
        };
        for _ in 0..count {
            match self.head() {
                Some(Head::Text(text)) => each(text),
                _ => return Err(self.expected("an array of texts")),
            }
        }
        Ok(())
    }

    /// Decodes an array of texts.
    ///
    /// # Errors
    ///
    /// Returns an error when the element is another one.
    pub fn list_of_texts(&mut self) -> Result<Vec<String>, CodecError> {
        let mut texts = Vec::new();
        self.texts(|text| texts.push(text.to_owned()))?;
        Ok(texts)
    }

    /// Returns whether there are further elements.
    pub const fn has_more(&self) -> bool {
        self.left > 0
    }

    /// Reads the last element, of any type.
    ///
    /// # Errors
    ///
    /// Returns an error when the element is not the last or does not decode.
    pub fn last<T: Deserialize<'a>>(mut self) -> Result<T, CodecError> {
        self.step()?;
        if self.left > 0 {
            return Err(too_long());
        }
        decode(self.rest).map_err(|error| self.at(&error))
    }

    /// Reads the last element, of any type, with little more than [`Self::MOST_SHORT`] bytes at most.
    ///
    /// # Errors
    ///
    /// Returns an error when the element is longer, and the errors of [`Self::last`].
    pub fn short_last<T: Deserialize<'a>>(mut self) -> Result<T, CodecError> {
        let length = self.rest.len();
        if length > Self::MOST_SHORT + MARGIN {
            self.step()?;
            return Err(self.too_large(&length));
        }
        self.last()
    }

    /// Checks that no element is left.
    ///
    /// # Errors
    ///
    /// Returns an error when an element or a byte is left.
    #[inline]
    pub fn end(self) -> Result<(), CodecError> {
        if self.left > 0 || !self.rest.is_empty() {
            return Err(too_long());
        }
        Ok(())
    }

    /// Skips elements that a later release may have added, and checks that no bytes follow them.
    ///
    /// # Errors
    ///
    /// Returns an error when bytes follow the last element.
    pub fn end_of_known(self) -> Result<(), CodecError> {
        if self.has_more() { Ok(()) } else { self.end() }
    }

    #[inline]
    fn step(&mut self) -> Result<(), CodecError> {
        self.left = self.left.checked_sub(1).ok_or_else(too_short)?;
        Ok(())
    }

    /// Reads an element of any type, or returns `None` if it is malformed.
    fn head(&mut self) -> Option<Head<'a>> {
        let mut input = Input::new(self.rest);
        let head = input.head().ok()?;
        self.rest = input.rest();
        Some(head)
    }

    #[inline]
    fn take(&mut self, length: u32) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(broken_off)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl Fields<'_> {
    /// Adds the number of the element, counted from 1, to an error.
    #[cold]
    fn at(&self, error: &dyn fmt::Display) -> CodecError {
        let element = self.of.saturating_sub(self.left);
        CodecError::new(format!("element {element}: {error}"))
    }

    #[cold]
    fn expected(&self, what: &str) -> CodecError {
        self.at(&format_args!("expected {what}"))
    }

    #[cold]
    fn too_large(&self, length: &dyn fmt::Display) -> CodecError {
        let most = Self::MOST_SHORT;
        self.at(&format_args!("expected at most {most} bytes, not {length}"))
    }

    #[cold]
    fn out_of_range(&self, number: u64) -> CodecError {
        self.at(&format_args!("{number} is out of range"))
    }
}

#[cold]
fn no_array() -> CodecError {
    CodecError::new("expected an array".to_owned())
}

#[cold]
fn too_short() -> CodecError {
    CodecError::new("the message ends too early".to_owned())
}

#[cold]
fn broken_off() -> CodecError {
    CodecError::new("the message breaks off".to_owned())
}

#[cold]
fn too_long() -> CodecError {
    CodecError::new("the message has bytes after its end".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::codec::{blob::BlobRef, value::encode};

    use super::*;

    #[test]
    fn elements_are_read_in_order() {
        let bytes = (
            7u8,
            "seven",
            serde_bytes(&[7]),
            None::<u8>,
            Some(300u16),
            [1u8, 2],
        );
        let message = encode(&bytes).unwrap();
        let mut fields = Fields::of(&message).unwrap();
        assert_eq!(fields.number::<u8>(), Ok(7));
        assert_eq!(fields.text(), Ok("seven"));
        assert_eq!(fields.bytes(), Ok(&[7][..]));
        assert_eq!(fields.optional(Fields::number::<u8>), Ok(None));
        let mut narrow = fields;
        assert!(narrow.number::<u8>().is_err());
        assert_eq!(fields.optional(Fields::number::<u16>), Ok(Some(300)));
        assert!(fields.end().is_err());
        assert_eq!(fields.last::<[u8; 2]>(), Ok([1, 2]));
    }

    fn serde_bytes(bytes: &[u8]) -> BlobRef<'_> {
        BlobRef(bytes)
    }

    #[test]
    fn every_width_of_a_number_is_read() {
        for number in [0, 0x7f, 0xff, 0xffff, 0xffff_ffff, u64::MAX] {
            let message = encode(&[number]).unwrap();
            let mut fields = Fields::of(&message).unwrap();
            assert_eq!(fields.number(), Ok(number));
            assert_eq!(fields.end(), Ok(()));
        }
        // Some languages write numbers in a signed form.
        let mut fields = Fields::of(&[0x91, 0xd1, 0x01, 0x00]).unwrap();
        assert_eq!(fields.number(), Ok(256u64));
        let mut negative = Fields::of(&[0x92, 7, 0xff]).unwrap();
        assert_eq!(negative.number::<u64>(), Ok(7));
        let error = negative.number::<u64>().unwrap_err();
        let words = "element 2: expected a number that is not negative";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn truncated_message_and_trailing_bytes_are_errors() {
        let message = encode(&(1u8, "text", BlobRef(&[1, 2]))).unwrap();
        for length in 0..message.len() {
            let cut = message.get(..length).unwrap();
            let read = Fields::of(cut).and_then(|mut fields| {
                let _: u8 = fields.number()?;
                fields.text()?;
                fields.bytes()?;
                fields.end()
            });
            assert!(read.is_err(), "{length} bytes");
        }
        assert!(Fields::of(&[0x90, 0x01]).unwrap().end().is_err());
        assert!(Fields::of(&[0x90]).unwrap().number::<u8>().is_err());
        assert!(
            Fields::of(&[0x90, 0xc0])
                .unwrap()
                .optional(Fields::text)
                .is_err()
        );
        assert!(Fields::of(&[0x92, 1, 2]).unwrap().last::<u8>().is_err());
        assert!(Fields::of(&[0x91, 0xa1, 0xff]).unwrap().text().is_err());
    }
}

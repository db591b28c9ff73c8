//! `Elements`: writes a message element by element, the counterpart of [`Fields`](super::Fields).
//!
//! Invariant: the array header of a message is the number of elements that were written.

use serde::Serialize;

use crate::codec::{blob::BlobRef, error::CodecError, markers, value::encode_into};

/// A message that is an array and is being written into a buffer.
#[derive(Debug)]
#[must_use = "a message is incomplete until `end`"]
pub struct Elements<'a> {
    buffer: &'a mut Vec<u8>,
    /// The place where the message begins.
    start: usize,
    written: u8,
    error: Option<CodecError>,
}

/// The most elements of a message: their number must fit into its first byte.
const MOST: u8 = 15;

impl<'a> Elements<'a> {
    /// Begins a message at the end of a buffer.
    #[inline]
    pub fn begin(buffer: &'a mut Vec<u8>) -> Self {
        let start = buffer.len();
        buffer.push(markers::FIX_ARRAY);
        Self {
            buffer,
            start,
            written: 0,
            error: None,
        }
    }

    /// Writes a number in its shortest form.
    #[inline]
    pub fn number(mut self, number: impl Into<u64>) -> Self {
        self.written = self.written.saturating_add(1);
        put_number(self.buffer, number.into());
        self
    }

    /// Writes a byte string.
    #[inline]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.written = self.written.saturating_add(1);
            put_short(self.buffer, length, bytes);
            return self;
        }
        self.value(&BlobRef(bytes))
    }

    /// Writes a byte string. `write` appends it to the buffer and returns its length, which may
    /// include bytes that the caller inserts later.
    ///
    /// # Errors
    ///
    /// Returns the error of `write`. The buffer then has a part of the message.
    pub fn bytes_by<E>(
        mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<u32, E>,
    ) -> Result<Self, E> {
        self.written = self.written.saturating_add(1);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[markers::BIN32, 0, 0, 0, 0]);
        let length = write(self.buffer)?;
        if let Some(place) = self.buffer.get_mut(start + 1..start + 5) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(self)
    }

    /// Writes a number or nil.
    #[inline]
    pub fn optional(mut self, number: Option<impl Into<u64>>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => {
                self.written = self.written.saturating_add(1);
                self.buffer.push(markers::NIL);
                self
            }
        }
    }

    /// Writes a value of any other type.
    pub fn value<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.written = self.written.saturating_add(1);
        if let Err(error) = encode_into(self.buffer, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// Returns an error when an element does not encode, or there are more than 15. The buffer then
    /// has a part of the message: truncate it to its former length.
    #[inline]
    pub fn end(self) -> Result<(), CodecError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.buffer.get_mut(self.start) {
            Some(first) if self.written <= MOST => {
                *first |= self.written;
                Ok(())
            }
            Some(_) | None => Err(too_many()),
        }
    }
}

// These are functions of the buffer, because a call of a method would move all of the message's state twice.

fn put_number(buffer: &mut Vec<u8>, number: u64) {
    match (u8::try_from(number), u32::try_from(number)) {
        (Ok(small @ ..=markers::MOST_FIX), _) => buffer.push(small),
        (Ok(small), _) => buffer.extend_from_slice(&[markers::U8, small]),
        (_, Ok(number)) => {
            let [a, b, c, d] = number.to_be_bytes();
            if (a, b) == (0, 0) {
                buffer.extend_from_slice(&[markers::U16, c, d]);
            } else {
                buffer.extend_from_slice(&[markers::U32, a, b, c, d]);
            }
        }
        (_, Err(_)) => {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            buffer.extend_from_slice(&[markers::U64, a, b, c, d, e, f, g, h]);
        }
    }
}

fn put_short(buffer: &mut Vec<u8>, length: u8, bytes: &[u8]) {
    buffer.extend_from_slice(&[markers::BIN8, length]);
    buffer.extend_from_slice(bytes);
}

#[cold]
fn too_many() -> CodecError {
    CodecError::new(format!("a message has at most {MOST} elements"))
}

#[cfg(test)]
mod tests {
    use crate::codec::value::encode;

    use super::*;

    fn written(write: impl FnOnce(Elements<'_>) -> Elements<'_>) -> Vec<u8> {
        let mut buffer = Vec::new();
        write(Elements::begin(&mut buffer))
            .end()
            .expect("it encodes");
        buffer
    }

    #[test]
    fn numbers_are_written_as_serde_writes_them() {
        let edges = [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff];
        for number in edges.into_iter().chain([0x1_0000_0000, u64::MAX]) {
            let message = encode(&[number]).unwrap();
            assert_eq!(written(|all| all.number(number)), message, "{number}");
            let message = encode(&(Some(number), None::<u64>)).unwrap();
            let all = written(|all| all.optional(Some(number)).optional(None::<u64>));
            assert_eq!(all, message);
        }
    }

    #[test]
    fn bytes_and_values_are_written_as_serde_writes_them() {
        for length in [0, 1, 255, 256, 65_536] {
            let bytes = vec![7; length];
            let message = encode(&(BlobRef(&bytes), "text", true)).unwrap();
            let all = written(|all| all.bytes(&bytes).value("text").value(&true));
            assert_eq!(all, message, "{length} bytes");
        }
        assert_eq!(written(|all| all), encode(&[(); 0]).unwrap());
    }

    #[test]
    fn element_that_does_not_encode_and_too_many_elements_are_errors() {
        struct FailsToEncode;
        impl Serialize for FailsToEncode {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut buffer = Vec::new();
        assert!(
            Elements::begin(&mut buffer)
                .value(&FailsToEncode)
                .end()
                .is_err()
        );
        let fits = (0..15u8).fold(Elements::begin(&mut buffer), Elements::number);
        assert!(fits.end().is_ok());
        let many = (0..=258u64).fold(Elements::begin(&mut buffer), Elements::number);
        assert!(many.end().is_err());
        let many = (0..16u8).fold(Elements::begin(&mut buffer), Elements::number);
        assert!(many.end().is_err());
    }
}

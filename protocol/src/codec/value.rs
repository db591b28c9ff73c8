//! MessagePack encoding of serde values; the only file that names `rmp_serde`.
//!
//! Structs and tuples are arrays, enum variants are named, byte strings are `bin`.
//!
//! Invariant: decoding is bounded. Nesting beyond [`MAX_DEPTH`] is an error, and a length in the input
//! allocates nothing by itself.

use std::{fmt, io};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{codec::lent, printable::PrintableText};

/// How deep a message may nest.
pub const MAX_DEPTH: usize = 64;

/// Why bytes and a value did not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    /// Makes an error of its text: lower case, no full stop.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// What the codec says. It may quote the input, which has no end, so it is cut.
    fn quote(error: &impl fmt::Display) -> Self {
        let mut text = error.to_string();
        if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED) {
            text.truncate(end);
            text.push_str("..");
        }
        Self(text)
    }
}

/// How many characters of what the codec says go into an error.
const MAX_QUOTED: usize = 300;

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PrintableText(&self.0).fmt(f)
    }
}

impl std::error::Error for CodecError {}

/// Appends the encoded value to a buffer, which keeps what it held when that fails only in part:
/// truncate it to its former length then.
///
/// # Errors
///
/// Returns an error when the value's own `Serialize` does, or when it nests too deep.
pub fn encode_into<T: Serialize + ?Sized>(
    buffer: &mut Vec<u8>,
    value: &T,
) -> Result<(), CodecError> {
    let mut serializer = rmp_serde::Serializer::new(buffer);
    value
        .serialize(&mut serializer)
        .map_err(|error| CodecError::quote(&error))
}

/// Appends the encoded value to a buffer if it takes at most `most` bytes. A long [`Blob`] in it is not
/// copied: it is returned, and belongs at the returned place.
///
/// The encoding ends with the first byte above `most`. The buffer is as before unless the value fits.
///
/// [`Blob`]: crate::codec::Blob
///
/// # Errors
///
/// As [`encode_into`].
pub fn encode_within<T: Serialize + ?Sized>(
    buffer: &mut Vec<u8>,
    value: &T,
    most: usize,
) -> Result<Fit, CodecError> {
    let start = buffer.len();
    let mut room = Room {
        buffer,
        left: most,
        is_short: false,
        lent: None,
    };
    let mut encode = || value.serialize(&mut rmp_serde::Serializer::new(&mut room));
    let encoded = if most < lent::LEAST_BYTES {
        encode()
    } else {
        lent::lending(encode)
    };
    let Room { is_short, lent, .. } = room;
    match encoded {
        Ok(()) => Ok(Fit::Fits(lent)),
        Err(error) => {
            buffer.truncate(start);
            if is_short {
                Ok(Fit::TooLong)
            } else {
                Err(CodecError::quote(&error))
            }
        }
    }
}

/// Counts the bytes that a value is encoded as, without encoding it anywhere.
///
/// # Errors
///
/// As [`encode_into`].
pub fn measure<T: Serialize + ?Sized>(value: &T) -> Result<usize, CodecError> {
    let mut measured = Measured(0);
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut measured))
        .map_err(|error| CodecError::quote(&error))?;
    Ok(measured.0)
}

/// The number of bytes that were written to it.
struct Measured(usize);

impl io::Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an encoded value fits into the room that there is for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits. A long byte string of it is not in the buffer: it belongs at that place of it.
    Fits(Option<(usize, Bytes)>),
    /// It takes more bytes.
    TooLong,
}

/// The end of a buffer that takes a number of bytes.
struct Room<'a> {
    buffer: &'a mut Vec<u8>,
    left: usize,
    is_short: bool,
    lent: Option<(usize, Bytes)>,
}

impl io::Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.is_short = true;
            return Err(io::ErrorKind::WriteZero.into());
        };
        self.left = left;
        if bytes.len() >= lent::LEAST_BYTES
            && self.lent.is_none()
            && let Some(lent) = lent::take(bytes)
        {
            self.lent = Some((self.buffer.len(), lent));
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As many bytes as most values take.
const USUAL_BYTES: usize = 64;

/// Encodes a value.
///
/// # Errors
///
/// As [`encode_into`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut buffer = Vec::with_capacity(USUAL_BYTES);
    encode_into(&mut buffer, value)?;
    Ok(buffer)
}

/// Begins a list of so many elements: each of them follows as it is encoded.
#[must_use]
pub fn begin_list(elements: u32) -> [u8; 5] {
    let [a, b, c, d] = elements.to_be_bytes();
    [0xdd, a, b, c, d]
}

/// What an encoded `Ok` begins with: its value follows. For what is read and written so often that it
/// is to go without serde's detour.
pub const OK: &[u8] = b"\x81\xa2Ok";

/// Whether an encoded reply is an `Err`, as the replies are that refuse.
#[must_use]
pub fn is_err(reply: &[u8]) -> bool {
    // A map of one entry, whose key is a text of three bytes.
    reply.starts_with(b"\x81\xa3Err")
}

/// Decodes a value that takes up all of the bytes.
///
/// # Errors
///
/// Returns an error when the bytes are no MessagePack, nest too deep, do not fit the type, or go
/// on after the value.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer).map_err(|error| CodecError::quote(&error))?;
    // The deserializer does not tell what is left; only at the end is there no marker to read.
    match deserializer.deserialize_option(Marker) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(()) | Err(_) => Err(CodecError("bytes after the end of the message".to_owned())),
    }
}

/// Whatever begins here, without what is inside of it: an array that breaks off would look like the
/// end otherwise.
struct Marker;

impl<'de> de::Visitor<'de> for Marker {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::blob::{Blob, BlobRef};

    use super::*;

    #[test]
    fn blob_is_one_byte_string() {
        assert_eq!(
            encode(&Blob::from(vec![1, 2, 3])).unwrap(),
            [0xc4, 3, 1, 2, 3]
        );
        assert_eq!(
            decode::<Blob>(&[0xc4, 3, 1, 2, 3]).unwrap(),
            Blob::from(vec![1, 2, 3])
        );
        assert_eq!(decode::<BlobRef<'_>>(&[0xc4, 1, 9]).unwrap(), BlobRef(&[9]));
    }

    #[test]
    fn value_that_does_not_fit_leaves_the_buffer_as_it_was() {
        let value = ("text", vec![1u8; 40], Blob::from(vec![7; 30]));
        let encoded = encode(&value).unwrap();
        for most in 0..encoded.len() {
            let mut buffer = vec![9];
            assert_eq!(encode_within(&mut buffer, &value, most), Ok(Fit::TooLong));
            assert_eq!(buffer, [9]);
        }
        let mut buffer = Vec::new();
        let fit = encode_within(&mut buffer, &value, encoded.len());
        assert_eq!((fit, buffer), (Ok(Fit::Fits(None)), encoded));
    }

    #[test]
    fn first_long_byte_string_is_lent_and_not_copied() {
        let long = Blob::from(vec![7; lent::LEAST_BYTES]);
        let value = (1, Blob::from(vec![6; 9]), long.clone(), long.clone(), 2);
        let mut buffer = vec![9];
        let fit = encode_within(&mut buffer, &value, usize::MAX).unwrap();
        let Fit::Fits(Some((place, lent))) = fit else {
            panic!("{fit:?}");
        };
        assert_eq!(lent.as_ptr(), long.0.as_ptr());
        buffer.splice(place..place, lent.iter().copied());
        assert_eq!(buffer[1..], encode(&value).unwrap());
        // Outside of it, all is copied.
        assert_eq!(encode(&long).unwrap().len(), long.0.len() + 5);
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        #[derive(Debug, Deserialize)]
        struct Nest(#[expect(dead_code, reason = "only its shape matters")] Vec<Self>);
        let bytes = vec![0x91; 100_000];
        let error = decode::<Nest>(&bytes).unwrap_err();
        assert!(error.to_string().contains("depth"), "{error}");
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        // The second is an array and a map that break off, a text, bytes, nil, a float, an extension.
        for second in [0x02, 0x91, 0x81, 0xa1, 0xc4, 0xc0, 0xca, 0xd4, 0xff] {
            assert!(decode::<u8>(&[1, second]).is_err(), "{second:x}");
        }
    }

    #[test]
    fn a_length_in_the_input_allocates_nothing() {
        // An array of 2^32-1 numbers that ends after the first.
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(decode::<Blob>(&[0xc6, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}

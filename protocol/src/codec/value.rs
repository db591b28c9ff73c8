//! Encodes the values of the built-in kinds as MessagePack, and decodes all values.
//!
//! PROTOCOL.md describes the bytes. Users' values are encoded by [`Form::Named`].

use serde::{Deserialize, Serialize};

use crate::codec::{deserializer::Deserializer, error::CodecError, form::Form};

/// Appends the encoded value to a buffer, in the compact form.
///
/// # Errors
///
/// As [`Form::encode_into`].
pub fn encode_into<T: Serialize + ?Sized>(
    buffer: &mut Vec<u8>,
    value: &T,
) -> Result<(), CodecError> {
    Form::Compact.encode_into(buffer, value)
}

/// Encodes a value in the compact form.
///
/// # Errors
///
/// As [`Form::encode`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    Form::Compact.encode(value)
}

/// Returns the header of a list. The encoded elements follow it.
#[must_use]
pub fn begin_list(elements: u32) -> [u8; 5] {
    let [a, b, c, d] = elements.to_be_bytes();
    [0xdd, a, b, c, d]
}

/// The beginning of an encoded `Ok`; its value follows. Frequent replies use it to avoid the cost of
/// serde.
pub const OK: &[u8] = b"\x81\xa2Ok";

/// Returns whether an encoded reply is an `Err`. All refusals are.
#[must_use]
pub fn is_err(reply: &[u8]) -> bool {
    // This is a map of one entry, whose key is a text of three bytes.
    reply.starts_with(b"\x81\xa3Err")
}

/// Decodes a value of either form from all bytes.
///
/// # Errors
///
/// Returns an error when the bytes are not MessagePack, nest too deep, do not fit the type, or
/// continue after the value.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let mut deserializer = Deserializer::new(bytes);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
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
    fn endless_nesting_is_an_error() {
        #[derive(Debug, Deserialize)]
        struct Nest(#[expect(dead_code, reason = "only its shape matters")] Vec<Self>);
        let bytes = vec![0x91; 100_000];
        let error = decode::<Nest>(&bytes).unwrap_err();
        assert!(
            error.to_string().contains("deeper than 128 levels"),
            "{error}"
        );
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        // The second value is a number, a truncated array or map, a text, bytes, nil, a float, an
        // extension, or -1.
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

//! `Payload`: encoded bytes between the read of a frame and the code that decodes them. Short payloads are
//! stored inline, long ones share the buffer of the read.

use std::{fmt, ops::Deref};

use bytes::Bytes;
use serde::Deserialize;

use crate::codec::{error::CodecError, kept::decode_within, value::decode};

/// Bytes of a message. Short ones, which are the most common, are stored inline, without an
/// allocation or a reference count. Long ones share the buffer of the read.
#[derive(Clone)]
pub enum Payload {
    /// At most [`Payload::MOST_INLINE`] bytes.
    Inline {
        /// The number of valid bytes.
        length: u8,
        /// The bytes; those after `length` are unused.
        bytes: [u8; Self::MOST_INLINE],
    },
    /// Any number of bytes.
    Shared(Bytes),
}

impl Payload {
    /// The most inline bytes: a payload then is no larger than a handle of shared bytes.
    pub const MOST_INLINE: usize = 23;

    /// Stores short bytes inline, and calls `share` for long ones.
    #[must_use]
    #[inline]
    pub fn new(bytes: &[u8], share: impl FnOnce(&[u8]) -> Bytes) -> Self {
        let mut inline = [0; Self::MOST_INLINE];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Self::Inline {
                    length,
                    bytes: inline,
                }
            }
            (_, _) => Self::Shared(share(bytes)),
        }
    }
}

impl Payload {
    /// Decodes a value from all bytes. Long byte strings in it share the memory of the payload.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    #[inline]
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CodecError> {
        match self {
            Self::Inline { .. } => decode(self),
            Self::Shared(bytes) => decode_within(bytes, bytes),
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes, Bytes::copy_from_slice)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() > Self::MOST_INLINE {
            Self::Shared(bytes.into())
        } else {
            Self::from(&*bytes)
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_of_any_length_keeps_its_bytes() {
        for length in 0..100u8 {
            let bytes: Vec<u8> = (0..length).collect();
            let payload = Payload::from(&bytes[..]);
            assert_eq!(*payload, bytes[..]);
            let is_inline = matches!(payload, Payload::Inline { .. });
            assert_eq!(is_inline, usize::from(length) <= Payload::MOST_INLINE);
        }
        assert_eq!(size_of::<Payload>(), size_of::<Bytes>());
    }
}

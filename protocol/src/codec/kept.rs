//! Decoding without copies: a long byte string of a shared message becomes a slice of that message.
//!
//! Invariant: a value keeps at most twice its own size in memory.

use std::{cell::RefCell, mem};

use bytes::Bytes;
use serde::Deserialize;

use crate::codec::{error::CodecError, value::decode};

/// Shorter byte strings are copied, which costs less.
const LEAST_BYTES: usize = 1 << 12;

thread_local! {
    /// The message that is being decoded.
    static WHOLE: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Decodes a part of a message. Long byte strings in it share the memory of the message.
///
/// # Errors
///
/// As [`decode`].
#[inline]
pub fn decode_within<'a, T: Deserialize<'a>>(
    whole: &Bytes,
    part: &'a [u8],
) -> Result<T, CodecError> {
    if part.len() < LEAST_BYTES {
        return decode(part);
    }
    let _decoding = Decoding::begin(whole.clone());
    decode(part)
}

/// A message that is being decoded. It also holds the outer message, because a type's `Deserialize`
/// may decode another message.
struct Decoding {
    outer: Bytes,
}

impl Decoding {
    fn begin(whole: Bytes) -> Self {
        let outer = WHOLE.replace(whole);
        Self { outer }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        WHOLE.set(mem::take(&mut self.outer));
    }
}

/// Returns a slice of the current message if the bytes are a part of it, and a copy otherwise.
pub(crate) fn keep(part: &[u8]) -> Bytes {
    let shared = (part.len() >= LEAST_BYTES).then(|| {
        WHOLE.with_borrow(|whole| {
            let (outer, inner) = (whole.as_ptr_range(), part.as_ptr_range());
            let is_inside = outer.start <= inner.start && inner.end <= outer.end;
            let is_most = part.len() >= whole.len() / 2;
            (is_inside && is_most).then(|| whole.slice_ref(part))
        })
    });
    shared
        .flatten()
        .unwrap_or_else(|| Bytes::copy_from_slice(part))
}

#[cfg(test)]
mod tests {
    use crate::codec::{blob::Blob, value::encode};

    use super::*;

    fn is_shared(whole: &Bytes, Blob(part): &Blob) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[test]
    fn only_long_byte_strings_that_are_most_of_a_message_share_it() {
        for (lengths, are_shared) in [
            ([1 << 16, 100], [true, false]),
            ([1 << 16, 1 << 17], [false, true]),
            ([100, 200], [false, false]),
        ] {
            let blobs = lengths.map(|length| Blob::from(vec![7; length]));
            let whole = Bytes::from(encode(&blobs).unwrap());
            let read: [Blob; 2] = decode_within(&whole, &whole).unwrap();
            assert_eq!(read, blobs);
            assert_eq!(read.map(|blob| is_shared(&whole, &blob)), are_shared);
            let read: [Blob; 2] = decode(&whole).unwrap();
            assert!(!read.iter().any(|blob| is_shared(&whole, blob)));
        }
    }

    #[test]
    fn bytes_of_an_inner_message_are_copied_and_those_of_the_outer_one_shared() {
        #[derive(Debug)]
        struct Inner;

        impl<'de> Deserialize<'de> for Inner {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let Blob(other) = Blob::deserialize(from)?;
                let other = Bytes::from(encode(&Blob(other)).expect("it encodes"));
                let read: Blob =
                    decode_within(&other, &other).expect("the message has a byte string");
                assert!(is_shared(&other, &read));
                Ok(Self)
            }
        }

        let blobs = [1 << 13, 1 << 16].map(|length| Blob::from(vec![7; length]));
        let whole = Bytes::from(encode(&blobs).unwrap());
        let (_, read): (Inner, Blob) = decode_within(&whole, &whole).unwrap();
        assert!(is_shared(&whole, &read));
        assert!(WHOLE.take().is_empty());
    }
}

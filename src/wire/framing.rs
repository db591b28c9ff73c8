//! Framing: a message is its length as four bytes, big-endian, and that many bytes.

use std::iter;

use lockkeeper_actors::codec::{self, CodecError};
use serde::Serialize;
use tokio_util::bytes::{Buf, Bytes, BytesMut};

/// Appends a frame to a buffer, which is as before when that fails.
///
/// # Errors
///
/// Returns an error when the message does not encode, or has more bytes than `most`.
pub(crate) fn append<T: Serialize>(
    buffer: &mut Vec<u8>,
    message: &T,
    most: usize,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let encoded = codec::encode_into(buffer, message).and_then(|()| {
        let length = buffer.len() - start - HEADER;
        match u32::try_from(length) {
            Ok(header) if length <= most => Ok(header),
            Ok(_) | Err(_) => Err(CodecError::new(format!(
                "a message of {length} bytes is above the limit of {most}"
            ))),
        }
    });
    match encoded {
        Ok(header) => {
            if let Some(place) = buffer.get_mut(start..start + HEADER) {
                place.copy_from_slice(&header.to_be_bytes());
            }
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// The messages of a row of whole frames. One that breaks off is an error, and the last.
pub(crate) fn frames(mut row: &[u8]) -> impl Iterator<Item = Result<&[u8], CodecError>> {
    iter::from_fn(move || {
        if row.is_empty() {
            return None;
        }
        let split = row
            .split_first_chunk::<HEADER>()
            .and_then(|(header, rest)| {
                let length = usize::try_from(u32::from_be_bytes(*header)).ok()?;
                rest.split_at_checked(length)
            });
        Some(match split {
            Some((message, rest)) => {
                row = rest;
                Ok(message)
            }
            None => {
                row = &[];
                Err(CodecError::new("a frame breaks off".to_owned()))
            }
        })
    })
}

/// The bytes of a frame before its message.
pub(super) const HEADER: usize = 4;

/// The room of a message above this size is not kept for others.
const KEPT_BYTES: usize = 1 << 16;

/// Bytes that came in, on their way to be frames.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    most: usize,
}

impl Inbox {
    /// An inbox that refuses messages of more bytes than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            most,
        }
    }

    /// Takes larger messages from now on.
    pub(crate) fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Adds bytes as they were read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole message.
    ///
    /// # Errors
    ///
    /// Returns an error when the message is above the limit; the stream is of no use then.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, CodecError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(CodecError::new(format!(
                "a frame of {length} bytes is above the limit of {}",
                self.most
            )));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() && length.max(self.buffer.capacity()) > KEPT_BYTES {
            // What is left of the room is given back with the message.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

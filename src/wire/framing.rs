//! Framing: a message is its length as four bytes, big-endian, and that many bytes.

use std::{iter, mem, ops::Deref};

use lockkeeper_actors::codec::{self, CodecError, Payload};
use serde::Serialize;
use tokio_util::bytes::{Buf, Bytes, BytesMut};

/// What goes into a frame: a message of the protocol, or any value.
pub(crate) trait Encode {
    /// Appends it to a buffer, which has a part of it when that fails.
    ///
    /// # Errors
    ///
    /// Returns an error when it does not encode.
    fn encode_into(&self, buffer: &mut Vec<u8>) -> Result<(), CodecError>;
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode_into(&self, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(buffer, self)
    }
}

/// Appends a frame to a buffer, which is as before when that fails.
///
/// # Errors
///
/// Returns an error when the message does not encode, or has more bytes than `most`.
#[inline]
pub(crate) fn append<T: Encode>(
    buffer: &mut Vec<u8>,
    message: &T,
    most: usize,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let encoded = message.encode_into(buffer).and_then(|()| {
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

/// A message above this size does not share its room with others.
const KEPT_BYTES: usize = 1 << 16;

/// So much room is kept for whatever comes next: the most after much has come in.
const LEAST_ROOM: usize = 1 << 12;
const MOST_ROOM: usize = 2 * KEPT_BYTES;

/// Bytes that came in, on their way to be messages.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    /// How many of the bytes are those of messages that were taken.
    taken: usize,
    /// How many bytes came in last.
    fed: usize,
    /// The last message, if it was a large one.
    large: Bytes,
    most: usize,
}

/// One message in an inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    /// The same, where parts of it can be kept without a copy.
    large: Option<&'a Bytes>,
}

impl Message<'_> {
    /// Keeps a part of the message beyond it.
    #[inline]
    pub(crate) fn keep(&self, part: &[u8]) -> Payload {
        Payload::new(part, |part| match self.large {
            Some(whole) => whole.slice_ref(part),
            None => Bytes::copy_from_slice(part),
        })
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Inbox {
    /// An inbox that refuses messages of more bytes than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            taken: 0,
            fed: 0,
            large: Bytes::new(),
            most,
        }
    }

    /// Takes larger messages from now on.
    pub(crate) fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Adds bytes as they were read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.advance(mem::take(&mut self.taken));
        self.buffer.extend_from_slice(bytes);
        self.fed = bytes.len();
    }

    /// How many bytes of a message that has begun have yet to come in.
    pub(crate) fn missing(&self) -> usize {
        let begun = self.buffer.get(self.taken..).unwrap_or_default();
        begun
            .split_first_chunk::<HEADER>()
            .map_or(0, |(header, rest)| {
                let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
                length.saturating_sub(rest.len())
            })
    }

    /// Takes the next whole message, which is there until the next one is taken.
    ///
    /// # Errors
    ///
    /// Returns an error when the message is above the limit; the stream is of no use then.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Message<'_>>, CodecError> {
        if !self.large.is_empty() {
            self.large = Bytes::new();
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            self.give_back_room();
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(CodecError::new(format!(
                "a frame of {length} bytes is above the limit of {}",
                self.most
            )));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.taken += HEADER;
        if length > KEPT_BYTES {
            self.buffer.advance(mem::take(&mut self.taken));
            self.large = self.buffer.split_to(length).freeze();
            // What stands behind it would keep its room.
            self.buffer = BytesMut::from(&*self.buffer);
            return Ok(Some(Message {
                bytes: &self.large,
                large: Some(&self.large),
            }));
        }
        let start = self.taken;
        self.taken += length;
        Ok(self
            .buffer
            .get(start..self.taken)
            .map(|bytes| Message { bytes, large: None }))
    }

    /// Keeps the room for what comes in now, and not for what once did, when all is taken.
    fn give_back_room(&mut self) {
        if self.taken == self.buffer.len() {
            self.taken = 0;
            self.buffer.clear();
            if self.buffer.capacity() > (4 * self.fed).clamp(LEAST_ROOM, MOST_ROOM) {
                self.buffer = BytesMut::new();
            }
        }
    }
}

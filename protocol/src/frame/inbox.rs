//! `Inbox`: splits the received bytes of a stream into messages.
//!
//! Invariant: an inbox allocates no more than the peer has sent, regardless of the length that a frame
//! declares.

use std::{mem, ops::Deref};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    codec::{error::CodecError, payload::Payload},
    frame::framing::HEADER,
};

/// The size above which a message gets a buffer of its own.
const KEPT_BYTES: usize = 1 << 16;

/// An upper bound on the bytes of the numbers at the beginning of a message.
const MOST_BEGIN: usize = 32;

/// The capacity that is always kept, and the most that is kept after a large amount of input.
const LEAST_ROOM: usize = 1 << 12;

const MOST_ROOM: usize = 2 * KEPT_BYTES;

/// Received bytes that are split into messages.
#[derive(Debug)]
pub struct Inbox {
    buffer: BytesMut,
    /// The bytes of messages that were taken.
    taken: usize,
    /// The number of bytes that the last read added.
    fed: usize,
    /// The bytes still to come of a message that is dropped.
    skipped: usize,
    /// The last message, if it is large.
    large: Bytes,
    most: usize,
}

/// One message in an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// The message as shared bytes, if parts of it can be kept without a copy.
    large: Option<&'a Bytes>,
}

impl Message<'_> {
    /// Keeps a part of the message longer than the message itself.
    #[inline]
    pub fn keep(&self, shard: &[u8]) -> Payload {
        Payload::new(shard, |shard| match self.large {
            Some(whole) => whole.slice_ref(shard),
            None => Bytes::copy_from_slice(shard),
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
    /// Creates an inbox that refuses messages of more than `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            taken: 0,
            fed: 0,
            skipped: 0,
            large: Bytes::new(),
            most,
        }
    }

    /// Sets the size of the largest message, in bytes.
    pub fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Adds bytes that were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        let bytes = bytes.get(skipped..).unwrap_or_default();
        self.buffer.advance(mem::take(&mut self.taken));
        self.buffer.extend_from_slice(bytes);
        self.fed = bytes.len();
    }

    /// Returns the number of received bytes of an incomplete message.
    pub fn begun(&self) -> usize {
        if self.missing() == 0 {
            return 0;
        }
        self.buffer.len() - self.taken
    }

    /// Drops the incomplete message, including the bytes that are still to come, and returns its beginning.
    pub fn skip(&mut self) -> Vec<u8> {
        self.skipped = self.missing();
        let begun = self.buffer.get(self.taken..).unwrap_or_default();
        let begin = begun.get(HEADER..).unwrap_or_default();
        let begin = begin.get(..begin.len().min(MOST_BEGIN)).unwrap_or_default();
        let begin = begin.to_vec();
        self.buffer = BytesMut::new();
        self.taken = 0;
        begin
    }

    /// Returns whether all received bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.taken
    }

    /// Returns the number of bytes that an incomplete message lacks.
    pub fn missing(&self) -> usize {
        let begun = self.buffer.get(self.taken..).unwrap_or_default();
        begun
            .split_first_chunk::<HEADER>()
            .map_or(0, |(header, rest)| {
                let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
                length.saturating_sub(rest.len())
            })
    }

    /// Takes the next complete message, which is valid until the next one is taken.
    ///
    /// # Errors
    ///
    /// Returns an error when the message exceeds the limit; the stream cannot be used then.
    #[inline]
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, CodecError> {
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
            // Bytes behind the message would keep its buffer allocated.
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

    /// Once all messages are taken, keeps the capacity for the current rate of input, and not for an earlier
    /// one.
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

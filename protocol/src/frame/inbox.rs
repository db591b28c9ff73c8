//! `Inbox`: cuts the received bytes of a stream into messages.
//!
//! Invariant: an inbox allocates no more than the peer has sent, whatever length a frame declares.

use std::{mem, ops::Deref};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    codec::{error::CodecError, payload::Payload},
    frame::framing::HEADER,
};

/// A message above this size does not share its room with others.
const KEPT_BYTES: usize = 1 << 16;

/// The numbers at the beginning of a message have fewer bytes than this.
const MOST_BEGIN: usize = 32;

/// So much room is kept for whatever comes next: the most after much has come in.
const LEAST_ROOM: usize = 1 << 12;

const MOST_ROOM: usize = 2 * KEPT_BYTES;

/// Bytes that came in, on their way to be messages.
#[derive(Debug)]
pub struct Inbox {
    buffer: BytesMut,
    /// How many of the bytes are those of messages that were taken.
    taken: usize,
    /// How many bytes came in last.
    fed: usize,
    /// How many bytes that are to come in belong to a message that is dropped.
    skipped: usize,
    /// The last message, if it was a large one.
    large: Bytes,
    most: usize,
}

/// One message in an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// The same, where shards of it can be kept without a copy.
    large: Option<&'a Bytes>,
}

impl Message<'_> {
    /// Keeps a shard of the message beyond it.
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
    /// An inbox that refuses messages of more bytes than `most`.
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

    /// Takes larger messages from now on.
    pub fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Adds bytes as they were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        let bytes = bytes.get(skipped..).unwrap_or_default();
        self.buffer.advance(mem::take(&mut self.taken));
        self.buffer.extend_from_slice(bytes);
        self.fed = bytes.len();
    }

    /// How many bytes have come in of a message that is not there whole.
    pub fn begun(&self) -> usize {
        if self.missing() == 0 {
            return 0;
        }
        self.buffer.len() - self.taken
    }

    /// Drops the message that has begun, also what of it has yet to come in, and returns how it begins.
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

    /// How many bytes of a message that has begun have yet to come in.
    pub fn missing(&self) -> usize {
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

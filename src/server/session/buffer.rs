//! `Buffer`: the unwritten frames of a session, in order.
//!
//! Invariant: a new frame goes behind all frames that are there already.

use std::{cell::Cell, collections::VecDeque, mem};

use bytes::{Buf, Bytes};
use lockkeeper_actors::LargeReply;
use lockkeeper_protocol::frame::Response;

/// The data that waits to be written to a client.
#[derive(Default)]
pub(super) struct Buffer {
    /// Encoded frames, except for what follows in `parts`.
    pub(super) bytes: Vec<u8>,
    /// How many of `bytes` are written.
    pub(super) sent: usize,
    /// The encoded parts behind `bytes`.
    parts: VecDeque<EncodedPart>,
    /// The answers behind the encoded parts that are not encoded.
    later: VecDeque<WaitingAnswer>,
    /// How many large answers wait to be encoded.
    pub(super) answers: usize,
    /// How many bytes wait to be written, without large answers that are not encoded.
    pub(super) unread: usize,
    /// Whether the session counts as full.
    pub(super) is_full: bool,
    /// Whether the stream was cut in the middle of a frame, so that nothing can follow.
    pub(super) is_broken: bool,
}

/// Bytes that are shared with a hosted object, and the encoded bytes behind them.
struct EncodedPart {
    lent: Bytes,
    /// The rest of the frame that has the shared bytes, and later frames.
    behind: Vec<u8>,
}

/// A large answer that is not encoded, and the frames behind it.
pub(super) struct WaitingAnswer {
    pub(super) seq: u64,
    pub(super) reply: LargeReply,
    behind: Vec<u8>,
}

impl Buffer {
    /// Creates the empty buffer of a stream that takes no more frames. It counts as full if the former buffer
    /// does, until the session counts it again.
    pub(super) fn broken(former: &Self) -> Self {
        Self {
            is_broken: true,
            is_full: former.is_full,
            ..Self::default()
        }
    }

    /// The buffer that takes the next frame.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        match self.later.back_mut() {
            Some(answer) => &mut answer.behind,
            None => end_of(&mut self.bytes, &mut self.parts),
        }
    }

    /// The buffer that takes the next answer that is encoded.
    pub(super) fn encoded_end(&mut self) -> &mut Vec<u8> {
        end_of(&mut self.bytes, &mut self.parts)
    }

    /// Adds shared bytes at a position of the last encoded frame, which is in [`Self::encoded_end`].
    pub(super) fn lend(&mut self, place: usize, lent: Bytes) {
        if lent.is_empty() {
            return;
        }
        let behind = self.encoded_end().split_off(place);
        self.parts.push_back(EncodedPart { lent, behind });
    }

    /// The bytes to write next, or none if all encoded bytes are written.
    #[inline]
    pub(super) fn next_bytes(&mut self) -> &[u8] {
        while self.sent >= self.bytes.len()
            && let Some(part) = self.parts.front_mut()
            && part.lent.is_empty()
        {
            self.bytes = mem::take(&mut part.behind);
            self.sent = 0;
            self.parts.pop_front();
        }
        match (self.bytes.get(self.sent..), self.parts.front()) {
            (Some([]) | None, Some(part)) => &part.lent,
            (rest, _) => rest.unwrap_or_default(),
        }
    }

    /// Removes bytes of [`Self::next_bytes`] that were written.
    #[inline]
    pub(super) fn advance(&mut self, written: usize) {
        self.unread = self.unread.saturating_sub(written);
        if self.sent < self.bytes.len() {
            self.sent += written;
            if self.sent > self.bytes.len() / 4 * 3 && self.sent < self.bytes.len() {
                // The buffer may never run empty, so the written part is removed once it is large; that moves
                // bytes rarely.
                self.bytes.drain(..mem::take(&mut self.sent));
            }
        } else if let Some(part) = self.parts.front_mut() {
            // Shared bytes are released as soon as they are written.
            if written < part.lent.len() {
                part.lent.advance(written);
            } else {
                part.lent = Bytes::new();
            }
        }
    }

    /// Returns whether all answers are encoded.
    pub(super) fn is_encoded(&self) -> bool {
        self.later.is_empty()
    }

    /// Returns whether encoded parts follow `bytes`.
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Adds an answer that is encoded later.
    pub(super) fn push_answer(&mut self, seq: u64, reply: LargeReply) {
        let behind = Vec::new();
        self.later.push_back(WaitingAnswer { seq, reply, behind });
        self.answers += 1;
    }

    /// Removes the first answer that is not encoded.
    pub(super) fn pop_answer(&mut self) -> Option<WaitingAnswer> {
        let answer = self.later.pop_front()?;
        self.answers -= 1;
        Some(answer)
    }

    /// Returns an answer to the place from which [`Self::pop_answer`] took it.
    pub(super) fn unpop_answer(&mut self, answer: WaitingAnswer) {
        self.later.push_front(answer);
        self.answers += 1;
    }

    /// Adds the frames behind an answer that was encoded to the encoded bytes.
    pub(super) fn follow(&mut self, answer: WaitingAnswer) {
        let end = self.encoded_end();
        if end.is_empty() {
            *end = answer.behind;
        } else {
            end.extend_from_slice(&answer.behind);
        }
    }

    /// Drops the answers that are not encoded, and the frames behind them.
    pub(super) fn drop_later(&mut self) {
        self.later = VecDeque::new();
        self.answers = 0;
        let parts = self.parts.iter();
        let parts = parts.map(|part| part.lent.len() + part.behind.len());
        self.unread = self.bytes.len() - self.sent + parts.sum::<usize>();
    }
}

/// The buffer behind the last encoded part.
fn end_of<'a>(bytes: &'a mut Vec<u8>, parts: &'a mut VecDeque<EncodedPart>) -> &'a mut Vec<u8> {
    match parts.back_mut() {
        Some(part) => &mut part.behind,
        None => bytes,
    }
}

/// The last frame that was written, and whether the client ended before it had read it.
#[derive(Default)]
pub(super) struct LastFrame {
    /// The call that the frame answers, if it is an answer.
    answers: Cell<Option<u64>>,
    /// The latest call that was answered.
    latest: Cell<u64>,
    is_lost: Cell<bool>,
}

impl LastFrame {
    pub(super) fn is(&self, frame: &Response<'_>) {
        self.answers.set(None);
        if let Response::Reply { seq, .. } = frame {
            self.is_answer(*seq);
        }
    }

    pub(super) fn is_answer(&self, seq: u64) {
        self.answers.set(Some(seq));
        self.latest.set(self.latest.get().max(seq));
    }

    /// Records that the client cannot have decoded the frame.
    pub(super) fn lose(&self) {
        self.is_lost.set(true);
    }

    /// Returns a call whose answer a client that has ended cannot have decoded: the call that the lost frame
    /// answers, or `last`, the client's last call, if it has no answer yet.
    pub(super) fn unseen(&self, last: u64) -> Option<u64> {
        let lost = self.answers.get().filter(|_| self.is_lost.get());
        lost.or_else(|| (last > self.latest.get()).then_some(last))
    }
}

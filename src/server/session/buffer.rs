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
    parts: VecDeque<Part>,
    /// What follows the encoded parts. It is empty or begins with an answer.
    later: VecDeque<Later>,
    /// How many large answers wait to be encoded.
    pub(super) answers: usize,
    /// How many bytes wait to be written, without large answers that are not encoded.
    pub(super) unread: usize,
    /// How many of `unread` are counted in the budget.
    pub(super) counted: usize,
    /// Whether the session counts as full.
    pub(super) is_full: bool,
    /// Whether the stream was cut in the middle of a frame, so that nothing can follow.
    pub(super) is_broken: bool,
}

/// An encoded part of the data.
enum Part {
    Frames(Vec<u8>),
    /// Bytes that are shared with a hosted object, inside a frame.
    Lent(Bytes),
}

/// A part of the data behind a large answer that is not encoded.
enum Later {
    Frames(Vec<u8>),
    Answer(u64, LargeReply),
}

impl Buffer {
    /// Creates the empty buffer of a stream that takes no more frames, with what the former one counts as.
    pub(super) fn broken(counted: usize, is_full: bool) -> Self {
        Self {
            is_broken: true,
            counted,
            is_full,
            ..Self::default()
        }
    }

    /// The buffer that takes the next frame.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        if self.later.is_empty() {
            return self.encoded_end();
        }
        if !matches!(self.later.back(), Some(Later::Frames(_))) {
            self.later.push_back(Later::Frames(Vec::new()));
        }
        match self.later.back_mut() {
            Some(Later::Frames(frames)) => frames,
            Some(Later::Answer(..)) | None => &mut self.bytes,
        }
    }

    /// The buffer that takes the next answer that is encoded.
    pub(super) fn encoded_end(&mut self) -> &mut Vec<u8> {
        if self.parts.is_empty() {
            return &mut self.bytes;
        }
        if !matches!(self.parts.back(), Some(Part::Frames(_))) {
            self.parts.push_back(Part::Frames(Vec::new()));
        }
        match self.parts.back_mut() {
            Some(Part::Frames(frames)) => frames,
            Some(Part::Lent(_)) | None => &mut self.bytes,
        }
    }

    /// Adds shared bytes at a position of the last encoded frame, which is in [`Self::encoded_end`].
    pub(super) fn lend(&mut self, place: usize, lent: Bytes) {
        if lent.is_empty() {
            return;
        }
        let behind = self.encoded_end().split_off(place);
        self.parts.push_back(Part::Lent(lent));
        if !behind.is_empty() {
            self.parts.push_back(Part::Frames(behind));
        }
    }

    /// The bytes to write next, or none if all encoded bytes are written.
    pub(super) fn next_bytes(&mut self) -> &[u8] {
        while self.sent >= self.bytes.len()
            && let Some(Part::Frames(frames)) = self.parts.front_mut()
        {
            self.bytes = mem::take(frames);
            self.sent = 0;
            self.parts.pop_front();
        }
        match (self.bytes.get(self.sent..), self.parts.front()) {
            (Some([]) | None, Some(Part::Lent(lent))) => lent,
            (rest, _) => rest.unwrap_or_default(),
        }
    }

    /// Removes bytes of [`Self::next_bytes`] that were written.
    pub(super) fn advance(&mut self, written: usize) {
        self.unread = self.unread.saturating_sub(written);
        if self.sent < self.bytes.len() {
            self.sent += written;
            if self.sent > self.bytes.len() / 4 * 3 && self.sent < self.bytes.len() {
                // The buffer may never run empty, so the written part is removed once it is large; that moves
                // bytes rarely.
                self.bytes.drain(..mem::take(&mut self.sent));
            }
        } else if let Some(Part::Lent(lent)) = self.parts.front_mut() {
            // Shared bytes are released as soon as they are written.
            if written < lent.len() {
                lent.advance(written);
            } else {
                self.parts.pop_front();
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
        self.later.push_back(Later::Answer(seq, reply));
        self.answers += 1;
    }

    /// Removes the first answer that is not encoded.
    pub(super) fn pop_answer(&mut self) -> Option<(u64, LargeReply)> {
        match self.later.pop_front()? {
            Later::Answer(seq, reply) => {
                self.answers -= 1;
                Some((seq, reply))
            }
            Later::Frames(frames) => {
                self.later.push_front(Later::Frames(frames));
                None
            }
        }
    }

    /// Returns an answer to the place from which [`Self::pop_answer`] took it.
    pub(super) fn unpop_answer(&mut self, seq: u64, reply: LargeReply) {
        self.later.push_front(Later::Answer(seq, reply));
        self.answers += 1;
    }

    /// Moves the frames behind an answer that was encoded to the encoded parts.
    pub(super) fn follow(&mut self) {
        if let Some(Later::Frames(frames)) = self.later.front_mut() {
            let frames = mem::take(frames);
            self.later.pop_front();
            let end = self.encoded_end();
            if end.is_empty() {
                *end = frames;
            } else {
                end.extend_from_slice(&frames);
            }
        }
    }

    /// Drops the answers that are not encoded, and the frames behind them.
    pub(super) fn drop_later(&mut self) {
        self.later = VecDeque::new();
        self.answers = 0;
        let parts = self.parts.iter().map(|part| match part {
            Part::Frames(frames) => frames.len(),
            Part::Lent(lent) => lent.len(),
        });
        self.unread = self.bytes.len() - self.sent + parts.sum::<usize>();
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

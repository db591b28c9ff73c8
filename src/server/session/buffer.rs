//! `Buffer`: the frames of a session that are not written yet, in order.
//!
//! Invariant: frames are put behind all that is there already.

use std::{cell::Cell, collections::VecDeque};

use bytes::Bytes;
use lockkeeper_actors::LargeReply;
use lockkeeper_protocol::frame::Response;

use crate::server::session::sizes::HIGH_WATER_BYTES;

/// What waits to be written to a client.
#[derive(Default)]
pub(super) struct Buffer {
    /// Whole frames, but for the part of them that is `lent`.
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes are written.
    pub(super) sent: usize,
    /// Bytes that follow, and are shared with a hosted object.
    pub(super) lent: Bytes,
    /// What follows them.
    pub(super) later: VecDeque<Later>,
    /// How many large answers wait to be encoded.
    pub(super) answers: usize,
    /// How many bytes wait to be written, without those of large answers that are not encoded.
    pub(super) unread: usize,
    /// How many of them are counted in the budget.
    pub(super) counted: usize,
    /// Whether the session counts as full.
    pub(super) is_full: bool,
    /// The stream is broken off in the middle of a frame, so nothing can follow.
    pub(super) is_broken: bool,
}

/// A part of what follows.
pub(super) enum Later {
    Frames(Vec<u8>),
    Answer(u64, LargeReply),
}

impl Buffer {
    /// Where the next frame is to be put.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        if self.lent.is_empty() && self.later.is_empty() {
            return &mut self.bytes;
        }
        if !matches!(self.later.back(), Some(Later::Frames(_))) {
            self.later.push_back(Later::Frames(Vec::new()));
        }
        match self.later.back_mut() {
            Some(Later::Frames(frames)) => frames,
            Some(Later::Answer(..)) | None => &mut self.bytes,
        }
    }

    /// Whether a frame can be put behind the bytes.
    pub(super) fn takes_frames(&self) -> bool {
        self.lent.is_empty() && self.unread < HIGH_WATER_BYTES
    }
}

/// What the last frame is, and whether the client ended before it had read it.
#[derive(Default)]
pub(super) struct LastFrame {
    /// The call that it answers, if it is an answer.
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

    /// Takes note that the client cannot have decoded it.
    pub(super) fn lose(&self) {
        self.is_lost.set(true);
    }

    /// Returns a call whose answer the client, which has ended, cannot have decoded: the one that the frame answers, or
    /// `last`, the last one that it has made, if that is not answered yet.
    pub(super) fn unseen(&self, last: u64) -> Option<u64> {
        let lost = self.answers.get().filter(|_| self.is_lost.get());
        lost.or_else(|| (last > self.latest.get()).then_some(last))
    }
}

//! `Buffer`: the unwritten frames of a session, in order.
//!
//! Invariant: a new frame goes behind all frames that are there already.

use std::{cell::Cell, collections::VecDeque};

use bytes::Bytes;
use lockkeeper_actors::LargeReply;
use lockkeeper_protocol::frame::Response;

use crate::server::session::sizes::HIGH_WATER_BYTES;

/// The data that waits to be written to a client.
#[derive(Default)]
pub(super) struct Buffer {
    /// Complete frames, except for the part in `lent`.
    pub(super) bytes: Vec<u8>,
    /// How many of `bytes` are written.
    pub(super) sent: usize,
    /// Bytes that follow `bytes` and are shared with a hosted object.
    pub(super) lent: Bytes,
    /// What follows `lent`.
    pub(super) later: VecDeque<Later>,
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

/// A part of the data that follows.
pub(super) enum Later {
    Frames(Vec<u8>),
    Answer(u64, LargeReply),
}

impl Buffer {
    /// The buffer that takes the next frame.
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

    /// Returns whether a frame can be appended to `bytes`.
    pub(super) fn takes_frames(&self) -> bool {
        self.lent.is_empty() && self.unread < HIGH_WATER_BYTES
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

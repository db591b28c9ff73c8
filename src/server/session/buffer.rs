//! `Buffer`: the frames of a session that are not written yet, in order.
//!
//! Invariant: frames are put behind all that is there already.

use std::collections::VecDeque;

use bytes::Bytes;
use lockkeeper_actors::LargeReply;

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

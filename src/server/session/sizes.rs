//! The sizes of a session's reads and writes.
//!
//! Invariant: they are the same for all sessions.

/// The most bytes of one read.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// The most bytes of one read while frames are short. The client then handles its first answers while the
/// manager computes the next ones, so neither waits for the other.
pub(super) const SHORT_CHUNK_BYTES: usize = 1 << 14;

/// The unread bytes of answers above which the session does not read from its client.
pub(super) const HIGH_WATER_BYTES: usize = 1 << 20;

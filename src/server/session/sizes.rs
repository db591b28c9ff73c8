//! The sizes of what a session reads at once, and of what it writes.
//!
//! Invariant: they are the same for all sessions.

/// How much one read takes at the most.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// The same while frames are short: so a client goes on with its first answers while the manager
/// finds the next ones, and neither waits for the other.
pub(super) const SHORT_CHUNK_BYTES: usize = 1 << 14;

/// A session with so many unread bytes of answers is not read from.
pub(super) const HIGH_WATER_BYTES: usize = 1 << 20;

//! The sizes of a session's reads and writes.
//!
//! Invariant: they are the same for all sessions.

/// The most bytes of one read.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// The most bytes of one read while frames are short. The client then handles its first answers while the
/// manager computes the next ones, so neither waits for the other.
pub(super) const SHORT_CHUNK_BYTES: usize = 1 << 14;

/// The most unanswered calls of a session beyond `Limits::calls_in_flight`. An object serves such a call only if
/// it is answered at once, so that a client at its limit can release. A session refuses more of them itself,
/// because each takes memory until its object is run.
pub(crate) const CALLS_AT_LIMIT: usize = 1 << 16;

/// The unread bytes of answers above which the session does not read from its client.
pub(super) const HIGH_WATER_BYTES: usize = 1 << 20;

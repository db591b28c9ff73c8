//! The sizes of a session's reads and writes.
//!
//! Invariant: they are the same for all sessions.

/// The most bytes of one read.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// The most bytes of one read while frames are short. The client then handles its first answers while the
/// manager computes the next ones, so neither waits for the other.
pub(super) const SHORT_CHUNK_BYTES: usize = 1 << 14;

/// A message of more bytes, with the four of its length, is large: its bytes are counted as stored while it comes
/// in, and it may be refused.
pub(super) const LARGE_BYTES: usize = (1 << 16) + 4;

/// The bytes that the messages of all sessions that have arrived in part may take: a sixteenth of the stored bytes,
/// and room for one message at least.
pub(crate) fn arriving_bytes(stored_bytes: usize) -> usize {
    (stored_bytes / 16).max(LARGE_BYTES)
}

/// The bytes of an incomplete message that each session may have beside all budgets. A buffer keeps as much
/// capacity anyway.
pub(super) const OWN_INCOMING_BYTES: usize = 1 << 12;

/// The bytes that all sessions of a shard have read and whose messages may not have reached their objects, above which
/// each session reads only [`SMALL_READ_BYTES`] at a time. A byte of a message takes up to ten in a mailbox.
pub(super) const MOST_IN_MAILBOXES: usize = 1 << 20;

/// The most bytes of one read while the mailboxes of the shard are full. Small calls are still served.
pub(super) const SMALL_READ_BYTES: usize = 512;

/// The bytes of a session's own messages that have not reached their objects, above which it does not read on.
pub(super) const OWN_IN_MAILBOXES: usize = 1 << 14;

/// The most unanswered calls of a session beyond `Limits::calls_in_flight`. An object serves such a call only if
/// it is answered at once, so that a client at its limit can release. A session refuses more of them itself,
/// because each takes memory until its object is run.
pub(crate) const CALLS_AT_LIMIT: usize = 1 << 16;

/// The unread bytes of answers above which the session does not read from its client.
pub(super) const HIGH_WATER_BYTES: usize = 1 << 20;

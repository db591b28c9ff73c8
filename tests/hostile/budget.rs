//! What the manager under attack takes at the most, and how much memory that allows.

use std::time::Duration;

use lockkeeper::Limits;

/// How many bytes a large answer, item or value has: most of a message.
pub(crate) const LARGE: usize = 900 << 10;

/// The limits of the manager: small, so that each is reached within a second.
pub(crate) fn limits() -> Limits {
    Limits {
        frame_bytes: 1 << 20,
        calls_in_flight: 2_000,
        sessions: 120,
        objects: 10_000,
        unread_bytes: 64 << 20,
        stored_bytes: 64 << 20,
        unread_time: Duration::from_secs(1),
        hello: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Bytes that all objects of the manager may store together. A value keeps at most twice its own size
/// in memory.
const STORED: usize = 64 << 20;

/// Bytes of answers that all sessions together may leave unread.
const UNREAD: usize = 64 << 20;

/// What an object, a call that waits and a session take at the most, beside the bytes that they carry.
const OBJECT: usize = 2 << 10;
const CALL: usize = 512;
const SESSION: usize = 64 << 10;

/// The most memory that a manager of these limits may ever use, beside what it uses when it starts.
///
/// The allocator keeps some more than is in use: a quarter here.
pub(crate) fn most_bytes() -> usize {
    let limits = limits();
    let frames = limits.sessions * (limits.frame_bytes + SESSION);
    // The attackers fill the calls of few sessions at a time.
    let calls = 8 * limits.calls_in_flight * CALL;
    let most = 2 * STORED + UNREAD + frames + limits.objects * OBJECT + calls;
    most + most / 4
}

//! The limits of the attacked manager, and the memory that they permit.

use std::time::Duration;

use lockkeeper::Limits;

/// The bytes of a large answer, item or value: most of a message.
pub(crate) const LARGE: usize = 900 << 10;

/// Returns the limits of the manager. They are small, so that each is reached within a second.
pub(crate) fn limits() -> Limits {
    Limits {
        frame_bytes: 1 << 20,
        calls_in_flight: 2_000,
        sessions: 120,
        objects: 10_000,
        unread_bytes: 64 << 20,
        stored_bytes: 64 << 20,
        unread_time: Duration::from_secs(1),
        handshake_time: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Bytes that all objects of the manager may store together. A value uses at most twice its own size
/// in memory.
const STORED: usize = 64 << 20;

/// Bytes of answers that all sessions together may leave unread.
const UNREAD: usize = 64 << 20;

/// The most memory of an object, a waiting call and a session, without their payload.
const OBJECT: usize = 2 << 10;
const CALL: usize = 512;
const SESSION: usize = 64 << 10;

/// Returns the most memory that a manager with these limits may use, in addition to its memory at
/// the start.
///
/// The result includes a quarter more, because the allocator keeps some freed memory.
pub(crate) fn most_bytes() -> usize {
    let limits = limits();
    let frames = limits.sessions * (limits.frame_bytes + SESSION);
    // The attackers reach the limit of calls in only a few sessions at a time.
    let calls = 8 * limits.calls_in_flight * CALL;
    let most = 2 * STORED + UNREAD + frames + limits.objects * OBJECT + calls;
    most + most / 4
}

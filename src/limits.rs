//! `Limits`: all limits that a manager enforces.

use std::time::Duration;

use lockkeeper_protocol::frame::FIRST_FRAME_BYTES;
use serde::{Deserialize, Serialize};

/// The limits that a manager enforces for its clients. The manager refuses a call or a client
/// beyond a limit, with an error that names the limit.
///
/// [`stored_bytes`](Self::stored_bytes) and [`unread_bytes`](Self::unread_bytes) are for the whole
/// manager. If it has several [`shards`](crate::builders::ManagerBuilder::shards), the other limits are for each
/// shard.
///
/// ```
/// use lockkeeper::Limits;
///
/// let limits = Limits { sessions: 100, ..Limits::default() };
/// assert!(limits.frame_bytes > 1_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one message: 64 MiB by default. A value below 64 KiB counts as 64 KiB, and a value of 4
    /// GiB or more as 4 GiB less one byte.
    pub frame_bytes: usize,
    /// Calls of one session that wait for an answer at a time: 1,048,576 by default. Beyond it, a call that would
    /// have to wait is refused; one that is answered at once, such as a release, is served.
    pub calls_in_flight: usize,
    /// Sessions at a time: 100,000 by default. The system's limit of file descriptors may be lower.
    pub sessions: usize,
    /// Hosted objects: 10,000,000 by default.
    pub objects: usize,
    /// Bytes of an object's name: 255 by default, and 65,536 at most.
    pub name_bytes: usize,
    /// Bytes that the manager keeps for its clients: 1 GiB by default. Above it, calls for which the manager
    /// would keep more fail with [`Fault::Limit`](crate::errors::Fault::Limit) and change nothing. They can be
    /// made again once something was removed, taken or released.
    ///
    /// These are the bytes of items, values, tasks and their outcomes, of names and twice those of specs; 256
    /// more for each item, each task, each call that waits and each hold; about a kilobyte for each object, and 64
    /// for each session that has it open. A message of more than 64 KiB counts while it is received, and a large answer
    /// while it waits for room. Bytes that a message shares with an object count once, until neither uses them.
    ///
    /// An eighth of the limit is reserved for waiting calls and holds, so a client that stores values
    /// cannot block the locks of other clients: items, values, tasks, names and specs take at most seven
    /// eighths. Incoming messages and small objects may take half of the rest. The sessions of one
    /// client together may have at most as many unanswered calls and holds as remain for others. They may create
    /// another object only while the objects that they have open count no more bytes than remain. A client is a process
    /// or, over a network, all processes with one key.
    /// Messages of up to 64 KiB that have arrived in part take at most a sixteenth more. A custom kind counts the
    /// bytes that it keeps with `call.outbox().store(..)`, which gives a [`StoredBytes`](crate::kind::StoredBytes).
    pub stored_bytes: usize,
    /// Bytes of unread answers that the manager keeps for all clients together: 1 GiB by default.
    /// Above it, large answers wait until other answers are read, first come, first served. One process may use
    /// as many bytes as are free, so at most half of them.
    pub unread_bytes: usize,
    /// How long a client may leave its answers unread: 30 seconds by default. The manager closes the connection
    /// of a client that reads nothing for this long while 1 MiB of its answers is unread or one of them waits
    /// for room. While other clients wait for room in [`unread_bytes`](Self::unread_bytes), it also closes the
    /// connection of a client that does not read, within this time, everything that was unread when the time
    /// began. The same holds for a client that does not complete a message, while other clients wait for room
    /// to send theirs.
    pub unread_time: Duration,
    /// How long a client may take until its hello has arrived: ten seconds by default.
    pub handshake_time: Duration,
}

impl Limits {
    /// Returns the limits with a message size that the protocol allows.
    pub(crate) fn in_range(mut self) -> Self {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        self.frame_bytes = self.frame_bytes.clamp(FIRST_FRAME_BYTES, most);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 << 20,
            calls_in_flight: 1 << 20,
            sessions: 100_000,
            objects: 10_000_000,
            name_bytes: 255,
            stored_bytes: 1 << 30,
            unread_bytes: 1 << 30,
            unread_time: Duration::from_secs(30),
            handshake_time: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::cut;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((cut(""), cut("demo")), ("", "demo"));
        assert_eq!(cut(&"x".repeat(256)), "x".repeat(255));
        assert_eq!(cut(&"\u{e9}".repeat(200)), "\u{e9}".repeat(127));
    }
}

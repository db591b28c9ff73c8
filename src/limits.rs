//! `Limits`: all limits that a manager enforces.

use std::time::Duration;

use lockkeeper_protocol::frame::FIRST_FRAME_BYTES;
use serde::{Deserialize, Serialize};

/// The limits that a manager enforces for its clients. A call or a client beyond a limit is refused
/// with an error that names the limit.
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
    /// Bytes of one message: 64 MiB by default. A manager takes a value below 64 KiB as 64 KiB, and one
    /// of 4 GiB or more as 4 GiB less one byte.
    pub frame_bytes: usize,
    /// Calls of one session that wait for an answer: 1,048,576 by default.
    pub calls_in_flight: usize,
    /// Sessions at a time: 100,000 by default, as far as the system has file descriptors.
    pub sessions: usize,
    /// Hosted objects: 10,000,000 by default.
    pub objects: usize,
    /// Bytes of an object's name: 255 by default.
    pub name_bytes: usize,
    /// Bytes that the manager keeps for its clients: 1 GiB by default. Above it, calls for which the
    /// manager would keep more fail with [`Fault::Limit`](crate::errors::Fault::Limit) and change nothing; once
    /// something was removed, taken or released, they can be made again.
    ///
    /// These are the bytes of items, values, tasks and their outcomes, of names and twice those of
    /// specs; 256 for each call that waits and each hold, 128 for each object and 64 for each session
    /// that has it open. A message of more than 64 KiB counts while it comes in, and a large answer while it
    /// waits for room; bytes that it shares with an object count once, until neither has them.
    ///
    /// An eighth of the limit is kept for calls that wait and for holds, so a client that stores values
    /// does not keep others from their locks: items, values, tasks, names and specs take seven eighths at
    /// the most. Incoming messages and small objects may take half of the rest. A kind of your own counts
    /// what it keeps with `call.outbox().store(..)`, which gives a [`Stored`](crate::kind::Stored).
    pub stored_bytes: usize,
    /// Bytes of answers that the manager keeps for all of its clients together until they read them: 1
    /// GiB by default. Above it, large answers wait until others are read, in the order in which they
    /// came to wait.
    pub unread_bytes: usize,
    /// How long a client may leave its answers unread: 30 seconds by default. The manager hangs up a
    /// client that reads nothing for this long while 1 MiB of its answers is unread or one of them
    /// waits for room. While other clients wait for room in [`unread_bytes`](Self::unread_bytes), it
    /// also hangs up a client that does not read, in this time, all that was unread when the time
    /// began.
    pub unread_time: Duration,
    /// How long a client may take to say hello: ten seconds by default.
    pub hello: Duration,
}

impl Limits {
    /// The same with a message size that the protocol allows.
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
            hello: Duration::from_secs(10),
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

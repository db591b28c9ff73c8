//! `Limits`: all limits that a manager enforces.

use std::time::Duration;

use lockkeeper_protocol::frame::FIRST_FRAME_BYTES;
use serde::{Deserialize, Serialize};

/// What a manager takes from its clients at the most. Beyond, they are refused with a clear error.
/// Bytes are those of the whole manager. All other numbers are for each of its
/// [`shards`](crate::ManagerBuilder::shards), where it has several.
///
/// ```
/// use lockkeeper::Limits;
///
/// let limits = Limits { sessions: 100, ..Limits::default() };
/// assert!(limits.frame_bytes > 1_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one message: 64 MiB by default. Less than 64 KiB is taken as that, and more than
    /// 4 GiB as that.
    pub frame_bytes: usize,
    /// Calls of one session that wait for an answer: 1,048,576 by default.
    pub calls_in_flight: usize,
    /// Clients at a time: 100,000 by default, as far as the system has file descriptors.
    pub sessions: usize,
    /// Hosted objects: 10,000,000 by default.
    pub objects: usize,
    /// Bytes of an object's name: 255 by default.
    pub name_bytes: usize,
    /// Bytes that the manager keeps for its clients: 1 GiB by default. Above, calls that would have it
    /// keep more fail with [`Fault::Limit`](crate::Fault::Limit) and change nothing; once something was
    /// removed, taken or released, they can be made again.
    ///
    /// These are the bytes of items, values, tasks and their outcomes, of names and twice those of specs;
    /// 256 for each call that waits and each thing that is held, 128 for each object and 64 for each
    /// session that has it open. What a kind of a program's own keeps counts if it says so with
    /// `call.outbox().store(..)`, which gives a [`Stored`](crate::Stored).
    pub stored_bytes: usize,
    /// Bytes of answers that the manager keeps for all of its clients together until they read them: 1
    /// GiB by default. Beyond, large answers wait until others are read, in the order in which they came.
    pub unread_bytes: usize,
    /// How long a client may leave its answers unread: 30 seconds by default. One that reads nothing for
    /// so long while more than 1 MiB of answers wait for it is hung up; while other clients wait for the
    /// room in [`unread_bytes`](Self::unread_bytes), so is one that does not read in this time all that
    /// is kept for it.
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

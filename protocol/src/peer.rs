//! `Peer`, the process of a session, and `Abandoned`, the mark that it
//! leaves on an object that it held when it ended.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ids::Fence, printable::Printable};

/// Who is at the other end of a session. The names are what the process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Peer {
    /// The process id: the kernel's, where it knows it, as of Unix sockets; else what the client says.
    pub pid: u32,
    /// The name of the program.
    pub program: String,
    /// What the client calls itself, or nothing.
    pub label: String,
    /// Whether the manager notices that the process has ended. Otherwise it notices only the end of the
    /// connection, which a forked child of the process may keep open.
    pub is_watched: bool,
}

impl Peer {
    /// Makes a peer whose end the manager notices.
    #[must_use]
    pub fn new(pid: u32, program: &str, label: &str) -> Self {
        Self {
            pid,
            program: program.to_owned(),
            label: label.to_owned(),
            is_watched: true,
        }
    }

    /// Says that the manager notices only the end of the connection.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self {
            is_watched: false,
            ..self
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            program,
            label,
            is_watched,
        } = self;
        write!(f, "process {pid} ({}", Printable(program))?;
        if !label.is_empty() {
            write!(f, ", {label:?}")?;
        }
        if !is_watched {
            f.write_str(", known by its connection alone")?;
        }
        f.write_str(")")
    }
}

/// What a holder left that ended without releasing: who it was and for how long it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Abandoned {
    /// Who held it.
    pub holder: Peer,
    /// For how long.
    pub held: Duration,
    /// The fence of the abandoned grant.
    pub fence: Fence,
}

impl Abandoned {
    /// Tells what a holder left.
    #[must_use]
    pub const fn new(holder: Peer, held: Duration, fence: Fence) -> Self {
        Self {
            holder,
            held,
            fence,
        }
    }
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (holder, held, fence) = (&self.holder, self.held, self.fence);
        write!(f, "abandoned by {holder} after {held:.1?}, fence {fence}")
    }
}

/// How many bytes are kept of each text that a client says of itself.
const KEPT_BYTES: usize = 255;

/// Cuts a text that is copied into many answers, as what a client calls itself is.
pub fn cut(text: &str) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= KEPT_BYTES).last();
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

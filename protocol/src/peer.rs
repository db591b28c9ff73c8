//! `Peer`, the process of a session, and `Abandoned`, the mark that it leaves on an object if it ends while
//! it holds that object.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ids::Fence, printable::Printable};

/// The process at the other end of a session. It chooses the names itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Peer {
    /// The process id. It is the kernel's, unless [`Self::pid_is_unverified`] is true.
    pub pid: u32,
    /// The name of the program, as the client reports it.
    pub program: String,
    /// The label that the client has chosen, which may be empty.
    pub label: String,
    /// Whether the manager notices the end of the process. Otherwise it notices only the end of the
    /// connection, which a forked child of the process may keep open.
    pub death_is_noticed: bool,
    /// Whether the process id is the client's claim, because the kernel has none for it: the process is outside
    /// of the manager's pid namespace, or not on the manager's machine. A client can claim any id.
    pub pid_is_unverified: bool,
    /// The machine of the process, as the manager sees it, if it may be another one than that of the manager.
    /// Process ids of different machines have nothing to do with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Peer {
    /// Creates a peer with a process id of the kernel's, whose end the manager notices.
    #[must_use]
    pub fn new(pid: u32, program: &str, label: &str) -> Self {
        Self {
            pid,
            program: program.to_owned(),
            label: label.to_owned(),
            death_is_noticed: true,
            pid_is_unverified: false,
            host: None,
        }
    }

    /// Marks the process id as the client's claim.
    #[must_use]
    pub fn with_unverified_pid(self) -> Self {
        Self {
            pid_is_unverified: true,
            ..self
        }
    }

    /// Adds the machine of the process.
    #[must_use]
    pub fn at_host(self, host: Option<String>) -> Self {
        Self { host, ..self }
    }

    /// Marks the peer as one of which the manager notices only the end of the connection.
    #[must_use]
    pub fn with_unnoticed_death(self) -> Self {
        Self {
            death_is_noticed: false,
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
            death_is_noticed,
            pid_is_unverified,
            host,
        } = self;
        write!(f, "process {pid} ")?;
        if let Some(host) = host {
            write!(f, "at {} ", Printable(host))?;
        }
        if *pid_is_unverified {
            f.write_str("by its own account ")?;
        }
        write!(f, "({}", Printable(program))?;
        if !label.is_empty() {
            write!(f, ", {label:?}")?;
        }
        if !death_is_noticed {
            f.write_str(", known by its connection alone")?;
        }
        f.write_str(")")
    }
}

/// The mark of a holder that ended without a release: its process, and how long it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Abandoned {
    /// The process that held it. All marks of one session share it.
    pub holder: Arc<Peer>,
    /// The duration of the hold.
    pub held: Duration,
    /// The fence of the abandoned grant.
    pub fence: Fence,
}

impl Abandoned {
    /// Creates the mark of a holder.
    #[must_use]
    pub fn new(holder: impl Into<Arc<Peer>>, held: Duration, fence: Fence) -> Self {
        Self {
            holder: holder.into(),
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

/// The most bytes that are kept of each name that a client chooses.
const KEPT_BYTES: usize = 255;

/// Shortens a text that is copied into many answers, such as the label of a client.
pub fn cut(text: &str) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= KEPT_BYTES).last();
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

//! `Undecoded`: bytes of a user's type that this process cannot decode.

use std::{error::Error, fmt};

use lockkeeper_protocol::{Printable, PrintableText, codec::Blob};
use serde::{Deserialize, Serialize};

/// An item, a value or the outcome of a task that this process cannot decode: its bytes, and both types.
///
/// It can be serialized, so a task may have it in its output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecoded {
    what: String,
    sent: String,
    wanted: String,
    why: String,
    bytes: Blob,
}

impl Undecoded {
    pub(crate) fn new(what: String, [sent, wanted]: [String; 2], why: String, bytes: Blob) -> Self {
        Self {
            what,
            sent,
            wanted,
            why,
            bytes,
        }
    }

    /// Returns the bytes as they were received: MessagePack, as PROTOCOL.md describes it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.0
    }

    /// Returns the type that was sent: the schema id of the queue or the value, or the type of the task's
    /// output.
    #[must_use]
    pub fn sent(&self) -> &str {
        &self.sent
    }

    /// Returns the type that this process wanted, with the paths of its modules.
    #[must_use]
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// Returns the error of the type's `Deserialize`, or the message of its panic.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Undecoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            sent,
            wanted,
            why,
            bytes: _,
        } = self;
        write!(
            f,
            "{what} cannot be decoded: it was sent as {}, and {} does not read it ({}): \
             use the same type in both programs, or read what was sent by bytes()",
            Printable(sent),
            Printable(wanted),
            PrintableText(why),
        )
    }
}

impl fmt::Debug for Undecoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Undecoded {}

//! `Undecoded`: bytes of a user's type that this process cannot decode.

use std::{error::Error, fmt};

use lockkeeper_protocol::{Printable, PrintableText, codec::Blob};
use serde::{Deserialize, Serialize};

/// The code that has encoded the bytes, on which the advice depends.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Encoder {
    /// A client of the object, in any program.
    Client,
    /// The code of a kind, in the program of the manager.
    Kind,
    /// A worker, which runs the file of this program.
    Worker,
}

impl Encoder {
    const fn advice(self) -> &'static str {
        match self {
            Self::Client => "use the same type in both programs",
            Self::Kind => {
                "let its Deserialize read what its Serialize writes, and build both programs with one \
                 version of it"
            }
            Self::Worker => "let its Deserialize read what its Serialize writes",
        }
    }
}

/// An item, a value, the output of a task or the reply of an own kind that this process cannot decode: its bytes, and both types.
///
/// It can be serialized, so a task may have it in its output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecoded {
    what: String,
    sent: String,
    wanted: String,
    why: String,
    bytes: Blob,
    encoder: Encoder,
}

impl Undecoded {
    pub(crate) fn new(
        encoder: Encoder,
        what: String,
        [sent, wanted]: [String; 2],
        why: String,
        bytes: Blob,
    ) -> Self {
        Self {
            encoder,
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
            encoder,
        } = self;
        write!(
            f,
            "{what} cannot be decoded: it was sent as {}, and {} does not read it ({}): \
             {}, or use bytes() to read what was sent",
            Printable(sent),
            Printable(wanted),
            PrintableText(why),
            encoder.advice(),
        )
    }
}

impl fmt::Debug for Undecoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Undecoded {}

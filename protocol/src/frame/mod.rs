//! Frames: the messages of clients and managers, and how they are cut out of a stream of bytes.
//!
//! | module | contents |
//! | --- | --- |
//! | `messages` | [`Request`] and [`Response`] |
//! | `framing` | writing: a message behind its length |
//! | `inbox` | reading: a stream cut into messages |

pub(crate) mod framing;
pub(crate) mod inbox;
pub(crate) mod messages;

pub use framing::{Encode, append, frames};
pub use inbox::{Inbox, Message};
pub use messages::{FIRST_FRAME_BYTES, MAGIC, Request, Response, VERSION};

#[cfg(test)]
mod tests;

//! Frames: the messages of clients and managers, and how a stream of bytes is split into them.
//!
//! It may import `codec`, `fault`, `inspection` and `shard`.
//!
//! | module | contents |
//! | --- | --- |
//! | `request`, `response` | [`Request`] and [`Response`]: the messages of each side |
//! | `messages` | what both have in common |
//! | `capabilities` | the features of a peer beyond the base of the protocol |
//! | `misread` | the readable part of a malformed message |
//! | `reply` | writes a reply whose body is encoded in place |
//! | `framing` | writes a message after its length |
//! | `inbox` | splits a stream into messages |

pub(crate) mod capabilities;
pub(crate) mod framing;
pub(crate) mod inbox;
pub(crate) mod messages;
pub(crate) mod misread;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod response;

pub use capabilities::{Capabilities, Capability};
pub use framing::{Encode, Named, append, frames};
pub use inbox::{Inbox, Message};
pub use messages::{ANSWER_MARGIN_BYTES, FIRST_FRAME_BYTES, MAGIC, VERSION};
pub use misread::{Misread, faulted};
pub use reply::append_reply;
pub use request::{FormerSession, Request};
pub use response::Response;

#[cfg(test)]
mod tests;

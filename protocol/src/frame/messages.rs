//! What the messages of client and manager share.
//!
//! A frame is a MessagePack array whose first element is the number of the message. PROTOCOL.md
//! documents all of them, and a test compares the document with this code.
//!
//! Invariant: no input of a peer causes a panic, or an allocation larger than the input.

use crate::{codec::error::CodecError, proof::SessionSecret};

/// The first element of every session's first frame.
pub const MAGIC: &str = "lockkeeper";

/// The version of the protocol's base, which both sides must use. Additions to it are
/// [capabilities](crate::frame::Capabilities).
pub const VERSION: u32 = 1;

/// The largest frame, in bytes, before the manager has sent its own limit.
pub const FIRST_FRAME_BYTES: usize = 1 << 16;

/// The difference between the limit of a message and that of a call's arguments and of a spec. What an object
/// keeps of them therefore fits into an answer, with all that goes along with it, such as the peer that
/// abandoned an item.
pub const ANSWER_MARGIN_BYTES: usize = 1 << 10;

/// Decodes the secret of a session.
pub(super) fn secret(bytes: &[u8]) -> Result<SessionSecret, CodecError> {
    let secret = SessionSecret::read(bytes);
    secret.ok_or_else(|| CodecError::new(format!("a secret is not {} bytes", bytes.len())))
}

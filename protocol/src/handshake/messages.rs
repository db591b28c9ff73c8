//! The messages of the handshake, as bytes.
//!
//! They have numbers of their own, because they come before all frames of a session.

use crate::{
    codec::{elements::Elements, error::CodecError, fields::Fields},
    frame::{
        framing::{self, Encode},
        response::Response,
    },
};

/// The version of the handshake. It is separate from the version of the protocol in `Hello`.
pub const HANDSHAKE_VERSION: u32 = 1;

/// The most bytes of a message of the handshake. The limit is low, because the peer is not known yet.
pub const MOST_HANDSHAKE_BYTES: usize = 4096;

/// A number that one side draws for one handshake.
pub type Nonce = [u8; 32];

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The manager refused the client, and says why. The manager has proved nothing, so the text may
    /// come from a third party.
    Refused(String),
    /// The other side speaks another version of the handshake.
    Version(u32),
    /// The other side began a session without a handshake, so it has no key.
    NoProof,
    /// The proof is wrong, so the other side has another key of that name, or a third party relays the
    /// connection.
    WrongProof,
    /// The message is not the expected one.
    BadMessage(String),
}

impl From<CodecError> for HandshakeError {
    fn from(error: CodecError) -> Self {
        Self::BadMessage(error.to_string())
    }
}
/// The client's first message.
#[derive(Debug)]
pub(super) struct Begin<'a> {
    pub(super) key: &'a str,
    pub(super) nonce: Nonce,
    pub(super) shard: u32,
    pub(super) resumes: bool,
}

impl Encode for Begin<'_> {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer)
            .number(BEGIN)
            .number(HANDSHAKE_VERSION);
        all.value(self.key)
            .bytes(&self.nonce)
            .number(self.shard)
            .value(&self.resumes)
            .end()
    }
}

/// A message of a number and 32 bytes, which all others are.
pub(super) struct Short(pub(super) u8, pub(super) [u8; 32]);

impl Encode for Short {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        Elements::begin(buffer).number(self.0).bytes(&self.1).end()
    }
}

pub(super) const BEGIN: u8 = 10;
pub(super) const AUTH: u8 = 11;
pub(super) const CHALLENGE: u8 = 72;
pub(super) const ACCEPTED: u8 = 73;

pub(super) fn encoded(message: &impl Encode) -> Result<Vec<u8>, HandshakeError> {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes, MOST_HANDSHAKE_BYTES)?;
    Ok(bytes)
}

/// Reads the number of a message.
pub(super) fn expect(fields: &mut Fields<'_>, number: u8) -> Result<(), HandshakeError> {
    let found: u8 = fields.number()?;
    if found == number {
        return Ok(());
    }
    Err(HandshakeError::BadMessage(format!(
        "message {found} came in place of message {number}"
    )))
}

/// Reads a message of a number and 32 bytes.
pub(super) fn short(message: &[u8], number: u8) -> Result<[u8; 32], HandshakeError> {
    let mut fields = Fields::of(message)?;
    expect(&mut fields, number)?;
    let bytes = fields.bytes()?;
    let read = bytes.try_into().map_err(|_| {
        HandshakeError::BadMessage(format!(
            "message {number} has {} bytes and not 32",
            bytes.len()
        ))
    })?;
    fields.end()?;
    Ok(read)
}

/// Reads an answer of a manager, which may be a refusal.
pub(super) fn answer(message: &[u8], number: u8) -> Result<[u8; 32], HandshakeError> {
    match Response::decode(message) {
        Ok(Response::Bye { reason }) => Err(HandshakeError::Refused(reason)),
        Ok(_) | Err(_) => short(message, number),
    }
}

/// Appends a message of the handshake to a buffer as a frame.
///
/// # Errors
///
/// Returns an error when it has more than [`MOST_HANDSHAKE_BYTES`].
pub fn append(buffer: &mut Vec<u8>, message: &[u8]) -> Result<(), HandshakeError> {
    Ok(framing::append(
        buffer,
        &Encoded(message),
        MOST_HANDSHAKE_BYTES,
    )?)
}

/// A message that is encoded already.
struct Encoded<'a>(&'a [u8]);

impl Encode for Encoded<'_> {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        buffer.extend_from_slice(self.0);
        Ok(())
    }
}

//! How a later connection resumes the stream of an earlier one.
//!
//! Both sides count the bytes of frames that they have read since the handshake of the first connection. After the
//! handshake of a later one the client sends `Resume` with the secret of the first connection and its count, and the
//! manager answers `Resumed` with its own. Each side then sends again what the other has not read.

use std::fmt;

use crate::{
    codec::{elements::Elements, error::CodecError, fields::Fields},
    frame::{framing::Encode, response::Response},
    handshake::{
        key::{Certificate, Key, Proof, sha256},
        messages::{HandshakeError, encoded, expect},
    },
};

const RESUME: u8 = 12;
const RESUMED: u8 = 74;

/// A secret that only the two sides of a connection know. It is not printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSecret([u8; 32]);

impl ConnectionSecret {
    pub(super) fn of(
        key: &Key,
        certificate: &Certificate,
        messages: [&[u8]; 3],
        accepted: &[u8],
    ) -> Self {
        let [begin, challenge, auth] = messages;
        let messages = [begin, challenge, auth, accepted];
        Self(
            key.proof(Proof::Connection, certificate, &messages)
                .finalize(),
        )
    }

    /// Returns a number by which a manager finds the connection. Neither the number nor the time of a look-up
    /// reveals the secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

impl fmt::Debug for ConnectionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSecret").finish_non_exhaustive()
    }
}

/// The message by which a client resumes the stream of an earlier connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The secret of the first connection of the stream.
    pub secret: ConnectionSecret,
    /// The number of bytes that the client has read since the handshake of that connection.
    pub received: u64,
}

impl Encode for Resume {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer).number(RESUME);
        all.bytes(&self.secret.0).number(self.received).end()
    }
}

impl Resume {
    /// Returns the message to send.
    ///
    /// # Errors
    ///
    /// Returns an error when the message does not encode.
    pub fn message(&self) -> Result<Vec<u8>, HandshakeError> {
        encoded(self)
    }

    /// Reads the message of a client.
    ///
    /// # Errors
    ///
    /// Returns an error when it is another message.
    pub fn read(message: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::of(message)?;
        expect(&mut fields, RESUME)?;
        let secret = fields.bytes()?.try_into();
        let secret = secret.map_err(|_| {
            HandshakeError::BadMessage("the secret of a connection has not 32 bytes".to_owned())
        })?;
        let received = fields.number()?;
        fields.end()?;
        Ok(Self {
            secret: ConnectionSecret(secret),
            received,
        })
    }
}

/// The answer of a manager to a [`Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The number of bytes that the manager has read since the handshake of the first connection.
    pub received: u64,
}

impl Encode for Resumed {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer).number(RESUMED);
        all.number(self.received).end()
    }
}

impl Resumed {
    /// Returns the message to send.
    ///
    /// # Errors
    ///
    /// Returns an error when the message does not encode.
    pub fn message(&self) -> Result<Vec<u8>, HandshakeError> {
        encoded(self)
    }

    /// Reads the answer of a manager.
    ///
    /// # Errors
    ///
    /// Returns [`HandshakeError::Refused`] with the manager's reason, for example that the session has ended.
    pub fn read(message: &[u8]) -> Result<Self, HandshakeError> {
        if let Ok(Response::Bye { reason }) = Response::decode(message) {
            return Err(HandshakeError::Refused(reason));
        }
        let mut fields = Fields::of(message)?;
        expect(&mut fields, RESUMED)?;
        let received = fields.number()?;
        fields.end()?;
        Ok(Self { received })
    }
}

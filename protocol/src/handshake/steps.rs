//! The steps of the handshake, on both sides.
//!
//! Each step consumes the one before, so no step can be left out. Invariant: no proof is printed. The steps have no
//! I/O, no clock and no random numbers.

use std::fmt;

use hmac_sha256::HMAC;

use crate::{
    codec::fields::Fields,
    frame::request::Request,
    handshake::{
        key::{Certificate, Key, Proof},
        messages::{
            ACCEPTED, AUTH, BEGIN, Begin, CHALLENGE, HANDSHAKE_VERSION, HandshakeError, Nonce,
            Short, answer, encoded, short,
        },
        resume::ConnectionSecret,
    },
};

/// A client that waits for `Challenge`.
#[derive(Debug)]
pub struct ClientBegun {
    key: Key,
    certificate: Certificate,
    begin: Vec<u8>,
}

/// A client that waits for `Accepted`.
pub struct ClientProved {
    begun: ClientBegun,
    challenge: Vec<u8>,
    auth: Vec<u8>,
}

impl ClientBegun {
    /// Begins a handshake for a connection to a shard of a manager, which has shown that certificate. With `resumes`
    /// the client then sends a [`Resume`](crate::handshake::resume::Resume).
    ///
    /// # Errors
    ///
    /// Returns an error when the message does not encode.
    pub fn new(
        key: Key,
        certificate: Certificate,
        nonce: Nonce,
        shard: u32,
        resumes: bool,
    ) -> Result<Self, HandshakeError> {
        let begin = encoded(&Begin {
            key: key.name(),
            nonce,
            shard,
            resumes,
        })?;
        Ok(Self {
            key,
            certificate,
            begin,
        })
    }

    /// Returns the message to send.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.begin
    }

    /// Answers the manager's challenge.
    ///
    /// # Errors
    ///
    /// Returns an error when the manager refuses the client, or the message is no challenge.
    pub fn challenged(self, message: &[u8]) -> Result<ClientProved, HandshakeError> {
        answer(message, CHALLENGE)?;
        let proof = self
            .key
            .proof(Proof::Client, &self.certificate, &[&self.begin, message]);
        Ok(ClientProved {
            auth: encoded(&Short(AUTH, proof.finalize()))?,
            challenge: message.to_vec(),
            begun: self,
        })
    }
}

impl ClientProved {
    /// Returns the message to send.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.auth
    }

    /// Checks the manager's proof, and returns the secret of the connection. The client must send nothing else before.
    ///
    /// # Errors
    ///
    /// Returns an error when the manager refuses the client, or does not have the key.
    pub fn accepted(self, message: &[u8]) -> Result<ConnectionSecret, HandshakeError> {
        let proof = answer(message, ACCEPTED)?;
        let Self {
            begun,
            challenge,
            auth,
        } = self;
        let (key, certificate) = (begun.key, begun.certificate);
        let messages = [&*begun.begin, &challenge, &auth];
        check(key.proof(Proof::Manager, &certificate, &messages), &proof)?;
        Ok(ConnectionSecret::of(&key, &certificate, messages, message))
    }
}

/// The proof itself is not printed.
impl fmt::Debug for ClientProved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientProved");
        shown.field("begun", &self.begun).finish_non_exhaustive()
    }
}

/// Compares a proof in a time that does not depend on where it differs.
fn check(own: HMAC, proof: &[u8; 32]) -> Result<(), HandshakeError> {
    match own.finalize_verify(proof) {
        true => Ok(()),
        false => Err(HandshakeError::WrongProof),
    }
}

/// A manager that has read `Begin`.
#[derive(Debug)]
pub struct ManagerBegun {
    begin: Vec<u8>,
    key: String,
    shard: u32,
    resumes: bool,
}

/// A manager that waits for `Auth`.
#[derive(Debug)]
pub struct ManagerChallenged {
    key: Key,
    certificate: Certificate,
    begin: Vec<u8>,
    challenge: Vec<u8>,
}

impl ManagerBegun {
    /// Reads the first message of a client.
    ///
    /// # Errors
    ///
    /// Returns an error when the message begins no handshake of this version.
    pub fn read(message: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::of(message)?;
        let f = &mut fields;
        let number: u8 = f.number()?;
        if number != BEGIN {
            return Err(match Request::decode(message) {
                Ok(_) => HandshakeError::NoProof,
                Err(_) => {
                    HandshakeError::BadMessage(format!("message {number} begins no handshake"))
                }
            });
        }
        let version = f.number()?;
        if version != HANDSHAKE_VERSION {
            // Only the elements before this one are the same in all versions.
            return Err(HandshakeError::Version(version));
        }
        let key = f.text()?.to_owned();
        if f.bytes()?.len() != size_of::<Nonce>() {
            let why = "the number of the client has not 32 bytes".to_owned();
            return Err(HandshakeError::BadMessage(why));
        }
        let shard = f.number()?;
        let resumes = f.truth()?;
        fields.end()?;
        Ok(Self {
            begin: message.to_vec(),
            key,
            shard,
            resumes,
        })
    }

    /// Returns the name of the key that the client says to have.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the shard that the client wants to reach.
    #[must_use]
    pub const fn shard(&self) -> u32 {
        self.shard
    }

    /// Returns whether the client sends a [`Resume`](crate::handshake::resume::Resume) after the handshake.
    #[must_use]
    pub const fn resumes(&self) -> bool {
        self.resumes
    }

    /// Challenges the client to prove that it has the key. The manager has shown that certificate.
    ///
    /// # Errors
    ///
    /// Returns an error when the message does not encode.
    pub fn challenge(
        self,
        key: Key,
        certificate: Certificate,
        nonce: Nonce,
    ) -> Result<ManagerChallenged, HandshakeError> {
        Ok(ManagerChallenged {
            key,
            certificate,
            begin: self.begin,
            challenge: encoded(&Short(CHALLENGE, nonce))?,
        })
    }
}

impl ManagerChallenged {
    /// Returns the message to send.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.challenge
    }

    /// Checks the client's proof, and returns the message that accepts the client and the secret of the connection.
    ///
    /// # Errors
    ///
    /// Returns an error when the client does not have the key.
    pub fn proved(self, message: &[u8]) -> Result<(Vec<u8>, ConnectionSecret), HandshakeError> {
        let proof = short(message, AUTH)?;
        let Self {
            key,
            certificate,
            begin,
            challenge,
        } = self;
        let own = key.proof(Proof::Client, &certificate, &[&begin, &challenge]);
        check(own, &proof)?;
        let messages = [&*begin, &challenge, message];
        let proof = key.proof(Proof::Manager, &certificate, &messages);
        let accepted = encoded(&Short(ACCEPTED, proof.finalize()))?;
        let secret = ConnectionSecret::of(&key, &certificate, messages, &accepted);
        Ok((accepted, secret))
    }
}

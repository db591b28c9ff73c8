//! The handshake before a session over a network: each side proves that it has the shared key.
//!
//! The client sends `Begin`, the manager `Challenge`, the client `Auth`, the manager `Accepted`. A proof is an
//! HMAC-SHA256 under the key over the certificate that the manager showed in this connection, and over all
//! messages before it. So a third party with a certificate of its own can neither answer nor pass on a proof.
//! Each step consumes the one before, so no step can be left out.
//!
//! Invariant: no key and no proof is printed. The module has no I/O, no clock and no random numbers.

use std::fmt;

use hmac_sha256::{HMAC, Hash};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{elements::Elements, error::CodecError, fields::Fields},
    frame::{
        framing::{self, Encode},
        request::Request,
        response::Response,
    },
};

/// The version of the handshake. It is apart from that of the protocol, which `Hello` has.
pub const HANDSHAKE_VERSION: u32 = 1;

/// The most bytes of a message of the handshake. The peer is not known yet, so they are few.
pub const MOST_HANDSHAKE_BYTES: usize = 4096;

/// The fewest bytes of a key.
pub const LEAST_KEY_BYTES: usize = 32;

/// The most bytes of the name of a key.
pub const MOST_KEY_NAME_BYTES: usize = 64;

/// A number that one side draws for one handshake.
pub type Nonce = [u8; 32];

/// A shared key, with the name by which a client tells a manager which one it has.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    name: String,
    secret: Vec<u8>,
}

impl Key {
    /// Creates a key. Returns `None` if the name is empty or too long, or the secret has fewer than
    /// [`LEAST_KEY_BYTES`].
    #[must_use]
    pub fn new(name: &str, secret: Vec<u8>) -> Option<Self> {
        let is_valid =
            (1..=MOST_KEY_NAME_BYTES).contains(&name.len()) && secret.len() >= LEAST_KEY_BYTES;
        is_valid.then(|| Self {
            name: name.to_owned(),
            secret,
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a proof over the messages that both sides have seen.
    fn proof(&self, side: Side, certificate: &Certificate, messages: &[&[u8]]) -> HMAC {
        let mut hmac = HMAC::new(&self.secret);
        let label = match side {
            Side::Client => "lockkeeper client",
            Side::Manager => "lockkeeper manager",
        };
        for part in [label.as_bytes(), &certificate.0].iter().chain(messages) {
            // A part is shorter than 2^64 bytes. The length keeps bytes from moving to the next part.
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hmac.update(length.to_be_bytes());
            hmac.update(part);
        }
        hmac
    }
}

/// The key itself is not printed.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Key");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// The side that makes a proof. A proof of one side is none of the other.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Manager,
}

/// The SHA-256 of the certificate that the manager showed in this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate([u8; 32]);

impl Certificate {
    /// Creates the hash of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Hash::hash(certificate))
    }
}

/// Returns the SHA-256 of bytes, such as those of a public key.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Hash::hash(bytes)
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The manager refused the client, and says why. The manager has proved nothing, so the text may be anybody's.
    Refused(String),
    /// The other side speaks another version of the handshake.
    Version(u32),
    /// The other side began a session without a handshake, so it has no key.
    NoProof,
    /// The proof is wrong, so the other side has another key of that name, or is not the one that this connection
    /// leads to.
    WrongProof,
    /// The message is not the one that follows.
    BadMessage(String),
}

impl From<CodecError> for HandshakeError {
    fn from(error: CodecError) -> Self {
        Self::BadMessage(error.to_string())
    }
}

/// The client's first message.
#[derive(Debug)]
struct Begin<'a> {
    key: &'a str,
    nonce: Nonce,
    shard: u32,
}

impl Encode for Begin<'_> {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        let all = Elements::begin(buffer)
            .number(BEGIN)
            .number(HANDSHAKE_VERSION);
        all.value(self.key)
            .bytes(&self.nonce)
            .number(self.shard)
            .end()
    }
}

/// A message of a number and 32 bytes, which all others are.
struct Short(u8, [u8; 32]);

impl Encode for Short {
    fn encode_into(&self, buffer: &mut Vec<u8>, _: usize) -> Result<(), CodecError> {
        Elements::begin(buffer).number(self.0).bytes(&self.1).end()
    }
}

const BEGIN: u8 = 10;
const AUTH: u8 = 11;
const CHALLENGE: u8 = 72;
const ACCEPTED: u8 = 73;

fn encoded(message: &impl Encode) -> Result<Vec<u8>, HandshakeError> {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes, MOST_HANDSHAKE_BYTES)?;
    Ok(bytes)
}

/// Reads a message of a number and 32 bytes.
fn short(message: &[u8], number: u8) -> Result<[u8; 32], HandshakeError> {
    let mut fields = Fields::of(message)?;
    let found: u8 = fields.number()?;
    if found != number {
        return Err(HandshakeError::BadMessage(format!(
            "message {found} came in place of message {number}"
        )));
    }
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
fn answer(message: &[u8], number: u8) -> Result<[u8; 32], HandshakeError> {
    match Response::decode(message) {
        Ok(Response::Bye { reason }) => Err(HandshakeError::Refused(reason)),
        Ok(_) | Err(_) => short(message, number),
    }
}

/// A client that waits for `Challenge`.
#[derive(Debug)]
pub struct ClientBegun {
    key: Key,
    certificate: Certificate,
    begin: Vec<u8>,
}

/// A client that waits for `Accepted`.
#[derive(Debug)]
pub struct ClientProved {
    begun: ClientBegun,
    challenge: Vec<u8>,
    auth: Vec<u8>,
}

impl ClientBegun {
    /// Begins a handshake for a connection to a shard of a manager, which has shown that certificate.
    ///
    /// # Errors
    ///
    /// Returns an error when the message does not encode.
    pub fn new(
        key: Key,
        certificate: Certificate,
        nonce: Nonce,
        shard: u32,
    ) -> Result<Self, HandshakeError> {
        let begin = encoded(&Begin {
            key: &key.name,
            nonce,
            shard,
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
            .proof(Side::Client, &self.certificate, &[&self.begin, message]);
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

    /// Checks the manager's proof. The client must send nothing else before.
    ///
    /// # Errors
    ///
    /// Returns an error when the manager refuses the client, or has not the key.
    pub fn accepted(self, message: &[u8]) -> Result<(), HandshakeError> {
        let proof = answer(message, ACCEPTED)?;
        let Self {
            begun,
            challenge,
            auth,
        } = self;
        let messages = [&*begun.begin, &challenge, &auth];
        let own = begun
            .key
            .proof(Side::Manager, &begun.certificate, &messages);
        check(own, &proof)
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
        fields.end()?;
        Ok(Self {
            begin: message.to_vec(),
            key,
            shard,
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

    /// Checks the client's proof, and returns the message that accepts the client.
    ///
    /// # Errors
    ///
    /// Returns an error when the client has not the key.
    pub fn proved(self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let proof = short(message, AUTH)?;
        let Self {
            key,
            certificate,
            begin,
            challenge,
        } = self;
        let own = key.proof(Side::Client, &certificate, &[&begin, &challenge]);
        check(own, &proof)?;
        let messages = [&*begin, &challenge, message];
        let proof = key.proof(Side::Manager, &certificate, &messages);
        encoded(&Short(ACCEPTED, proof.finalize()))
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

#[cfg(test)]
mod tests;

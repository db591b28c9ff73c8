//! Shared keys, and the proofs that are made with them.
//!
//! Invariant: no key and no secret is printed.

use std::fmt;

use hmac_sha256::{HMAC, Hash};
use serde::{Deserialize, Serialize};

/// The fewest bytes of a key.
pub const LEAST_KEY_BYTES: usize = 32;

/// The most bytes of the name of a key.
pub const MOST_KEY_NAME_BYTES: usize = 64;

/// A shared key, with the name by which a client identifies it to a manager.
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
    pub(super) fn proof(&self, of: Proof, certificate: &Certificate, messages: &[&[u8]]) -> HMAC {
        let mut hmac = HMAC::new(&self.secret);
        let label = match of {
            Proof::Client => "lockkeeper client",
            Proof::Manager => "lockkeeper manager",
            Proof::Connection => "lockkeeper connection",
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

/// What a proof proves. A proof of one side is not valid as a proof of the other.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    Client,
    Manager,
    /// That both sides have completed the handshake: the secret of the connection, which is never sent in it.
    Connection,
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

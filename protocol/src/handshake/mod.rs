//! The handshake before a session over a network: each side proves that it has the shared key.
//!
//! The client sends `Begin`, the manager `Challenge`, the client `Auth`, the manager `Accepted`. A proof is an
//! HMAC-SHA256 under the key over the certificate that the manager showed in this connection, and over all
//! messages before it. So a third party with a certificate of its own can neither answer nor pass on a proof.
//! Both sides then know the secret of the connection, with which a later connection resumes the stream of this
//! one ([`resume`]).

mod key;
mod messages;
pub mod resume;
mod steps;
#[cfg(test)]
mod tests;

pub use key::{Certificate, Key, LEAST_KEY_BYTES, MOST_KEY_NAME_BYTES, sha256};
pub use messages::{HANDSHAKE_VERSION, HandshakeError, MOST_HANDSHAKE_BYTES, Nonce, append};
pub use resume::ConnectionSecret;
pub use steps::{ClientBegun, ClientProved, ManagerBegun, ManagerChallenged};

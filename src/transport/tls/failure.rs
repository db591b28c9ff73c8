//! The errors of TLS and of the handshake after it, as texts: what the other side did, and what to do.

use std::io;

use lockkeeper_protocol::handshake::{HANDSHAKE_VERSION, HandshakeError};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::transport::tls::identity::OtherFingerprint;

/// Turns an error of TLS into one that says what the other side did.
pub(super) fn of_tls(error: &Error) -> io::Error {
    let why = match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => "the other side does not speak TLS".to_owned(),
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.is::<OtherFingerprint>() =>
        {
            return io::Error::new(io::ErrorKind::PermissionDenied, other.0.to_string());
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("the other side does not speak TLS 1.3 as lockkeeper does ({error})")
        }
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => NOT_OURS.to_owned(),
        other => format!("TLS failed: {other}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The error for a service of another kind.
pub(super) const NOT_OURS: &str = "the other side speaks TLS, but not lockkeeper's protocol";

/// The error for a manager that did not prove its key, to a client with the key of that name.
pub(super) fn of_manager(error: HandshakeError, key: &str) -> io::Error {
    let (kind, why) = match error {
        HandshakeError::Refused(reason) => (
            io::ErrorKind::PermissionDenied,
            format!("a manager is there, but it refused this client: {reason}"),
        ),
        HandshakeError::Version(version) => (io::ErrorKind::InvalidData, of_version(version)),
        HandshakeError::WrongProof => (
            io::ErrorKind::PermissionDenied,
            format!(
                "it does not have the key {key:?} of this client, or a third party intercepts the connection: give both \
                 the same key file"
            ),
        ),
        HandshakeError::NoProof => (
            io::ErrorKind::PermissionDenied,
            "it does not prove that it has a key".to_owned(),
        ),
        HandshakeError::BadMessage(why) => (
            io::ErrorKind::InvalidData,
            format!("it broke the protocol of the handshake: {why}"),
        ),
    };
    io::Error::new(kind, why)
}

/// The reason that a manager gives to a client which did not prove its key of that name.
pub(super) fn of_client(error: HandshakeError, key: &str) -> String {
    match error {
        HandshakeError::Version(version) => of_version(version),
        HandshakeError::NoProof => {
            "a client has to prove its key before it begins a session, and this one did not"
                .to_owned()
        }
        HandshakeError::WrongProof => format!(
            "the key {key:?} of the client differs from that of the manager, or a third party intercepts the \
             connection: give both the same key file"
        ),
        HandshakeError::Refused(why) | HandshakeError::BadMessage(why) => {
            format!("bad handshake: {why}")
        }
    }
}

fn of_version(version: u32) -> String {
    format!(
        "version {version} of the handshake meets version {HANDSHAKE_VERSION}: use the same release of lockkeeper on \
         both sides"
    )
}

//! The errors of TLS and of the handshake after it, as texts: what the other side did, and what to do.

use std::io;

use lockkeeper_protocol::handshake::{HANDSHAKE_VERSION, HandshakeError};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::transport::tls::{credentials::dates, identity::OtherFingerprint};

/// Turns an error of TLS into one that says what the other side did.
pub(super) fn of_tls(error: &Error) -> io::Error {
    if let Error::AlertReceived(alert) = error
        && let Some(why) = of_alert(*alert)
    {
        return io::Error::new(io::ErrorKind::InvalidData, why);
    }
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
        Error::InvalidCertificate(error) => {
            let why = of_certificate(error);
            return io::Error::new(io::ErrorKind::PermissionDenied, why);
        }
        Error::NoCertificatesPresented => {
            "it has shown no certificate, and this manager requires one of its client_ca".to_owned()
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

/// The error for a certificate of the other side that this side does not accept.
fn of_certificate(error: &CertificateError) -> String {
    let why = dates(error).unwrap_or_else(|| match error {
        CertificateError::UnknownIssuer | CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            UNTRUSTED.to_owned()
        }
        #[expect(deprecated, reason = "older releases of rustls report it")]
        CertificateError::UnsupportedSignatureAlgorithm => UNTRUSTED.to_owned(),
        CertificateError::BadSignature => UNTRUSTED.to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "is not for the host of the address ({error}): use an address with a name of the certificate, or have one \
             made for this name"
        ),
        other => format!("is not accepted: {other}"),
    });
    format!("the certificate of the other side {why}")
}

const UNTRUSTED: &str = "is signed by no authority in the CA file: use the CA file of the other side's authority, and \
                         a chain file with all certificates up to it; or a third party intercepts the connection";

/// The error for a certificate of this side that the other side does not accept.
const fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => {
            "the manager requires a certificate of its clients, and this one has none: give it to Manager::client() by \
             certificate(chain_file, key_file)"
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the other side does not accept the certificate of this side, because no authority in its CA file has \
             signed it: use a certificate of that authority, and a chain file with all certificates up to it"
        }
        AlertDescription::CertificateExpired => {
            "the other side does not accept the certificate of this side, because it has expired or is not valid yet by \
             the clock there: renew it, or set the clocks right"
        }
        AlertDescription::UnsupportedCertificate => {
            "the other side does not accept the certificate of this side, because it is for another purpose: a client \
             needs one with the extended key usage clientAuth, and a manager one with serverAuth"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            "the other side does not accept the certificate of this side: its own error says why"
        }
        _ => return None,
    })
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

//! `Identity`: the certificate of a manager with its key pair, and the settings of TLS.
//!
//! No authority has to sign the certificate: the handshake after TLS (`protocol::handshake`) proves that the
//! manager of this certificate has the shared key. With certificate files, authorities are checked in addition. Invariant: no session of TLS is resumed, because a resumed
//! session has no certificate that could be checked.

use std::{fmt, io, sync::Arc};

use lockkeeper_protocol::handshake::{Certificate, sha256};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        ClientConnection, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate, ServerConnection, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    certificate_files::CertificateFiles, network_place::Fingerprint,
    transport::tls::credentials::Credentials,
};

/// The protocol that both sides name in the handshake of TLS, so that other services are noticed.
const PROTOCOL: &[u8] = b"lockkeeper";

/// The name that the client of TLS has to give, if it trusts no authorities. It is neither sent nor checked.
const NAME: &str = "lockkeeper";

/// The certificate that a manager shows to its clients, with its key pair.
#[derive(Clone)]
pub(crate) struct Identity {
    settings: Arc<ServerConfig>,
    own: Arc<CertifiedKey>,
    certificate: Certificate,
    wants_certificates: bool,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Makes a key pair, as PKCS #8 in DER.
    ///
    /// # Errors
    ///
    /// Returns an error when the system provides no random numbers.
    pub(crate) fn make() -> io::Result<Vec<u8>> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(pair.map_err(io::Error::other)?.serialize_der())
    }

    /// Signs a certificate with a key pair.
    ///
    /// # Errors
    ///
    /// Returns an error when the bytes are not a key pair of [`Self::make`].
    pub(crate) fn of(pair: &[u8]) -> io::Result<Self> {
        let der = PrivatePkcs8KeyDer::from(pair.to_vec());
        // The error of rcgen may not contain the bytes.
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is no key pair");
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        let pair = pair.map_err(|_| damaged())?;
        let parameters = CertificateParams::new([NAME.to_owned()]).map_err(io::Error::other)?;
        let certificate = parameters.self_signed(&pair).map_err(io::Error::other)?;
        let certificate = certificate.der().clone();
        let own = CertifiedKey::from_der(vec![certificate], PrivateKeyDer::Pkcs8(der), &provider());
        let own = Arc::new(own.map_err(|_| damaged())?);
        Self::showing(own, None).map_err(io::Error::other)
    }

    /// Shows the certificate of the files in place of this one, if they have one, and asks clients for a certificate of
    /// the authorities in them.
    ///
    /// # Errors
    ///
    /// Returns which file cannot be used, and why.
    pub(super) fn with(&self, files: &CertificateFiles) -> Result<Self, String> {
        if files.is_empty() {
            return Ok(self.clone());
        }
        let Credentials { own, trusted } = Credentials::read(files, &provider())?;
        let own = own.unwrap_or_else(|| Arc::clone(&self.own));
        Self::showing(own, trusted).map_err(|error| format!("TLS cannot begin: {error}"))
    }

    fn showing(own: Arc<CertifiedKey>, clients: Option<Arc<RootCertStore>>) -> Result<Self, Error> {
        let certificate = own.end_entity_cert()?;
        let (hash, fingerprint) = (Certificate::of(certificate), fingerprint(certificate)?);
        let wants_certificates = clients.is_some();
        let settings =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let settings = match clients {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build();
                let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
                settings.with_client_cert_verifier(verifier)
            }
            None => settings.with_no_client_auth(),
        };
        let shown = SingleCertAndKey::from(Arc::clone(&own));
        let mut settings = settings.with_cert_resolver(Arc::new(shown));
        settings.send_tls13_tickets = 0;
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self {
            settings: Arc::new(settings),
            own,
            certificate: hash,
            wants_certificates,
            fingerprint,
        })
    }

    /// Returns the fingerprint of the public key.
    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) const fn certificate(&self) -> Certificate {
        self.certificate
    }

    /// Returns whether each client has to show a certificate.
    pub(super) const fn wants_certificates(&self) -> bool {
        self.wants_certificates
    }

    /// Begins TLS as the manager of a connection.
    pub(super) fn begin(&self) -> Result<rustls::Connection, Error> {
        let connection = ServerConnection::new(Arc::clone(&self.settings))?;
        Ok(rustls::Connection::Server(connection))
    }
}

/// Nothing of the key pair is printed.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Identity");
        shown
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Reads the certificate files of a client.
///
/// # Errors
///
/// Returns which file cannot be used, and why.
pub(super) fn credentials(files: &CertificateFiles) -> Result<Credentials, String> {
    Credentials::read(files, &provider())
}

/// Begins TLS as the client of a connection to a host. The public key must have the fingerprint, if one is given, and
/// one of the trusted authorities must have signed the certificate for the host, if there are any.
pub(super) fn begin_client(
    host: &str,
    pinned: Option<Fingerprint>,
    credentials: Credentials,
) -> Result<rustls::Connection, Error> {
    let is_checked = credentials.trusted.is_some();
    let authorities = match credentials.trusted {
        Some(roots) => {
            let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider());
            let authorities = authorities.build();
            Some(authorities.map_err(|error| Error::General(error.to_string()))?)
        }
        None => None,
    };
    let verifier = Arc::new(Verifier {
        pinned,
        authorities,
        provider: provider(),
    });
    let settings = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut settings = match credentials.own {
        Some(own) => settings.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => settings.with_no_client_auth(),
    };
    settings.resumption = Resumption::disabled();
    settings.enable_sni = false;
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    let name = if is_checked { host } else { NAME };
    let name = ServerName::try_from(name.to_owned());
    let name =
        name.map_err(|_| Error::General(format!("no certificate is for a host {host:?}")))?;
    let connection = ClientConnection::new(Arc::new(settings), name)?;
    Ok(rustls::Connection::Client(connection))
}

/// Returns whether the other side has named the protocol too.
pub(super) fn is_ours(connection: &rustls::Connection) -> bool {
    connection.alpn_protocol() == Some(PROTOCOL)
}

/// The default provider of a program panics if two crates bring different ones, so it is always named.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns the fingerprint of the public key of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Fingerprint(sha256(&parsed.subject_public_key_info())))
}

/// Checks that the manager has the key pair of its certificate, and the fingerprint of an address, and that an authority
/// has signed it.
#[derive(Debug)]
struct Verifier {
    pinned: Option<Fingerprint>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
        }
        let Some(expected) = self.pinned else {
            return Ok(ServerCertVerified::assertion());
        };
        let got = fingerprint(certificate)?;
        if got == expected {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherError(Arc::new(OtherFingerprint { expected, got }));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }

    /// TLS 1.2 is never spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("it speaks TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// The error for a public key that is not the one of the address.
#[derive(Debug)]
pub(super) struct OtherFingerprint {
    expected: Fingerprint,
    got: Fingerprint,
}

impl fmt::Display for OtherFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, got } = self;
        write!(
            f,
            "its public key has the fingerprint {got}, and the address has {expected}: if the manager has got a new \
             state folder, use its new address, else a third party intercepts the connection"
        )
    }
}

impl std::error::Error for OtherFingerprint {}

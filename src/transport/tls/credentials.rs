//! `Credentials`: the certificates in the files of one side, read and checked.
//!
//! Invariant: no error quotes a private key.

use std::sync::Arc;

use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{PemObject, SectionKind},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::certificate_files::{CertificateFiles, PemFile};

/// What one side shows, and whom it trusts.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    /// The certificate of this side with its private key.
    pub(super) own: Option<Arc<CertifiedKey>>,
    /// The authorities that sign the certificates of the other side.
    pub(super) trusted: Option<Arc<RootCertStore>>,
}

impl Credentials {
    /// Reads the certificates in files.
    ///
    /// # Errors
    ///
    /// Returns which file cannot be used, at which line and why.
    pub(super) fn read(
        files: &CertificateFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let own = match &files.own {
            Some((chain, key)) => Some(read_own(chain, key, provider)?),
            None => None,
        };
        let trusted = match &files.ca {
            Some(file) => Some(read_authorities(file)?),
            None => None,
        };
        Ok(Self { own, trusted })
    }
}

/// A section of a PEM file, with the number of the line at which it begins.
type Section = (usize, (SectionKind, Vec<u8>));

/// Reads the sections of a PEM file.
fn sections(file: &PemFile) -> Result<Vec<Section>, String> {
    let text = file.text()?;
    let begins = (1..).zip(text.lines());
    let mut begins = begins.filter_map(|(number, line)| {
        let kind = line.strip_prefix("-----BEGIN ")?;
        // rustls skips sections of other kinds.
        let kind = kind.trim_end().trim_end_matches('-');
        SectionKind::try_from(kind.as_bytes()).ok()?;
        Some(number)
    });
    let all = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
    all.map(|section| {
        let line = begins.next().unwrap_or(1);
        // The error of PEM may quote the file.
        let broken = |_| {
            file.failure(format!(
                "the section that begins at line {line} is no whole PEM: copy the file again"
            ))
        };
        section.map(|section| (line, section)).map_err(broken)
    })
    .collect()
}

/// Reads the certificates of a PEM file, of which there is at least one.
fn certificates(file: &PemFile) -> Result<Vec<(usize, CertificateDer<'static>)>, String> {
    let all = sections(file)?.into_iter();
    let all =
        all.filter_map(|(line, (kind, der))| Some((line, CertificateDer::from_pem(kind, der)?)));
    let all: Vec<_> = all.collect();
    for (line, certificate) in &all {
        if ParsedCertificate::try_from(certificate).is_err() {
            return Err(file.failure(format!(
                "the section that begins at line {line} is no X.509 certificate"
            )));
        }
    }
    if all.is_empty() {
        let why = "it has no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
        return Err(file.failure(why));
    }
    Ok(all)
}

fn read_own(
    chain_file: &PemFile,
    key_file: &PemFile,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(chain_file)?;
    let (first, _) = *chain
        .first()
        .ok_or_else(|| chain_file.failure("it is empty"))?;
    let chain: Vec<_> = chain.into_iter().map(|(_, it)| it).collect();
    check_dates(&chain, provider).map_err(|why| {
        chain_file.failure(format!("the certificate that begins at line {first} {why}"))
    })?;
    let mut keys = sections(key_file)?.into_iter();
    let key =
        keys.find_map(|(line, (kind, der))| Some((line, PrivateKeyDer::from_pem(kind, der)?)));
    let (line, key) = key.ok_or_else(|| {
        key_file.failure(
            "it has no private key in PEM that is not encrypted: write one with `openssl pkey -in FILE`",
        )
    })?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(own) => Ok(Arc::new(own)),
        Err(Error::InconsistentKeys(_)) => Err(key_file.failure(format!(
            "the key that begins at line {line} does not belong to the first certificate of the chain: {}",
            chain_file.failure("its first certificate has to be the one of this key")
        ))),
        // The error of a key may not quote it.
        Err(_) => Err(key_file.failure(format!(
            "the key that begins at line {line} is damaged or of an unknown kind: use one of RSA, ECDSA or Ed25519"
        ))),
    }
}

fn read_authorities(file: &PemFile) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for (line, certificate) in certificates(file)? {
        roots.add(certificate).map_err(|error| {
            file.failure(format!(
                "the certificate that begins at line {line} is not one of an authority ({error})"
            ))
        })?;
    }
    Ok(Arc::new(roots))
}

/// Checks the dates of the first certificate. A verifier checks them before it looks for an authority, which only the
/// other side knows.
fn check_dates(
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        return Ok(());
    };
    // Without an authority, the other side finds out.
    let Ok(()) = roots.add(last.clone()) else {
        return Ok(());
    };
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from("lockkeeper")) else {
        return Ok(());
    };
    let rest = chain.get(1..).unwrap_or_default();
    match verifier.verify_server_cert(first, rest, &name, &[], UnixTime::now()) {
        Err(Error::InvalidCertificate(error)) => dates(&error).map_or(Ok(()), Err),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns what is wrong with the dates of a certificate, if the error is about them.
pub(super) fn dates(error: &CertificateError) -> Option<String> {
    let days = |from: UnixTime, to: UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
    Some(match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "has expired {} days ago: renew it, or set the clock of this machine right",
            days(*not_after, *time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "is not valid for another {} days: wait, or set the clock of this machine right",
            days(*time, *not_before)
        ),
        CertificateError::Expired => "has expired: renew it".to_owned(),
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        _ => return None,
    })
}

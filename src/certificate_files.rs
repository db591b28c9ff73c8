//! Certificate files: the PEM files by which the sides of a network connection trust each other, beside the key.
//!
//! A manager and a client have the same files: their own chain with its private key, and the authorities that sign the
//! other side's. Here they are paths and text; `transport/tls/credentials.rs` reads the certificates in them. A child
//! process gets the files of its parent by the lifeline (`HandedCertificates`).
//!
//! Invariant: no text of a file is printed.

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{self, Path, PathBuf},
};

use lockkeeper_protocol::Printable;
use lockkeeper_sys::Inherited;
use serde::{Deserialize, Serialize};

use crate::given_file::{self, Stamp};

/// The variables with the paths of the files of clients that choose none.
const CA_VARIABLE: &str = "LOCKKEEPER_CA_FILE";
const CHAIN_VARIABLE: &str = "LOCKKEEPER_CERTIFICATE_FILE";
const KEY_VARIABLE: &str = "LOCKKEEPER_CERTIFICATE_KEY_FILE";

/// A PEM file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PemFile {
    path: PathBuf,
    /// Whether it has a private key, so that other users must not read it.
    is_private: bool,
    /// What the parent process has read, for a file that is not readable here.
    handed: Option<String>,
}

impl PemFile {
    fn new(path: &Path, is_private: bool) -> Self {
        Self {
            // A relative path means the same after a change of the folder, and in another process.
            path: path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            is_private,
            handed: None,
        }
    }

    /// Returns the error for this file.
    pub(crate) fn failure(&self, why: impl fmt::Display) -> String {
        if self.is_private {
            format!("cannot use the private key file {self}: {why}")
        } else {
            format!("cannot use the certificate file {self}: {why}")
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file, when it cannot be read or other users may read a private key.
    pub(crate) fn text(&self) -> Result<String, String> {
        match (given_file::read(&self.path, self.is_private), &self.handed) {
            (Ok((text, _)), _) => Ok(text),
            (Err(_), Some(handed)) => Ok(handed.clone()),
            (Err(why), None) => Err(self.failure(why)),
        }
    }

    /// With what the file has now, for another process. That process gets the error of a file that has none.
    fn read(self) -> Self {
        let handed = self.text().ok();
        Self { handed, ..self }
    }
}

/// The path.
impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable(&self.path.to_string_lossy()), f)
    }
}

/// The text may be a private key.
impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PemFile");
        shown.field("path", &self.path).finish_non_exhaustive()
    }
}

/// The certificate files of one side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CertificateFiles {
    /// The chain that this side shows, and its private key.
    pub(crate) own: Option<(PemFile, PemFile)>,
    /// The authorities that sign the certificates of the other side.
    pub(crate) ca: Option<PemFile>,
}

impl CertificateFiles {
    pub(crate) fn set_own(&mut self, chain: &Path, key: &Path) {
        self.own = Some((PemFile::new(chain, false), PemFile::new(key, true)));
    }

    pub(crate) fn set_ca(&mut self, file: &Path) {
        self.ca = Some(PemFile::new(file, false));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.own.is_none() && self.ca.is_none()
    }

    fn of_environment() -> Result<Self, String> {
        let mut files = Self::default();
        if let Some(ca) = env::var_os(CA_VARIABLE) {
            files.set_ca(Path::new(&ca));
        }
        match (env::var_os(CHAIN_VARIABLE), env::var_os(KEY_VARIABLE)) {
            (Some(chain), Some(key)) => files.set_own(Path::new(&chain), Path::new(&key)),
            (None, None) => {}
            (Some(_), None) => {
                return Err(format!(
                    "{CHAIN_VARIABLE} is set and {KEY_VARIABLE} is not: set both"
                ));
            }
            (None, Some(_)) => {
                return Err(format!(
                    "{KEY_VARIABLE} is set and {CHAIN_VARIABLE} is not: set both"
                ));
            }
        }
        Ok(files)
    }

    /// Takes from others what these have not.
    fn or(self, others: Self) -> Self {
        Self {
            own: self.own.or(others.own),
            ca: self.ca.or(others.ca),
        }
    }

    fn map(self, change: impl Fn(PemFile) -> PemFile) -> Self {
        Self {
            own: self.own.map(|(chain, key)| (change(chain), change(key))),
            ca: self.ca.map(change),
        }
    }

    /// With what the files have now, for another process.
    pub(crate) fn read(self) -> Self {
        self.map(PemFile::read)
    }

    /// Without what was read: a file that has become unreadable is an error again.
    pub(crate) fn unread(self) -> Self {
        self.map(|file| PemFile {
            handed: None,
            ..file
        })
    }

    /// What changes when one of the files is replaced or written.
    pub(crate) fn stamps(&self) -> Vec<Option<Stamp>> {
        let own = self.own.iter().flat_map(|(chain, key)| [chain, key]);
        let all = own.chain(&self.ca);
        all.map(|file| Stamp::of_file(&file.path)).collect()
    }
}

/// The certificate files of a client, as a parent process hands them to a child by the lifeline.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HandedCertificates(BTreeMap<String, CertificateFiles>);

/// The files of this process as a client, by endpoint; those for all others have an empty name. A forked child
/// inherits them.
static SOURCES: Inherited<BTreeMap<String, CertificateFiles>> = Inherited::new(BTreeMap::new());

/// Chooses files for an endpoint. Those that were chosen before and are not given now stay.
pub(crate) fn choose(endpoint: String, files: CertificateFiles) {
    SOURCES.with(|sources| {
        let earlier = sources.remove(&endpoint).unwrap_or_default();
        sources.insert(endpoint, files.or(earlier));
    });
}

fn default_files() -> Result<CertificateFiles, String> {
    match SOURCES.with(|sources| sources.get("").cloned()) {
        Some(handed) => Ok(handed),
        None => CertificateFiles::of_environment(),
    }
}

/// Returns the files for an endpoint, which may be none.
///
/// # Errors
///
/// Returns an error when only one of two variables is set that belong together.
pub(crate) fn files_for(endpoint: &str) -> Result<CertificateFiles, String> {
    let chosen = SOURCES.with(|sources| sources.get(endpoint).cloned());
    let chosen = chosen.unwrap_or_default();
    if chosen.own.is_some() && chosen.ca.is_some() {
        return Ok(chosen);
    }
    Ok(chosen.or(default_files()?))
}

/// Returns the files of this process for a child.
pub(crate) fn hand_over() -> HandedCertificates {
    let mut all = SOURCES.with(|sources| sources.clone());
    // The child has the same variables, and gets the error.
    if let Ok(files) = default_files() {
        all.insert(String::new(), files);
    }
    let all = all.into_iter();
    HandedCertificates(all.map(|(endpoint, it)| (endpoint, it.read())).collect())
}

/// Takes the files of the parent process.
pub(crate) fn take_over(handed: HandedCertificates) {
    SOURCES.with(|sources| sources.extend(handed.0));
}

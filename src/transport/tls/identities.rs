//! `Identities`: the identity of a manager, with certificate files that are read again when they have changed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    certificate_files::CertificateFiles, given_file::Stamp, network_place::Fingerprint,
    transport::tls::identity::Identity,
};

/// The identity that a manager shows now. The clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Identities(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The one of the state folder.
    made: Identity,
    files: CertificateFiles,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    identity: Identity,
    stamps: Vec<Option<Stamp>>,
}

impl Identities {
    /// Reads the files, which may be none.
    ///
    /// # Errors
    ///
    /// Returns which file cannot be used, and why.
    pub(crate) fn open(made: Identity, files: CertificateFiles) -> Result<Self, String> {
        let stamps = files.stamps();
        let identity = made.with(&files)?;
        Ok(Self(Arc::new(Inner {
            made,
            // What a parent process has read is only for the start: it may be revoked later.
            files: files.unread(),
            latest: Mutex::new(Latest { identity, stamps }),
        })))
    }

    /// Returns the fingerprint for addresses, if the key pair is that of the state folder. One in a file may be
    /// replaced at any time.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        let Inner { made, files, .. } = &*self.0;
        files.own.is_none().then(|| made.fingerprint())
    }

    /// Returns the identity for the next connection, and the error of files that have changed and cannot be used:
    /// once, and the identity stays as it was.
    pub(super) fn current(&self) -> (Identity, Option<String>) {
        let Inner {
            made,
            files,
            latest,
        } = &*self.0;
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = files.stamps();
        if stamps == latest.stamps {
            return (latest.identity.clone(), None);
        }
        latest.stamps = stamps;
        match made.with(files) {
            Ok(identity) => {
                latest.identity = identity.clone();
                (identity, None)
            }
            Err(why) => (latest.identity.clone(), Some(why)),
        }
    }
}

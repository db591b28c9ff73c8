//! The key pair of a manager in its state folder, so that clients can pin its fingerprint over restarts.

use std::{
    fs::{self, Permissions},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::{
    error::{StartError, lack},
    files,
    transport::tls::identity::Identity,
};

/// The name of the file, and of the one that becomes it once it is whole.
const NAME: &str = "tls-key";
const NEW: &str = "tls-key.new";

/// The beginning of the file: its format and the version of that.
const HEADING: &[u8] = b"lockkeeper tls key 1\n";

/// The most bytes of the file.
const MOST_BYTES: u64 = 4096;

/// Reads the key pair in a state folder, or makes one. The manager has the folder locked.
///
/// # Errors
///
/// Returns [`StartError::BadState`] when the file is damaged or cannot be written.
pub(super) fn open(folder: &Path) -> Result<Identity, StartError> {
    let path = folder.join(NAME);
    let failed = |error: io::Error| StartError::BadState {
        folder: folder.to_owned(),
        why: format!("{}: {}", path.display(), lack(&error)),
    };
    let damaged = |why: String| {
        let why = format!("{why}: remove it; the endpoints then get another fingerprint");
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    match files::open(&path, is_ours) {
        Ok(file) => {
            let mut bytes = Vec::new();
            let read = file.take(MOST_BYTES).read_to_end(&mut bytes);
            read.map_err(failed)?;
            let pair = bytes.strip_prefix(HEADING).unwrap_or_default();
            let identity = Identity::of(pair);
            identity.map_err(|error| failed(damaged(error.to_string())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pair = Identity::make().map_err(failed)?;
            write(folder, &pair).map_err(failed)?;
            Identity::of(&pair).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn write(folder: &Path, pair: &[u8]) -> io::Result<()> {
    let new = folder.join(NEW);
    let file = files::open_or_create(&new, 0o600, is_ours)?;
    // A file that is there already may have another mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    files::write_all(&file, &[HEADING, pair].concat())?;
    file.sync_all()?;
    fs::rename(&new, folder.join(NAME))?;
    fs::File::open(folder)?.sync_all()
}

/// Returns whether a file that is not empty is such a file, or the beginning of one.
fn is_ours(beginning: &[u8]) -> bool {
    beginning.starts_with(HEADING) || HEADING.starts_with(beginning)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn fingerprint_stays_the_same_until_the_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        // A manager was killed while it wrote the first one.
        fs::write(folder.path().join(NEW), &HEADING[..7]).unwrap();
        let first = open(folder.path()).unwrap().fingerprint();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(open(folder.path()).unwrap().fingerprint(), first);
        fs::remove_file(&path).unwrap();
        assert_ne!(open(folder.path()).unwrap().fingerprint(), first);
    }

    #[test]
    fn damaged_or_foreign_file_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        open(folder.path()).unwrap();
        let whole = fs::read(&path).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        for bytes in [b"".to_vec(), half, HEADING.to_vec(), b"of others".to_vec()] {
            fs::write(&path, &bytes).unwrap();
            let error = open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("tls-key"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}

//! Reads the files that an operator gives to a process: keys and certificates.
//!
//! Invariant: no error quotes a file, which may be secret.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::SystemTime,
};

use rustix::fs::OFlags;

use crate::files::{self, own_uid};

/// The most bytes of a private file.
const MOST_FILE_BYTES: u64 = 1 << 16;

/// The most bytes of a file with certificates: those of all public authorities take a quarter of a mebibyte.
const MOST_PUBLIC_BYTES: u64 = 1 << 20;

/// Reads a file of a limited length. A private one is refused if another user may have read or written it.
///
/// # Errors
///
/// Returns the reason, which quotes nothing of the file.
pub(crate) fn read(path: &Path, is_private: bool) -> Result<(String, Stamp), String> {
    let told = |error: io::Error| error.to_string();
    let opened = File::options()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path);
    let file = opened.map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if is_private {
        check_access(&metadata)?;
    } else if !metadata.is_file() {
        return Err(format!("it is {}, and no file", files::describe(&metadata)));
    }
    let mut text = String::new();
    let most = if is_private {
        MOST_FILE_BYTES
    } else {
        MOST_PUBLIC_BYTES
    };
    // The error of bytes that are not UTF-8 does not contain them.
    file.take(most + 1)
        .read_to_string(&mut text)
        .map_err(told)?;
    if text.len() as u64 > most {
        return Err(format!("it has more than {most} bytes"));
    }
    Ok((text, Stamp::of(&metadata)))
}

/// Refuses a file that another user may have read or written.
fn check_access(metadata: &Metadata) -> Result<(), String> {
    let (own, uid) = (own_uid(), metadata.uid());
    let what = files::describe(metadata);
    if !metadata.is_file() {
        return Err(format!("it is {what}, and no file"));
    }
    if uid != own && uid != 0 {
        return Err(format!(
            "it is {what}, whose owner is neither uid {own} nor root: have a copy made for uid {own}"
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "it is {what}, so other users may read or write it: chmod 600 it, and replace the key if others \
             have seen it"
        ));
    }
    Ok(())
}

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// Returns the stamp of a file, if it is there.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        Some(Self::of(&fs::metadata(path).ok()?))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

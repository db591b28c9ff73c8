//! The lock file beside a socket, locked for the lifetime of its manager.
//!
//! Invariant: the locked file is the one at the path, not one that was removed in the meantime.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lockkeeper_protocol::MAX_SHARDS;

/// A file that is locked for as long as this lasts, and then removed.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Says how many shards the manager has.
    file: File,
}

/// As many digits are read of the number of shards.
const MOST_DIGITS: u64 = 4;

impl Lock {
    /// Keeps a file that is locked.
    pub(super) const fn of(path: PathBuf, file: File) -> Self {
        Self { path, file }
    }

    /// How many shards the manager had that was killed here, if one was.
    pub(super) fn shards(&self) -> u32 {
        let mut text = String::new();
        // Whatever else it says is not of a manager that could have more than one.
        let read = (&self.file).take(MOST_DIGITS).read_to_string(&mut text);
        let said = read.ok().and_then(|_| text.parse().ok());
        said.filter(|said| *said <= MAX_SHARDS).unwrap_or(1)
    }

    /// Writes down how many there are to be.
    pub(super) fn note(&self, shards: u32) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(shards.to_string().as_bytes())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = remove_if_there(&self.path);
    }
}

/// Where the lock of a socket is.
pub(super) fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Locks a file, `None` if a live process has it locked.
pub(super) fn lock_exclusively(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last owner may have removed the file between our opening and our locking it.
        let ours = file.metadata()?;
        match fs::metadata(path) {
            Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {
                return Ok(Some(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a live process has a file locked.
pub(super) fn is_locked(path: &Path) -> bool {
    let locked = File::open(path).map(|file| file.try_lock());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}

/// Removes a file. One that is not there is removed.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

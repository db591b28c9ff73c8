//! `SocketFile`: the claim of a manager to a path: its folder, its lock file and its sockets.
//!
//! Invariant: the claim is a lock on a file beside the socket, which the kernel releases when the process
//! ends in any way. So the socket of a killed manager is replaced, and that of a running one never. A
//! manager of several shards has one lock and a socket for each shard.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use lockkeeper_protocol::{MAX_SHARDS, Shard};

use crate::{
    address::{ANONYMOUS, Address, user_folder},
    error::StartError,
    files::own_uid,
    server::claim::lock_file::{Lock, is_locked, lock_exclusively, lock_path, remove_if_there},
    transport::unix::{UnixListener, UnixStream},
};

/// How often a new manager retries while another one sweeps the folder, and the pause in between.
const SWEEP_TRIES: u32 = 50;

const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// How long to try to connect to a socket of another program at the path.
const FOREIGN_PATIENCE: Duration = Duration::from_millis(100);

/// The socket file of one shard, claimed by the lock of its manager. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Shared by all sockets of one manager. Dropped after the socket is removed.
    _lock: Arc<Lock>,
}

impl SocketFile {
    /// Claims the path of an address for a manager of so many shards, and binds their sockets.
    ///
    /// # Errors
    ///
    /// Returns an error when a live manager has the address, when it is no usable path, or when
    /// the folder is open to others.
    pub(super) fn claim_all(
        address: &Address,
        path: &Path,
        shards: u32,
    ) -> Result<Vec<(Self, UnixListener)>, StartError> {
        check(address, path)?;
        prepare_folder(address, path)?;
        let lock_path = lock_path(path);
        let Some(file) = lock(address, &lock_path).map_err(|error| failed(address, &error))? else {
            return Err(StartError::AddressInUse {
                address: address.clone(),
            });
        };
        let lock = Arc::new(Lock::of(lock_path, file));
        let left = lock.shards();
        clear_leftovers(address, left, shards)?;
        // Noted before binding: after a kill, the next manager has to know how many to remove.
        lock.note(shards).map_err(|error| failed(address, &error))?;
        let bind = |shard| {
            let address = address.of(shard);
            let path = path_of(&address);
            let listener = UnixListener::bind(&path).map_err(|error| failed(&address, &error))?;
            let _lock = Arc::clone(&lock);
            Ok((Self { path, _lock }, listener))
        };
        Shard::all(shards).map(bind).collect()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If this fails, the next manager removes the socket.
        let _ = remove_if_there(&self.path);
    }
}

/// The path of an address that has one.
fn path_of(address: &Address) -> PathBuf {
    address.path().unwrap_or_else(|| Path::new("")).to_owned()
}

/// Locks the lock file of the address. `None` if a running manager has it.
fn lock(address: &Address, lock_path: &Path) -> io::Result<Option<File>> {
    for _ in 0..SWEEP_TRIES {
        match lock_exclusively(lock_path)? {
            // Anonymous addresses are unique, so the lock is held by a manager that sweeps.
            None if address.is_name() => thread::sleep(SWEEP_PAUSE),
            lock => return Ok(lock),
        }
    }
    Ok(None)
}

/// Removes the sockets of a killed manager of `left` shards, including those beyond `shards`. No
/// running manager has bound them, because the lock is ours; another program may have.
fn clear_leftovers(address: &Address, left: u32, shards: u32) -> Result<(), StartError> {
    for shard in Shard::all(left.max(shards)) {
        let address = address.of(shard);
        let path = path_of(&address);
        let is_wanted = shard.index() < shards;
        let remains = match Remains::at(&path) {
            // Another manager has claimed that path as its own address and does not listen yet.
            Remains::Dead if shard.index() > 0 && is_locked(&lock_path(&path)) => Remains::Alive,
            remains => remains,
        };
        match remains {
            Remains::Nothing => {}
            Remains::Dead => {
                remove_if_there(&path).map_err(|error| failed(&address, &error))?;
            }
            Remains::Alive if is_wanted => return Err(StartError::AddressInUse { address }),
            Remains::NoSocket if is_wanted => {
                return Err(unusable(&address, NO_SOCKET.to_owned()));
            }
            Remains::Alive | Remains::NoSocket => {}
        }
    }
    Ok(())
}

/// What is at the path where a socket is to be bound.
enum Remains {
    Nothing,
    /// A socket without a listener.
    Dead,
    Alive,
    NoSocket,
}

/// The error for a file at the path that is no socket.
const NO_SOCKET: &str = "there is a file that is no socket: remove it, or use another address";

impl Remains {
    fn at(path: &Path) -> Self {
        let Ok(there) = fs::symlink_metadata(path) else {
            return Self::Nothing;
        };
        if !there.file_type().is_socket() {
            return Self::NoSocket;
        }
        // Only a refusal proves that there is no listener.
        match UnixStream::connect(path, FOREIGN_PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Dead,
            Ok(_) | Err(_) => Self::Alive,
        }
    }
}

/// Refuses paths that cannot be a socket, before anything is created or removed.
fn check(address: &Address, path: &Path) -> Result<(), StartError> {
    address.check_length()?;
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err(unusable(address, NO_SOCKET.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn unusable(address: &Address, why: String) -> StartError {
    StartError::BadAddress {
        address: address.clone(),
        why,
    }
}

fn failed(address: &Address, error: &io::Error) -> StartError {
    unusable(address, error.to_string())
}

/// Creates the folder if needed, and sweeps it if it is this user's runtime folder.
fn prepare_folder(address: &Address, path: &Path) -> Result<(), StartError> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(address, &error))?;
    if folder == user_folder() {
        let metadata = fs::symlink_metadata(folder).map_err(|error| failed(address, &error))?;
        if !is_private(&metadata) {
            let why = format!("{} is not a folder of this user alone", folder.display());
            return Err(unusable(address, why));
        }
        sweep(folder);
    }
    Ok(())
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.uid() == own_uid() && metadata.mode() & 0o077 == 0
}

/// Removes the sockets of anonymous managers that were killed.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(socket) = name.strip_suffix(".lock")
            && socket.starts_with(ANONYMOUS)
            && let Ok(Some(_lock)) = lock_exclusively(&entry.path())
        {
            // Errors mean that another sweep was quicker.
            let path = folder.join(socket);
            let Ok(address) = Address::try_from(path) else {
                continue;
            };
            for shard in Shard::all(MAX_SHARDS) {
                let _ = remove_if_there(&path_of(&address.of(shard)));
            }
            let _ = remove_if_there(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net;

    use super::*;

    fn address(folder: &tempfile::TempDir, name: &str) -> Address {
        folder.path().join(name).try_into().expect("a path")
    }

    fn stake_all(
        address: &Address,
        shards: u32,
    ) -> Result<Vec<(SocketFile, UnixListener)>, StartError> {
        SocketFile::claim_all(address, address.path().expect("it is a path"), shards)
    }

    fn stake(address: &Address) -> Result<Vec<(SocketFile, UnixListener)>, StartError> {
        stake_all(address, 1)
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), "precious").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        for name in ["data", "folder"] {
            let refused = stake(&address(&folder, name)).unwrap_err();
            assert!(
                matches!(refused, StartError::BadAddress { .. }),
                "{refused}"
            );
        }
        assert_eq!(
            fs::read_to_string(folder.path().join("data")).unwrap(),
            "precious"
        );
        assert_eq!(files(&folder), 2);
    }

    #[test]
    fn the_socket_of_another_living_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let refused = stake(&address(&folder, "socket")).unwrap_err();
        assert!(
            matches!(refused, StartError::AddressInUse { .. }),
            "{refused}"
        );
        assert_eq!(files(&folder), 1);
        drop(foreign);
        let taken_over = stake(&address(&folder, "socket")).unwrap();
        assert!(stake(&address(&folder, "socket")).is_err());
        drop(taken_over);
        assert_eq!(files(&folder), 0);
    }

    #[test]
    fn all_shards_are_claimed_together_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let claims = stake_all(&address(&folder, "socket"), 3).unwrap();
        // Three sockets and one lock.
        assert_eq!(files(&folder), 4);
        assert!(stake(&address(&folder, "socket")).is_err());
        assert!(stake(&address(&folder, "socket.2")).is_err());
        drop(claims);
        assert_eq!(files(&folder), 0);
        let foreign = net::UnixListener::bind(folder.path().join("socket.1")).unwrap();
        let refused = stake_all(&address(&folder, "socket"), 3).unwrap_err();
        let at = address(&folder, "socket.1");
        assert_eq!(refused, StartError::AddressInUse { address: at });
        assert_eq!(files(&folder), 1);
        drop(foreign);
        let other = lock_exclusively(&folder.path().join("socket.1.lock")).unwrap();
        let refused = stake_all(&address(&folder, "socket"), 3).unwrap_err();
        assert!(matches!(refused, StartError::AddressInUse { .. }));
        drop(stake(&address(&folder, "socket")).unwrap());
        assert_eq!(files(&folder), 2, "the socket and lock of another manager");
        drop(other);
        fs::remove_file(folder.path().join("socket.1.lock")).unwrap();
        fs::write(folder.path().join("socket.2"), "precious").unwrap();
        let refused = stake_all(&address(&folder, "socket"), 3).unwrap_err();
        assert!(matches!(refused, StartError::BadAddress { .. }));
        // What nobody listens at goes, and what is no socket stays.
        drop(stake(&address(&folder, "socket")).unwrap());
        assert_eq!(files(&folder), 1);
    }

    #[test]
    fn longest_address_has_room_for_all_shards() {
        let folder = tempfile::tempdir().unwrap();
        let room = 100 - folder.path().as_os_str().len() - 1;
        let longest = address(&folder, &"x".repeat(room));
        drop(stake_all(&longest, MAX_SHARDS).unwrap());
        let longer = address(&folder, &"x".repeat(room + 1));
        let refused = stake(&longer).unwrap_err();
        assert!(matches!(refused, StartError::Address(_)));
        assert_eq!(files(&folder), 0);
    }
}

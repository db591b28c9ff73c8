//! `Claim`: the exclusive right of a running manager to its address: folder, lock file and sockets.
//!
//! Invariant: the claim is a lock on a file beside the socket, which the kernel releases when the process
//! ends in any way. So the socket of a killed manager is replaced, and that of a running one never. A
//! manager of several shards has one lock and a socket for each shard.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    },
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use lockkeeper_protocol::{MAX_SHARDS, Shard, ShardOf};

use crate::{
    address::{ANONYMOUS, Address, MOST_PATH_BYTES, own_uid, runtime_folder},
    error::StartError,
    server::claim::lock_file::{Lock, is_locked, lock_exclusively, lock_path, remove_if_there},
    transport::unix::{UnixListener, UnixStream},
};

/// How often, and how long in between, a new manager waits for others that clear the folder.
const SWEEP_TRIES: u32 = 50;

pub(crate) const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// How long a foreign program whose socket is in the way may take to be found alive.
const FOREIGN_PATIENCE: Duration = Duration::from_millis(100);

/// The right to be reached at an address, as one shard of a manager. Its end removes the socket.
#[derive(Debug)]
pub(crate) struct Claim {
    address: Address,
    shard_of: ShardOf,
    /// All claims of one manager are by one lock. It goes after the socket.
    _lock: Arc<Lock>,
}

impl Claim {
    /// Claims an address for a manager of one shard, and binds its socket.
    ///
    /// # Errors
    ///
    /// As [`Self::stake_all`].
    pub(crate) fn stake(address: &Address) -> Result<(Self, UnixListener), StartError> {
        let claimed = Self::stake_all(address, 1)?.pop();
        claimed.ok_or_else(|| unusable(address, "it has no shard".to_owned()))
    }

    /// Claims an address for a manager of so many shards, and binds their sockets.
    ///
    /// # Errors
    ///
    /// Returns an error when a live manager has the address, when it is no usable path, or when
    /// the folder is open to others.
    pub(crate) fn stake_all(
        address: &Address,
        shards: u32,
    ) -> Result<Vec<(Self, UnixListener)>, StartError> {
        let path = address.path();
        check(path).map_err(|why| unusable(address, why))?;
        prepare_folder(address)?;
        let lock_path = lock_path(path);
        let Some(file) = lock(address, &lock_path).map_err(|error| failed(address, &error))? else {
            return Err(StartError::AddressInUse {
                address: address.clone(),
            });
        };
        let lock = Arc::new(Lock::of(lock_path, file));
        // Not before it is locked: a manager that was here before counted up until its end.
        let incarnation = incarnation();
        let left = lock.shards();
        clear_leftovers(address, left, shards)?;
        // Before they are bound: whoever comes after a kill has to know of them.
        lock.note(shards).map_err(|error| failed(address, &error))?;
        let bind = |shard| {
            let address = address.of(shard);
            let listener =
                UnixListener::bind(address.path()).map_err(|error| failed(&address, &error))?;
            let claim = Self {
                address,
                shard_of: ShardOf { incarnation, shard },
                _lock: Arc::clone(&lock),
            };
            Ok((claim, listener))
        };
        Shard::all(shards).map(bind).collect()
    }

    /// What is claimed.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// As which shard of which manager.
    pub(crate) const fn shard_of(&self) -> ShardOf {
        self.shard_of
    }
}

/// Locks the file that claims the address, `None` if a live manager has it.
fn lock(address: &Address, lock_path: &Path) -> io::Result<Option<File>> {
    for _ in 0..SWEEP_TRIES {
        match lock_exclusively(lock_path)? {
            // No other manager has such a name, so it is one that sweeps.
            None if address.is_anonymous() => thread::sleep(SWEEP_PAUSE),
            lock => return Ok(lock),
        }
    }
    Ok(None)
}

/// Removes the sockets that a manager of so many shards left which was killed here, also where there
/// are to be fewer. No manager alive has bound them, but some other program may have.
fn clear_leftovers(address: &Address, left: u32, shards: u32) -> Result<(), StartError> {
    for shard in Shard::all(left.max(shards)) {
        let address = address.of(shard);
        let is_wanted = shard.index() < shards;
        let remains = match Remains::at(address.path()) {
            // A manager of its own is there, which does not listen yet.
            Remains::Dead if shard.index() > 0 && is_locked(&lock_path(address.path())) => {
                Remains::Alive
            }
            remains => remains,
        };
        match remains {
            Remains::Nothing => {}
            Remains::Dead => {
                remove_if_there(address.path()).map_err(|error| failed(&address, &error))?;
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

impl Drop for Claim {
    fn drop(&mut self) {
        // What cannot be removed is taken over by the next manager.
        let _ = remove_if_there(self.address.path());
    }
}

/// A number that no other start of a manager has: what fences and session ids count up from.
fn incarnation() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos())
        .unwrap_or(u64::MAX >> 1)
        .max(1)
}

/// What is where a socket is to be.
pub(crate) enum Remains {
    Nothing,
    /// A socket that nobody listens at.
    Dead,
    Alive,
    NoSocket,
}

/// What is said of a file that is in the way.
pub(crate) const NO_SOCKET: &str =
    "there is a file that is no socket: remove it, or use another address";

impl Remains {
    pub(crate) fn at(path: &Path) -> Self {
        let Ok(there) = fs::symlink_metadata(path) else {
            return Self::Nothing;
        };
        if !there.file_type().is_socket() {
            return Self::NoSocket;
        }
        // Whatever else it answers, only a refusal means that nobody listens.
        match UnixStream::connect(path, FOREIGN_PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Dead,
            Ok(_) | Err(_) => Self::Alive,
        }
    }
}

/// Refuses what cannot be a socket, before anything is made or removed there.
fn check(path: &Path) -> Result<(), String> {
    if !path.is_absolute()
        || path.file_name().is_none()
        || path.as_os_str().as_bytes().ends_with(b"/")
    {
        return Err("an address is a name, or the path of a socket".to_owned());
    }
    if path.as_os_str().len() > MOST_PATH_BYTES {
        return Err(format!(
            "a socket's path has at most {MOST_PATH_BYTES} bytes"
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err(NO_SOCKET.to_owned()),
        Ok(_) | Err(_) => Ok(()),
    }
}

pub(crate) fn unusable(address: &Address, why: String) -> StartError {
    StartError::BadAddress {
        address: address.clone(),
        why,
    }
}

pub(crate) fn failed(address: &Address, error: &io::Error) -> StartError {
    unusable(address, error.to_string())
}

/// Makes sure of the folder, and clears this user's own of what killed managers left.
fn prepare_folder(address: &Address) -> Result<(), StartError> {
    let Some(folder) = address.path().parent() else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(address, &error))?;
    if folder == runtime_folder() {
        let metadata = fs::symlink_metadata(folder).map_err(|error| failed(address, &error))?;
        if !is_private(&metadata) {
            let why = format!("{} is not a folder of this user alone", folder.display());
            return Err(StartError::BadAddress {
                address: address.clone(),
                why,
            });
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
            // Another sweep may be quicker; then there is nothing left to do.
            let path = folder.join(socket);
            let address = Address(path.to_string_lossy().into());
            for shard in Shard::all(MAX_SHARDS) {
                let _ = remove_if_there(address.of(shard).path());
            }
            let _ = remove_if_there(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn address(folder: &tempfile::TempDir, name: &str) -> Address {
        Address::from(folder.path().join(name).to_str().expect("a path of ASCII"))
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), "precious").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        for name in ["data", "folder", "folder/"] {
            let refused = Claim::stake(&address(&folder, name)).unwrap_err();
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
        let foreign = UnixListener::bind(folder.path().join("socket")).unwrap();
        let refused = Claim::stake(&address(&folder, "socket")).unwrap_err();
        assert!(
            matches!(refused, StartError::AddressInUse { .. }),
            "{refused}"
        );
        assert_eq!(files(&folder), 1);
        drop(foreign);
        let taken_over = Claim::stake(&address(&folder, "socket")).unwrap();
        assert!(Claim::stake(&address(&folder, "socket")).is_err());
        drop(taken_over);
        assert_eq!(files(&folder), 0);
    }

    #[test]
    fn all_shards_are_claimed_together_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claim::stake_all(&address(&folder, "socket"), 3).unwrap();
        // Three sockets and one lock.
        assert_eq!(files(&folder), 4);
        assert!(Claim::stake(&address(&folder, "socket")).is_err());
        assert!(Claim::stake(&address(&folder, "socket.2")).is_err());
        drop(claims);
        assert_eq!(files(&folder), 0);
        let foreign = UnixListener::bind(folder.path().join("socket.1")).unwrap();
        let refused = Claim::stake_all(&address(&folder, "socket"), 3).unwrap_err();
        let at = address(&folder, "socket.1");
        assert_eq!(refused, StartError::AddressInUse { address: at });
        assert_eq!(files(&folder), 1);
        drop(foreign);
        let other = lock_exclusively(&folder.path().join("socket.1.lock")).unwrap();
        let refused = Claim::stake_all(&address(&folder, "socket"), 3).unwrap_err();
        assert!(matches!(refused, StartError::AddressInUse { .. }));
        drop(Claim::stake(&address(&folder, "socket")).unwrap());
        assert_eq!(files(&folder), 2, "the socket and lock of another manager");
        drop(other);
        fs::remove_file(folder.path().join("socket.1.lock")).unwrap();
        fs::write(folder.path().join("socket.2"), "precious").unwrap();
        let refused = Claim::stake_all(&address(&folder, "socket"), 3).unwrap_err();
        assert!(matches!(refused, StartError::BadAddress { .. }));
        // What nobody listens at goes, and what is no socket stays.
        drop(Claim::stake(&address(&folder, "socket")).unwrap());
        assert_eq!(files(&folder), 1);
    }

    #[test]
    fn longest_address_has_room_for_all_shards() {
        let folder = tempfile::tempdir().unwrap();
        let room = MOST_PATH_BYTES - folder.path().as_os_str().len() - 1;
        let longest = address(&folder, &"x".repeat(room));
        drop(Claim::stake_all(&longest, MAX_SHARDS).unwrap());
        let longer = address(&folder, &"x".repeat(room + 1));
        let refused = Claim::stake(&longer).unwrap_err();
        assert!(matches!(refused, StartError::BadAddress { .. }));
        assert_eq!(files(&folder), 0);
    }

    #[test]
    fn an_empty_name_is_no_address() {
        for name in ["", ".", ".."] {
            let refused = Claim::stake(&Address::from(name)).unwrap_err();
            assert!(
                matches!(refused, StartError::BadAddress { .. }),
                "{refused}"
            );
        }
    }
}

//! Where a manager is reached, and the claim of a living manager to be reached there.
//!
//! Invariant: an address is claimed by a lock on a file beside the socket, which the kernel lets
//! go when its process ends in whatever way. So a socket that a killed manager left is taken over,
//! and that of a live one never. A manager of several arbiters has a socket for each, and one lock.

mod lock;

use std::{
    env, fmt,
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use self::lock::{Lock, is_locked, lock_exclusively, lock_path};
use crate::{
    StartError,
    part::{Home, MOST_ARBITERS, Part},
    wire::{Door, Socket},
};

/// Where a manager is reached: the path of its socket.
///
/// A text with a slash is a path; one without is a name in this user's own folder, which is
/// `lockkeeper` in `$XDG_RUNTIME_DIR`, or `lockkeeper-<uid>` in the folder for temporary files.
///
/// ```
/// let address = lockkeeper::Address::from("/run/build/locks.sock");
/// assert_eq!(address.to_string(), "/run/build/locks.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Address(Arc<str>);

impl Address {
    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// An address that no other manager has.
    pub(crate) fn unused() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::from(format!("{ANONYMOUS}{}-{count}", process::id()).as_str())
    }

    /// Where that arbiter of the manager at this address is reached: the first one here.
    pub(crate) fn of(&self, part: Part) -> Self {
        match part.index() {
            0 => self.clone(),
            index => Self(format!("{}.{index}", self.0).into()),
        }
    }

    /// Where the manager is whose arbiter is reached here.
    pub(crate) fn of_manager(&self, part: Part) -> Option<Self> {
        match part.index() {
            0 => Some(self.clone()),
            index => {
                let manager = self.0.strip_suffix(&format!(".{index}"))?;
                Some(Self(manager.into()))
            }
        }
    }

    /// Locks the file that claims the address, `None` if a live manager has it.
    fn lock(&self, lock_path: &Path) -> io::Result<Option<File>> {
        for _ in 0..SWEEP_TRIES {
            match lock_exclusively(lock_path)? {
                // No other manager has such a name, so it is one that sweeps.
                None if self.is_anonymous() => thread::sleep(SWEEP_PAUSE),
                lock => return Ok(lock),
            }
        }
        Ok(None)
    }

    /// Whether it is a manager's that was given none.
    fn is_anonymous(&self) -> bool {
        let name = self.path().file_name().unwrap_or_default();
        name.as_bytes().starts_with(ANONYMOUS.as_bytes())
    }

    /// Removes the sockets that a manager of so many arbiters left which was killed here, also where there
    /// are to be fewer. No manager alive has bound them, but some other program may have.
    fn clear_leftovers(&self, left: u32, arbiters: u32) -> Result<(), StartError> {
        for part in Part::all(left.max(arbiters)) {
            let address = self.of(part);
            let is_wanted = part.index() < arbiters;
            let remains = match Remains::at(address.path()) {
                // A manager of its own is there, which does not listen yet.
                Remains::Dead if part.index() > 0 && is_locked(&lock_path(address.path())) => {
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
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if matches!(text, "" | "." | "..") {
            return Self(text.into());
        }
        if !text.contains('/') {
            return Self(
                runtime_folder()
                    .join(format!("{text}.sock"))
                    .to_string_lossy()
                    .into(),
            );
        }
        match std::path::absolute(text) {
            Ok(path) => Self(path.to_string_lossy().into()),
            Err(_) => Self(text.into()),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.as_ref().to_owned()
    }
}

impl std::str::FromStr for Address {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the sockets of managers without an address of their choice begin with.
const ANONYMOUS: &str = "manager-";

/// How often, and how long in between, a new manager waits for others that clear the folder.
const SWEEP_TRIES: u32 = 50;
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// How long a foreign program whose socket is in the way may take to be found alive.
const FOREIGN_PATIENCE: Duration = Duration::from_millis(100);

/// The longest path that fits a socket's address, with the end that those of arbiters have.
const MOST_PATH_BYTES: usize = 100;

/// This user's folder for sockets.
fn runtime_folder() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(folder) if folder.is_dir() => folder.join("lockkeeper"),
        Some(_) | None => env::temp_dir().join(format!("lockkeeper-{}", own_uid())),
    }
}

/// The user that this process acts as.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The right to be reached at an address, as one arbiter of a manager. Its end removes the socket.
#[derive(Debug)]
pub(crate) struct Claim {
    address: Address,
    home: Home,
    /// All claims of one manager are by one lock. It goes after the socket.
    _lock: Arc<Lock>,
}

impl Claim {
    /// Claims an address for a manager of one arbiter, and binds its socket.
    ///
    /// # Errors
    ///
    /// As [`Self::stake_all`].
    pub(crate) fn stake(address: &Address) -> Result<(Self, Door), StartError> {
        let claimed = Self::stake_all(address, 1)?.pop();
        claimed.ok_or_else(|| unusable(address, "it has no arbiter".to_owned()))
    }

    /// Claims an address for a manager of so many arbiters, and binds their sockets.
    ///
    /// # Errors
    ///
    /// Returns an error when a live manager has the address, when it is no usable path, or when
    /// the folder is open to others.
    pub(crate) fn stake_all(
        address: &Address,
        arbiters: u32,
    ) -> Result<Vec<(Self, Door)>, StartError> {
        let path = address.path();
        check(path).map_err(|why| unusable(address, why))?;
        prepare_folder(address)?;
        let lock_path = lock_path(path);
        let Some(file) = address
            .lock(&lock_path)
            .map_err(|error| failed(address, &error))?
        else {
            return Err(StartError::AddressInUse {
                address: address.clone(),
            });
        };
        let lock = Arc::new(Lock::of(lock_path, file));
        // Not before it is locked: a manager that was here before counted up until its end.
        let incarnation = incarnation();
        let left = lock.arbiters();
        address.clear_leftovers(left, arbiters)?;
        // Before they are bound: whoever comes after a kill has to know of them.
        lock.note(arbiters)
            .map_err(|error| failed(address, &error))?;
        let bind = |part| {
            let address = address.of(part);
            let door = Door::bind(address.path()).map_err(|error| failed(&address, &error))?;
            let claim = Self {
                address,
                home: Home { incarnation, part },
                _lock: Arc::clone(&lock),
            };
            Ok((claim, door))
        };
        Part::all(arbiters).map(bind).collect()
    }

    /// What is claimed.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// As which arbiter of which manager.
    pub(crate) const fn home(&self) -> Home {
        self.home
    }
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
enum Remains {
    Nothing,
    /// A socket that nobody listens at.
    Dead,
    Alive,
    NoSocket,
}

/// What is said of a file that is in the way.
const NO_SOCKET: &str = "there is a file that is no socket: remove it, or use another address";

impl Remains {
    fn at(path: &Path) -> Self {
        let Ok(there) = fs::symlink_metadata(path) else {
            return Self::Nothing;
        };
        if !there.file_type().is_socket() {
            return Self::NoSocket;
        }
        // Whatever else it answers, only a refusal means that nobody listens.
        match Socket::connect(path, FOREIGN_PATIENCE) {
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

fn unusable(address: &Address, why: String) -> StartError {
    StartError::BadAddress {
        address: address.clone(),
        why,
    }
}

fn failed(address: &Address, error: &io::Error) -> StartError {
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
            for part in Part::all(MOST_ARBITERS) {
                let _ = remove_if_there(address.of(part).path());
            }
            let _ = remove_if_there(&entry.path());
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
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
    fn all_arbiters_are_claimed_together_or_none() {
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
    fn address_of_an_arbiter_tells_that_of_its_manager() {
        let folder = tempfile::tempdir().unwrap();
        let manager = address(&folder, "socket");
        for part in Part::all(MOST_ARBITERS) {
            assert_eq!(manager.of(part).of_manager(part), Some(manager.clone()));
        }
        let [zero, one] = [0, 1].map(|index| Part::new(index, 2).unwrap());
        assert_eq!(manager.of(zero), manager);
        assert_eq!(manager.of_manager(one), None);
    }

    #[test]
    fn longest_address_has_room_for_all_arbiters() {
        let folder = tempfile::tempdir().unwrap();
        let room = MOST_PATH_BYTES - folder.path().as_os_str().len() - 1;
        let longest = address(&folder, &"x".repeat(room));
        drop(Claim::stake_all(&longest, MOST_ARBITERS).unwrap());
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

//! `SocketFile`: the claim of a manager to a path, which consists of the folder, the claim file and the
//! sockets.
//!
//! Invariant: a manager replaces the socket of a killed manager, and never that of a running one. A manager
//! of several shards has one claim and a socket for each shard. It identifies its sockets, and those of a
//! killed manager, by device and inode, and changes or removes no other file at the path.

use std::{
    fmt::Display,
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use lockkeeper_protocol::Shard;
use lockkeeper_sys::{Origin, Private};

use crate::{
    access::Access,
    address::{ANONYMOUS, Address, user_folder},
    error::{StartError, lack},
    files::{self, FileId, own_uid},
    server::claim::{
        access_list,
        lock_file::{ClaimAttempt, Lock, SUFFIX, lock_exclusively, lock_path},
        sockets::StaleSockets,
    },
    transport::unix::{UnixListener, UnixStream},
};

/// The number of attempts to lock a claim file that another process has locked, and the pause between two
/// attempts. A manager that sweeps the folder locks the file briefly. So does a child that a killed manager
/// had just started, until the child executes its own program.
const TRIES: u32 = 50;

const PAUSE: Duration = Duration::from_millis(2);

/// The timeout of a connection attempt to a socket of another program at the path.
const FOREIGN_PATIENCE: Duration = Duration::from_millis(100);

/// The socket file of one shard, claimed by the lock of its manager. Dropping it removes the file, but not in
/// a forked child.
#[derive(Debug)]
pub(super) struct SocketFile {
    origin: Origin,
    address: Address,
    shard: Shard,
    path: PathBuf,
    id: FileId,
    shared: Arc<Shared>,
}

/// The state that the sockets of one manager share. It is dropped after the sockets are removed.
#[derive(Debug)]
struct Shared {
    lock: Lock,
    access: Access,
    /// The lock that keeps systemd-tmpfiles from the user's own folder, also after the folder was created
    /// again.
    folder: Mutex<Option<Private<File>>>,
}

impl SocketFile {
    /// Claims the path of an address for a manager of `shards` shards, and binds their sockets.
    ///
    /// # Errors
    ///
    /// Returns an error when a live manager has the address, when the path is unusable, or when the folder is
    /// open to other users.
    pub(super) fn claim_all(
        address: &Address,
        path: &Path,
        shards: u32,
        access: &Access,
    ) -> Result<Vec<(Self, UnixListener)>, StartError> {
        address.check_length()?;
        if let Ok(there) = fs::symlink_metadata(path)
            && let Some(why) = no_socket(&there)
        {
            return Err(unusable(address, path, &why));
        }
        let folder = prepare_folder(address, path, access)?;
        let Some((lock, stale)) = lock(address, path, shards)? else {
            return Err(StartError::AddressInUse {
                address: address.clone(),
            });
        };
        clear_stale(address, &stale, shards).inspect_err(|_| {
            if has_stale(address, &stale) {
                lock.keep_file();
            }
        })?;
        let shared = Arc::new(Shared {
            lock,
            access: access.clone(),
            folder: Mutex::new(folder),
        });
        let bind = |shard| {
            let address = address.of(shard);
            let path = path_of(&address);
            let bound = bind(&path, shard, &shared);
            let (listener, id) =
                bound.map_err(|(file, error)| unusable(&address, &file, &lack(&error)))?;
            let shared = Arc::clone(&shared);
            let socket = Self {
                origin: Origin::here(),
                address,
                shard,
                path,
                id,
                shared,
            };
            Ok((socket, listener))
        };
        Shard::all(shards).map(bind).collect()
    }

    /// Returns whether the socket is missing. Binding it again may take long, because the folder is swept
    /// first.
    pub(super) fn is_missing(&self) -> bool {
        matches!(FileId::at(&self.path), Ok(None))
    }

    /// Checks whether the claim holds and the path still leads to this socket. If there is no file at the path,
    /// binds the socket again and returns its listener.
    ///
    /// # Errors
    ///
    /// Returns the reason if the address is lost.
    pub(super) fn look(&mut self) -> Result<Option<UnixListener>, String> {
        let Shared {
            lock,
            access,
            folder,
        } = &*self.shared;
        let there = FileId::at(&self.path);
        if matches!(there, Ok(None)) {
            // A step that fails now may succeed at the next check.
            if let Ok(Some(kept)) = prepare_folder(&self.address, &self.path, access) {
                *folder.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            }
        }
        lock.look()?;
        match there {
            Ok(Some(id)) if id == self.id => {
                files::keep_fresh(&self.path);
                Ok(None)
            }
            Ok(Some(_)) => Err(lock.lose(format!(
                "another program has put its own file at {}",
                self.path.display()
            ))),
            Ok(None) => {
                let Ok((listener, id)) = bind(&self.path, self.shard, &self.shared) else {
                    return Ok(None);
                };
                self.id = id;
                Ok(Some(listener))
            }
            Err(_) => Ok(None),
        }
    }

    /// Returns the reason if the address is lost.
    pub(super) fn lost(&self) -> Option<&str> {
        self.shared.lock.lost()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // If this fails, the next manager removes the socket.
            let _ = files::remove(&self.path, self.id);
        }
    }
}

/// Binds the socket of a shard at a path, lists it in the claim file, applies the access list, and returns the
/// file's id.
///
/// # Errors
///
/// Returns the error with the path of the file that it is about.
fn bind(
    path: &Path,
    shard: Shard,
    Shared { lock, access, .. }: &Shared,
) -> Result<(UnixListener, FileId), (PathBuf, io::Error)> {
    let about_socket = |error| (path.to_owned(), error);
    let about_claim = |error| (lock.path().to_owned(), error);
    lock.list(shard, None).map_err(about_claim)?;
    let listener =
        UnixListener::bind(path).map_err(|error| about_socket(files::explain(path, &error)))?;
    let id = FileId::at(path).and_then(|id| Ok(id.ok_or(io::ErrorKind::NotFound)?));
    let id = id.map_err(about_socket)?;
    let mut ready = lock.list(shard, Some(id)).map_err(about_claim);
    if ready.is_ok() && !access.is_private() {
        ready = access_list::set(path, id, access).map_err(about_socket);
    }
    if ready.is_err() {
        let _ = files::remove(path, id);
    }
    ready.map(|()| (listener, id))
}

/// Returns the path of an address that has one.
fn path_of(address: &Address) -> PathBuf {
    address.path().unwrap_or_else(|| Path::new("")).to_owned()
}

/// Claims the path, and returns the sockets of a killed manager at it. Returns `None` if a running manager has
/// it.
fn lock(
    address: &Address,
    path: &Path,
    shards: u32,
) -> Result<Option<(Lock, StaleSockets)>, StartError> {
    for _ in 0..TRIES {
        let claimed = Lock::claim(path, shards);
        match claimed.map_err(|error| unusable(address, &lock_path(path), &lack(&error)))? {
            ClaimAttempt::Ours(lock, stale) => return Ok(Some((*lock, stale))),
            ClaimAttempt::Named => return Ok(None),
            ClaimAttempt::Locked => thread::sleep(PAUSE),
        }
    }
    Ok(None)
}

/// Removes the sockets of a killed manager, also those beyond `shards`, and checks that the paths of all shards
/// are free.
fn clear_stale(address: &Address, stale: &StaleSockets, shards: u32) -> Result<(), StartError> {
    for shard in stale.shards() {
        let address = address.of(shard);
        let path = path_of(&address);
        let removed = remove_stale(&path, shard, stale);
        removed.map_err(|error| unusable(&address, &path, &files::explain(&path, &error)))?;
    }
    // The list of this manager replaces the former list, so sockets of the former list beyond `shards` are
    // removed too.
    let mut listed = stale.shards().map(|shard| (address.of(shard), shard));
    if let Some((address, _)) = listed.find(|(address, shard)| is_there(address, *shard, stale)) {
        return Err(StartError::AddressInUse { address });
    }
    for shard in Shard::all(shards) {
        let address = address.of(shard);
        let path = path_of(&address);
        match Remains::at(&path) {
            Remains::Nothing => {}
            Remains::Alive => return Err(StartError::AddressInUse { address }),
            Remains::Foreign(why) => return Err(unusable(&address, &path, &why)),
        }
    }
    Ok(())
}

/// Removes the socket of a killed manager at a path, and leaves any other file.
fn remove_stale(path: &Path, shard: Shard, stale: &StaleSockets) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        // A child of the killed manager may still have the socket, and serve it.
        Ok(there) if stale.has(shard, &there) && !has_listener(path) => {
            files::remove(path, FileId::of(&there))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns whether a socket of a killed manager is still at one of its paths.
fn has_stale(address: &Address, stale: &StaleSockets) -> bool {
    let mut shards = stale.shards();
    shards.any(|shard| is_there(&address.of(shard), shard, stale))
}

/// Returns whether the socket of a killed manager is still at the address of its shard.
fn is_there(address: &Address, shard: Shard, stale: &StaleSockets) -> bool {
    fs::symlink_metadata(path_of(address)).is_ok_and(|there| stale.has(shard, &there))
}

/// Returns whether a socket has a listener. Only a refused connection proves that there is none.
fn has_listener(path: &Path) -> bool {
    let connected = UnixStream::connect(path, FOREIGN_PATIENCE);
    !connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file at a path where a socket is to be bound.
enum Remains {
    Nothing,
    /// A socket with a listener.
    Alive,
    /// No socket, or a socket of another program without a listener. The text says which, and what to do.
    Foreign(String),
}

/// Makes the error for a file at the path that is not a socket.
fn no_socket(there: &Metadata) -> Option<String> {
    let what = files::no_socket(there)?;
    let remedy = if there.is_dir() {
        "use the path of a file in it"
    } else if there.is_file() {
        "move it away, or use another address"
    } else {
        "use another address"
    };
    Some(format!("{what}: {remedy}"))
}

impl Remains {
    fn at(path: &Path) -> Self {
        let Ok(there) = fs::symlink_metadata(path) else {
            return Self::Nothing;
        };
        if let Some(why) = no_socket(&there) {
            return Self::Foreign(why);
        }
        if has_listener(path) {
            return Self::Alive;
        }
        let what = files::describe(&there);
        let who = match there.uid() == own_uid() {
            true => "remove it if no program needs it",
            false => "have its owner remove it",
        };
        Self::Foreign(format!(
            "it is {what} without a listener, and the claim file of this address does not list it: {who}, \
             or use another address"
        ))
    }
}

/// The error for the path of an address, with the variable that sets the address.
fn unusable(address: &Address, path: &Path, why: &impl Display) -> StartError {
    let variable = address.variable();
    let variable = variable.map_or_else(String::new, |variable| {
        format!(" (the address in {variable})")
    });
    StartError::BadAddress {
        address: address.clone(),
        why: format!("{}: {why}{variable}", path.display()),
    }
}

/// Creates the folder if needed. If it is this user's own folder, checks and sweeps it, and locks it against
/// cleaners.
fn prepare_folder(
    address: &Address,
    path: &Path,
    access: &Access,
) -> Result<Option<Private<File>>, StartError> {
    let Some(folder) = path.parent() else {
        return Ok(None);
    };
    let failed = |error| unusable(address, folder, &files::explain(folder, &error));
    let mode = match access.is_private() {
        true => 0o700,
        // Other users may traverse the folder, but not list it.
        false => 0o711,
    };
    make_folder(folder, mode).map_err(failed)?;
    if folder != user_folder() {
        return Ok(None);
    }
    let there = fs::symlink_metadata(folder).map_err(failed)?;
    if !there.is_dir() || there.uid() != own_uid() || there.mode() & 0o022 != 0 {
        let (what, own) = (files::describe(&there), own_uid());
        let why = format!(
            "it is {what}, where names need a folder that only uid {own} can write to: \
             have its owner remove it, or use a path as the address"
        );
        return Err(unusable(address, folder, &why));
    }
    sweep(folder);
    // systemd-tmpfiles skips a locked folder. Without the lock, the files in it would age as others do.
    let kept = Private::open(|| File::open(folder)).ok();
    let is_locked = |kept: &Private<File>| {
        let folder = kept.get();
        folder.is_ok_and(|folder| folder.try_lock_shared().is_ok())
    };
    Ok(kept.filter(is_locked))
}

/// Creates a folder and its missing parents with that mode, regardless of the umask.
fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.as_os_str().is_empty() || fs::metadata(folder).is_ok() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        // Another manager has created it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if fs::symlink_metadata(folder)?.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// Removes the sockets of anonymous managers that were killed.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(socket) = name.strip_suffix(SUFFIX)
            && socket.starts_with(ANONYMOUS)
            && let Ok(Some(claim)) = lock_exclusively(&entry.path())
            && let Ok(address) = Address::try_from(folder.join(socket))
        {
            // An error means that another sweep has removed the file.
            let Ok(stale) = claim.get().and_then(StaleSockets::read) else {
                continue;
            };
            for shard in stale.shards() {
                let _ = remove_stale(&path_of(&address.of(shard)), shard, &stale);
            }
            // A later sweep needs the list of the sockets that are still served.
            if !has_stale(&address, &stale)
                && let Ok(claim) = claim.get().and_then(File::metadata)
            {
                let _ = files::remove(&entry.path(), FileId::of(&claim));
            }
            let _ = claim.get().and_then(File::unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net;

    use lockkeeper_protocol::MAX_SHARDS;

    use super::*;
    use crate::server::claim::sockets::Sockets;

    fn address(folder: &tempfile::TempDir, name: &str) -> Address {
        folder.path().join(name).try_into().expect("a path")
    }

    fn acquire_all(
        address: &Address,
        shards: u32,
    ) -> Result<Vec<(SocketFile, UnixListener)>, StartError> {
        let path = address.path().expect("it is a path");
        SocketFile::claim_all(address, path, shards, &Access::default())
    }

    fn acquire(address: &Address) -> Result<Vec<(SocketFile, UnixListener)>, StartError> {
        acquire_all(address, 1)
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn file_that_is_not_a_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), "precious").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let device = Address::try_from(PathBuf::from("/dev/null")).unwrap();
        for (address, words) in [
            (address(&folder, "data"), "it is a file of uid"),
            (address(&folder, "folder"), "use the path of a file in it"),
            (device, "and no socket: use another address"),
        ] {
            let refused = acquire(&address).unwrap_err();
            let StartError::BadAddress { why, .. } = &refused else {
                panic!("{refused}");
            };
            assert!(why.contains(words) && !why.contains("remove"), "{refused}");
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
        let refused = acquire(&address(&folder, "socket")).unwrap_err();
        assert!(
            matches!(refused, StartError::AddressInUse { .. }),
            "{refused}"
        );
        assert_eq!(files(&folder), 1);
        drop(foreign);
        let refused = acquire(&address(&folder, "socket")).unwrap_err();
        assert!(
            matches!(refused, StartError::BadAddress { .. }),
            "{refused}"
        );
        assert_eq!(files(&folder), 1);
    }

    /// Binds the sockets of `shards` shards, and lists them in a claim file as a manager does that is then
    /// killed.
    fn killed(address: &Address, shards: u32) -> Vec<net::UnixListener> {
        let path = address.path().expect("it is a path");
        let mut sockets = Sockets::unbound(shards);
        let bind = |shard| {
            let path = path_of(&address.of(shard));
            let listener = net::UnixListener::bind(&path).unwrap();
            sockets.set(shard, FileId::at(&path).unwrap());
            listener
        };
        let listeners = Shard::all(shards).map(bind).collect();
        let claim = files::create(&lock_path(path), 0o600).unwrap();
        sockets.write_to(&claim).unwrap();
        listeners
    }

    #[test]
    fn list_of_a_killed_manager_stays_while_a_child_of_it_serves_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let at = address(&folder, "socket");
        // The manager that starts may have fewer shards.
        for (of_killed, shards) in [(1, 1), (3, 3), (3, 1), (1, 2)] {
            let serving = killed(&at, of_killed).pop().expect("a socket");
            let last = Shard::all(of_killed).last().expect("a shard");
            for _ in 0..2 {
                let refused = acquire_all(&at, shards).unwrap_err();
                let in_use = at.of(last);
                assert_eq!(refused, StartError::AddressInUse { address: in_use });
                assert_eq!(files(&folder), 2);
            }
            drop(serving);
            drop(acquire_all(&at, shards).unwrap());
            assert_eq!(files(&folder), 0);
        }
    }

    #[test]
    fn sweep_keeps_the_list_of_sockets_that_are_still_served() {
        let folder = tempfile::tempdir().unwrap();
        let at = address(&folder, &format!("{ANONYMOUS}1"));
        let mut served = killed(&at, 2);
        served.pop();
        for _ in 0..2 {
            sweep(folder.path());
            assert_eq!(files(&folder), 2);
        }
        drop(served);
        sweep(folder.path());
        assert_eq!(files(&folder), 0);
    }

    #[test]
    fn all_shards_are_claimed_together_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let claims = acquire_all(&address(&folder, "socket"), 3).unwrap();
        // Three sockets and one lock.
        assert_eq!(files(&folder), 4);
        assert!(acquire(&address(&folder, "socket")).is_err());
        assert!(acquire(&address(&folder, "socket.2")).is_err());
        drop(claims);
        assert_eq!(files(&folder), 0);
        let foreign = net::UnixListener::bind(folder.path().join("socket.1")).unwrap();
        let refused = acquire_all(&address(&folder, "socket"), 3).unwrap_err();
        let at = address(&folder, "socket.1");
        assert_eq!(refused, StartError::AddressInUse { address: at });
        assert_eq!(files(&folder), 1);
        drop(foreign);
        fs::write(folder.path().join("socket.2"), "precious").unwrap();
        for shards in [2, 3] {
            let refused = acquire_all(&address(&folder, "socket"), shards).unwrap_err();
            assert!(matches!(refused, StartError::BadAddress { .. }));
        }
        // Other files at the paths of shards that the manager does not have are no obstacle, and stay.
        drop(acquire(&address(&folder, "socket")).unwrap());
        assert_eq!(files(&folder), 2);
    }

    #[test]
    fn longest_address_has_room_for_all_shards() {
        let folder = tempfile::tempdir().unwrap();
        let room = 100 - folder.path().as_os_str().len() - 1;
        let longest = address(&folder, &"x".repeat(room));
        drop(acquire_all(&longest, MAX_SHARDS).unwrap());
        let longer = address(&folder, &"x".repeat(room + 1));
        let refused = acquire(&longer).unwrap_err();
        assert!(matches!(refused, StartError::Address(_)));
        assert_eq!(files(&folder), 0);
    }
}

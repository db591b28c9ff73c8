//! `Lock`: the claim of a manager to the path of its socket, which consists of a locked file and an abstract
//! name.
//!
//! The kernel releases both when the process ends in any way. Another process may remove the file, so the
//! manager checks every few seconds whether it is still there, and creates it again if not.
//!
//! Invariant: the locked file is the file at the path, not one that was removed in the meantime.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use lockkeeper_protocol::Shard;
use lockkeeper_sys::{Origin, Private};

use crate::{
    files::{self, FileId},
    server::claim::{
        abstract_name::{AbstractName, NameAttempt},
        sockets::{Sockets, StaleSockets, is_claim},
    },
    telemetry::manager::claim_is_weak,
};

/// The claim of a running manager to a path. Its drop ends the claim and removes the file, unless
/// [`Self::keep_file`] was called.
///
/// A forked child keeps neither the file nor the name, and removes nothing.
#[derive(Debug)]
pub(super) struct Lock {
    origin: Origin,
    path: PathBuf,
    held: Mutex<Held>,
    /// The reason if the claim is lost.
    lost: OnceLock<String>,
}

/// The result of an attempt to claim a path.
#[derive(Debug)]
pub(super) enum ClaimAttempt {
    /// This process has claimed the path, where sockets of a killed manager may be.
    Ours(Box<Lock>, StaleSockets),
    /// Another process has locked the claim file.
    Locked,
    /// A live manager has the abstract name.
    Named,
}

/// The parts of a claim that change.
#[derive(Debug)]
struct Held {
    file: Private<File>,
    id: FileId,
    folder: FileId,
    /// `None` if another user has taken the name.
    name: Option<AbstractName>,
    sockets: Sockets,
    /// Whether the file stays when the claim ends.
    keeps_file: bool,
}

/// The error for a path that a live manager has claimed.
const CLAIMED: &str = "another manager has claimed it";

impl Lock {
    /// Claims the path of a socket for a manager of `shards` shards.
    pub(super) fn claim(socket: &Path, shards: u32) -> io::Result<ClaimAttempt> {
        let path = lock_path(socket);
        let Some(file) = lock_exclusively(&path)? else {
            return Ok(ClaimAttempt::Locked);
        };
        let folder = folder_of(&path)?;
        let id = FileId::of(&file.get()?.metadata()?);
        let Some(name) = take_name(folder, &path) else {
            // The file of the live manager was removed, and that manager will create a new one.
            files::remove(&path, id)?;
            return Ok(ClaimAttempt::Named);
        };
        let stale = StaleSockets::read(file.get()?)?;
        let held = Mutex::new(Held {
            file,
            id,
            folder,
            name,
            sockets: Sockets::unbound(shards),
            keeps_file: false,
        });
        let claim = Self {
            origin: Origin::here(),
            path,
            held,
            lost: OnceLock::new(),
        };
        Ok(ClaimAttempt::Ours(Box::new(claim), stale))
    }

    /// Lists the socket of a shard in the file once it is bound, and `None` before: after a kill, the next
    /// manager removes only listed sockets, and one that was bound right after this write.
    pub(super) fn list(&self, shard: Shard, socket: Option<FileId>) -> io::Result<()> {
        let held = &mut *self.held();
        held.sockets.set(shard, socket);
        held.sockets.write_to(held.file.get()?)
    }

    /// Leaves the file in place when the claim ends, because it lists sockets of a killed manager that are still
    /// there. Without the list no later manager would remove them.
    pub(super) fn keep_file(&self) {
        self.held().keeps_file = true;
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks whether the claim still holds, and creates the file again if it was removed.
    ///
    /// # Errors
    ///
    /// Returns the reason if the claim is lost. Each shard checks, and all get the same reason.
    pub(super) fn look(&self) -> Result<(), String> {
        let mut held = self.held();
        if let Some(name) = &held.name {
            name.answer();
        }
        match FileId::at(&self.path) {
            Ok(Some(id)) if id == held.id => files::keep_fresh(&self.path),
            Ok(_) => self.renew(&mut held).map_err(|why| self.lose(why))?,
            // The file cannot be read now; the next check may succeed.
            Err(_) => {}
        }
        Ok(())
    }

    /// Records why the claim is lost, and returns the first reason that was recorded.
    pub(super) fn lose(&self, why: String) -> String {
        self.lost.get_or_init(|| why).clone()
    }

    /// Returns the reason if the claim is lost.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    fn renew(&self, held: &mut Held) -> Result<(), String> {
        let path = self.path.display();
        let Ok(folder) = folder_of(&self.path) else {
            // Without the folder no other manager can be at this path. `SocketFile` creates the folder again.
            return Ok(());
        };
        let has_name = held.name.is_some() && folder == held.folder;
        let file = match lock_exclusively(&self.path) {
            Ok(Some(file)) => file,
            // A manager that starts locks the file briefly, and then finds the name taken.
            Ok(None) if has_name => return Ok(()),
            Ok(None) => return Err(format!("{path}: {CLAIMED}")),
            Err(error) if error.kind() == files::NOT_OURS => {
                return Err(format!("{path}: {error}"));
            }
            // The disk may have room for a file at the next check.
            Err(_) => return Ok(()),
        };
        let Ok(metadata) = file.get().and_then(File::metadata) else {
            return Ok(());
        };
        if !has_name {
            held.name =
                take_name(folder, &self.path).ok_or_else(|| format!("{path}: {CLAIMED}"))?;
        }
        held.folder = folder;
        held.id = FileId::of(&metadata);
        // Without the list a later manager would not remove the sockets.
        let _ = file.get().and_then(|file| held.sockets.write_to(file));
        held.file = file;
        Ok(())
    }

    /// Locks against the other shards. Poison is ignored, because no code inside panics between two changes.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        let mut held = self.held();
        // The name is released before the file: the next manager gets the lock first, and must then find the
        // name free.
        held.name = None;
        if !held.keeps_file {
            // If this fails, the next manager takes the file over.
            let _ = files::remove(&self.path, held.id);
        }
        // A child of a raw `clone` may still have the file open, so closing it here does not release the
        // lock.
        let _ = held.file.get().and_then(File::unlock);
    }
}

/// Takes the abstract name of a claim file. Returns `None` if a live manager has it.
fn take_name(folder: FileId, path: &Path) -> Option<Option<AbstractName>> {
    match AbstractName::take(folder, path) {
        NameAttempt::Ours(name) => Some(Some(name)),
        NameAttempt::Manager => None,
        NameAttempt::Useless(why) => {
            claim_is_weak(path, &why);
            Some(None)
        }
    }
}

/// The device and inode of a file's folder.
fn folder_of(path: &Path) -> io::Result<FileId> {
    // The lookup of the folder follows links, as the lookup of its files does.
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::metadata(folder).map(|metadata| FileId::of(&metadata))
}

/// The path of the claim file of a socket.
pub(super) fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// The suffix of a claim file's name after that of the socket. Other programs do not use it.
pub(super) const SUFFIX: &str = ".lockkeeper";

/// Locks a claim file, and creates it if it is missing. Returns `None` if a live process has it locked.
pub(super) fn lock_exclusively(path: &Path) -> io::Result<Option<Private<File>>> {
    files::lock_exclusively(path, is_claim)
}

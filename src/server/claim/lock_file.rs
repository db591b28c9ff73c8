//! `Lock`: the claim of a manager to the path of its socket: a locked file beside it, and an abstract name.
//!
//! The kernel releases both when the process ends in any way. The file can be removed by others, so the
//! manager looks every few seconds whether it is still there, and makes it anew.
//!
//! Invariant: the locked file is the one at the path, not one that was removed in the meantime.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use lockkeeper_protocol::MAX_SHARDS;
use lockkeeper_sys::{Origin, Private};

use crate::{
    files::{self, FileId},
    server::claim::abstract_name::{AbstractName, Taken},
    telemetry::manager::claim_is_weak,
};

/// The claim of a running manager to a path. Dropped, it is over, and its file is removed.
///
/// A forked child keeps neither the file nor the name, and removes nothing.
#[derive(Debug)]
pub(super) struct Lock {
    origin: Origin,
    path: PathBuf,
    shards: u32,
    held: Mutex<Held>,
    /// Why the claim is lost, once it is.
    lost: OnceLock<String>,
}

/// What became of the attempt to claim a path.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It is claimed. A manager of that many shards was killed here.
    Ours(Lock, u32),
    /// Another process has locked the claim file.
    Locked,
    /// A live manager has the abstract name.
    Named,
}

/// What makes up a claim.
#[derive(Debug)]
struct Held {
    file: Private<File>,
    id: FileId,
    folder: FileId,
    /// `None` where another user has taken it.
    name: Option<AbstractName>,
}

/// What a claim file begins with.
const HEADING: &str = "lockkeeper claim 1\n";

/// What it says to people.
const EXPLANATION: &str = "A manager locks this file while it runs, and removes it when it ends.\n";

/// What stands before the number of shards.
const SHARDS: &str = "shards ";

/// More bytes than a claim file has.
const MOST_BYTES: u64 = 256;

/// The error for a path that a live manager has claimed.
const CLAIMED: &str = "another manager has claimed it";

impl Lock {
    /// Claims the path of a socket for a manager of so many shards.
    pub(super) fn claim(socket: &Path, shards: u32) -> io::Result<Claimed> {
        let path = lock_path(socket);
        let Some(file) = lock_exclusively(&path)? else {
            return Ok(Claimed::Locked);
        };
        let folder = folder_of(&path)?;
        let id = FileId::of(&file.get()?.metadata()?);
        let Some(name) = take_name(folder, &path) else {
            // The file of the live manager was removed. It makes a new one.
            files::remove(&path, id)?;
            return Ok(Claimed::Named);
        };
        let left = shards_in(file.get()?);
        let held = Mutex::new(Held {
            file,
            id,
            folder,
            name,
        });
        let claim = Self {
            origin: Origin::here(),
            path,
            shards,
            held,
            lost: OnceLock::new(),
        };
        Ok(Claimed::Ours(claim, left))
    }

    /// Notes how many sockets there are to be, once those of a killed manager are gone.
    pub(super) fn note_shards(&self) -> io::Result<()> {
        write_to(self.held().file.get()?, self.shards)
    }

    /// Looks whether the claim still stands, and makes a file that was removed anew.
    ///
    /// # Errors
    ///
    /// Returns why the claim is lost. Each shard looks, and all are told the same.
    pub(super) fn look(&self) -> Result<(), String> {
        let mut held = self.held();
        if let Some(name) = &held.name {
            name.answer();
        }
        match FileId::at(&self.path) {
            Ok(Some(id)) if id == held.id => files::keep_fresh(&self.path),
            Ok(_) => self.renew(&mut held).map_err(|why| self.lose(why))?,
            // It cannot be looked at now. The next look may see more.
            Err(_) => {}
        }
        Ok(())
    }

    /// Enters why the claim is lost, and returns the first reason that was entered.
    pub(super) fn lose(&self, why: String) -> String {
        self.lost.get_or_init(|| why).clone()
    }

    /// Why the claim is lost, if it is.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    fn renew(&self, held: &mut Held) -> Result<(), String> {
        let path = self.path.display();
        let Ok(folder) = folder_of(&self.path) else {
            // No manager can be where no folder is. `SocketFile` makes it anew.
            return Ok(());
        };
        let has_name = held.name.is_some() && folder == held.folder;
        let file = match lock_exclusively(&self.path) {
            Ok(Some(file)) => file,
            // A manager that starts has the file for a moment, and finds that the name is taken.
            Ok(None) if has_name => return Ok(()),
            Ok(None) => return Err(format!("{path}: {CLAIMED}")),
            Err(error) if error.kind() == files::NOT_OURS => {
                return Err(format!("{path}: {error}"));
            }
            // There may be room for a file at the next look.
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
        // Without the note a later manager would leave the sockets of all but the first shard behind.
        let _ = file.get().and_then(|file| write_to(file, self.shards));
        held.file = file;
        Ok(())
    }

    /// Locks against the other shards. No code inside panics between two changes.
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
        // Before the file: the next manager gets the lock first, and must find the name free then.
        held.name = None;
        // If this fails, the next manager takes the file over.
        let _ = files::remove(&self.path, held.id);
        // A child of a raw `clone` may still have the file open, so closing it here does not release the
        // lock.
        let _ = held.file.get().and_then(File::unlock);
    }
}

/// Takes the abstract name beside a claim file. `None` if a live manager has it.
fn take_name(folder: FileId, path: &Path) -> Option<Option<AbstractName>> {
    match AbstractName::take(folder, path) {
        Taken::Ours(name) => Some(Some(name)),
        Taken::Manager => None,
        Taken::Useless(why) => {
            claim_is_weak(path, &why);
            Some(None)
        }
    }
}

/// Which folder a file is in.
fn folder_of(path: &Path) -> io::Result<FileId> {
    // The way to the folder may go over links, as the way to its files does.
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::metadata(folder).map(|metadata| FileId::of(&metadata))
}

/// Where the claim file of a socket is.
pub(super) fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// What the name of a claim file has behind that of the socket. No other program has such files.
pub(super) const SUFFIX: &str = ".lockkeeper";

/// Locks a claim file, which is made if there is none. `None` if a live process has it locked.
pub(super) fn lock_exclusively(path: &Path) -> io::Result<Option<Private<File>>> {
    loop {
        let claim = Private::open(|| files::open_or_create(path, 0o600, is_claim))?;
        let file = claim.get()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last owner may have removed the file between our opening and our locking it.
        if FileId::at(path)? == Some(FileId::of(&file.metadata()?)) {
            return Ok(Some(claim));
        }
    }
}

/// Whether a live process has a claim file locked.
pub(super) fn is_locked(path: &Path) -> bool {
    // A forked child must not keep the lock that this takes for a moment.
    let Ok(claim) = Private::open(|| files::open(path, is_claim)) else {
        return false;
    };
    let is_refused = |file: &File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    claim.get().is_ok_and(is_refused)
}

/// Whether a file that is not empty is a claim file.
fn is_claim(beginning: &[u8]) -> bool {
    // A manager may have been killed while it wrote.
    beginning.starts_with(HEADING.as_bytes()) || HEADING.as_bytes().starts_with(beginning)
}

/// How many shards the manager had that was killed here, if one was.
fn shards_in(file: &File) -> u32 {
    let mut text = String::new();
    let read = file.take(MOST_BYTES).read_to_string(&mut text);
    let said = read.ok().and_then(|_| {
        let line = text.lines().find_map(|line| line.strip_prefix(SHARDS))?;
        line.parse().ok()
    });
    said.filter(|said| *said <= MAX_SHARDS).unwrap_or(1)
}

fn write_to(mut file: &File, shards: u32) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{HEADING}{EXPLANATION}{SHARDS}{shards}\n").as_bytes())
}

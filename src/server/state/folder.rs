//! `StateFolder`: the folder in which a manager keeps what a later manager has to know. One manager at a time
//! has it locked.
//!
//! Invariant: a manager that has lost the folder or its lock file, to whatever cause, writes nothing there.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use lockkeeper_sys::Private;

use crate::{
    error::{StartError, lack},
    files::{self, FileId},
};

/// The number of attempts to lock the folder, and the pause between two attempts. A child that a killed
/// manager had just started keeps the lock until it executes its own program.
const TRIES: u32 = 50;

const PAUSE: Duration = Duration::from_millis(2);

/// The first line of the lock file: the format of the folder and its version.
const HEADING: &str = "lockkeeper state 1\n";

/// The text before the process id of the manager.
const PROCESS: &str = "process ";

/// The text before the inode of its pid namespace: the id has a meaning only there.
const NAMESPACE: &str = "pid namespace ";

/// An upper bound on the size of a lock file.
const MOST_BYTES: u64 = 128;

/// A locked state folder. Its drop unlocks it, but not in a forked child.
#[derive(Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    id: FileId,
    lock: Private<File>,
    lock_id: FileId,
}

impl StateFolder {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::StateInUse`] when another manager has it locked, and [`StartError::BadState`] when
    /// another user could write to it, or the system does not let this process use it.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        // A slash at the end would make the system follow a symbolic link.
        let path: PathBuf = path.components().collect();
        let bad = |why: String| bad(&path, why);
        let id = files::keep_folder(&path).map_err(|error| bad(lack(&error)))?;
        let lock_path = path.join(LOCK);
        let failed = |error: io::Error| bad(format!("{}: {}", lock_path.display(), lack(&error)));
        let lock = lock(&lock_path).map_err(failed)?;
        let Some(lock) = lock else {
            let pid = owner(&lock_path);
            return Err(StartError::StateInUse { folder: path, pid });
        };
        let named = lock.get().and_then(|file| {
            let owner = describe_owner();
            files::write_all(file, owner.as_bytes())?;
            file.set_len(owner.len().try_into().map_err(io::Error::other)?)?;
            Ok(FileId::of(&file.metadata()?))
        });
        let lock_id = named.map_err(failed)?;
        Ok(Self {
            path,
            id,
            lock,
            lock_id,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether this is the copy of a forked child. The folder belongs to its parent.
    pub(super) fn is_forked(&self) -> bool {
        self.lock.get().is_err()
    }

    /// Checks that the path still leads to the folder and the lock file of this manager.
    ///
    /// # Errors
    ///
    /// Returns the reason if another manager may have the folder by now.
    pub(super) fn check(&self) -> Result<(), String> {
        let lock = self.path.join(LOCK);
        for (path, id) in [(&self.path, self.id), (&lock, self.lock_id)] {
            let there = FileId::at(path);
            let there = there.map_err(|error| format!("{}: {error}", path.display()))?;
            if there != Some(id) {
                return Err(format!("{} was removed or replaced", path.display()));
            }
        }
        Ok(())
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // A child of a raw `clone` may still have the file open, so closing it here does not release the
        // lock. In a forked child there is no file here.
        let _ = self.lock.get().and_then(File::unlock);
    }
}

/// The name of the lock file, which stays in the folder.
const LOCK: &str = "lock";

/// Makes the error for a state folder that cannot be used.
pub(super) fn bad(folder: &Path, why: String) -> StartError {
    StartError::BadState {
        folder: folder.to_owned(),
        why,
    }
}

/// Locks the lock file. Returns `None` if another manager has it locked.
fn lock(path: &Path) -> io::Result<Option<Private<File>>> {
    for _ in 0..TRIES {
        match files::lock_exclusively(path, is_lock)? {
            Some(lock) => return Ok(Some(lock)),
            None => thread::sleep(PAUSE),
        }
    }
    Ok(None)
}

/// Returns the content of the lock file of this process.
fn describe_owner() -> String {
    let pid = process::id();
    let namespace = pid_namespace().map(|inode| format!("{NAMESPACE}{inode}\n"));
    format!("{HEADING}{PROCESS}{pid}\n{}", namespace.unwrap_or_default())
}

/// Returns the inode of the pid namespace of this process, or `None` without `/proc`.
fn pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// Returns the process that a lock file names, if it is of this pid namespace. The file names none while its
/// manager has just locked it.
fn owner(path: &Path) -> Option<u32> {
    let mut text = String::new();
    let file = files::open(path, is_lock).ok()?;
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    let lines = text.strip_prefix(HEADING)?.strip_prefix(PROCESS)?;
    let (pid, namespace) = lines.strip_suffix('\n')?.split_once('\n')?;
    let namespace: u64 = namespace.strip_prefix(NAMESPACE)?.parse().ok()?;
    (namespace == pid_namespace()?).then(|| pid.parse().ok())?
}

/// Returns whether a file that is not empty is a lock file, or the beginning of one.
fn is_lock(beginning: &[u8]) -> bool {
    beginning.starts_with(HEADING.as_bytes()) || HEADING.as_bytes().starts_with(beginning)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn why(refused: Result<StateFolder, StartError>) -> String {
        let refused = refused.expect_err("the folder is refused");
        assert!(matches!(refused, StartError::BadState { .. }), "{refused}");
        refused.to_string()
    }

    #[test]
    fn missing_folder_is_made_for_its_user_alone() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("state");
        let folder = StateFolder::open(&path).unwrap();
        assert_eq!(folder.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        let missing = above.path().join("missing/state");
        let message = why(StateFolder::open(&missing));
        assert!(message.contains("there is no folder"), "{message}");
        assert!(!above.path().join("missing").exists());
    }

    #[test]
    fn path_that_other_users_could_change_is_refused_and_stays_unchanged() {
        let above = tempfile::tempdir().unwrap();
        let at = |name: &str| above.path().join(name);
        fs::create_dir(at("target")).unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::write(at("file"), "precious").unwrap();
        for mode in [0o770, 0o707, 0o777, 0o1777] {
            let open = at(&format!("{mode:o}"));
            fs::create_dir(&open).unwrap();
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            let message = why(StateFolder::open(&open));
            assert!(message.contains("chmod go-w it"), "{message}");
            assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
        }
        for (name, what) in [
            ("link", "a symbolic link"),
            ("link/", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("file", "a file"),
        ] {
            let message = why(StateFolder::open(&at(name)));
            let path = at(name.trim_end_matches('/'));
            let begin = format!(
                "cannot use the state folder {}: it is {what}",
                path.display()
            );
            assert!(message.starts_with(&begin), "{message}");
            assert!(message.contains("use the path of a folder"), "{message}");
        }
        assert_eq!(fs::read_dir(at("target")).unwrap().count(), 0);
        assert!(!at("nowhere").exists());
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    }

    #[test]
    fn second_manager_gets_an_error_with_the_process_of_the_first() {
        let above = tempfile::tempdir().unwrap();
        let first = StateFolder::open(above.path()).unwrap();
        let refused = StateFolder::open(above.path()).unwrap_err();
        let pid = process::id();
        let folder = above.path().to_owned();
        let pid_of_first = Some(pid);
        assert_eq!(
            refused,
            StartError::StateInUse {
                folder,
                pid: pid_of_first
            }
        );
        let shown = above.path().display();
        assert_eq!(
            refused.to_string(),
            format!(
                "the manager of process {pid} uses the state folder {shown}: end that manager, or use another folder"
            )
        );
        drop(first);
        StateFolder::open(above.path()).expect("the first manager has ended");
    }

    #[test]
    fn process_of_another_pid_namespace_is_not_named() {
        let above = tempfile::tempdir().unwrap();
        let _first = StateFolder::open(above.path()).unwrap();
        let lock = above.path().join(LOCK);
        let own = fs::read_to_string(&lock).unwrap();
        let namespace = pid_namespace().expect("/proc").to_string();
        for other in [
            own.replace(&namespace, "1"),
            own.replace(&format!("{NAMESPACE}{namespace}\n"), ""),
            own.trim_end().to_owned(),
            String::new(),
        ] {
            fs::write(&lock, other).unwrap();
            let refused = StateFolder::open(above.path()).unwrap_err();
            let message = refused.to_string();
            assert!(
                message.starts_with("a process of another pid namespace"),
                "{message}"
            );
            let folder = above.path().to_owned();
            assert_eq!(refused, StartError::StateInUse { folder, pid: None });
        }
    }

    #[test]
    fn lock_file_of_a_longer_text_is_replaced_as_a_whole() {
        let above = tempfile::tempdir().unwrap();
        let lock = above.path().join(LOCK);
        fs::write(&lock, HEADING.repeat(6)).unwrap();
        let _folder = StateFolder::open(above.path()).unwrap();
        assert_eq!(fs::read_to_string(&lock).unwrap(), describe_owner());
    }

    #[test]
    fn lock_file_of_another_program_is_refused_and_stays_unchanged() {
        let above = tempfile::tempdir().unwrap();
        let lock = above.path().join(LOCK);
        fs::write(&lock, "precious").unwrap();
        let message = why(StateFolder::open(above.path()));
        assert!(message.contains(lock.to_str().unwrap()), "{message}");
        assert!(message.contains("content of another program"), "{message}");
        assert_eq!(fs::read(&lock).unwrap(), b"precious");
        // A manager was killed while it wrote the file.
        for length in 0..HEADING.len() {
            fs::write(&lock, HEADING.get(..length).unwrap()).unwrap();
            StateFolder::open(above.path()).unwrap();
        }
    }

    #[test]
    fn folder_that_was_removed_or_replaced_is_noticed() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("state");
        let folder = StateFolder::open(&path).unwrap();
        assert_eq!(folder.check(), Ok(()));
        let lock = path.join(LOCK);
        fs::rename(&lock, path.join("moved")).unwrap();
        assert!(folder.check().unwrap_err().contains("/lock was removed"));
        fs::write(&lock, "").unwrap();
        assert!(folder.check().unwrap_err().contains("/lock was removed"));
        fs::rename(path.join("moved"), &lock).unwrap();
        assert_eq!(folder.check(), Ok(()));
        fs::rename(&path, above.path().join("moved")).unwrap();
        assert!(folder.check().unwrap_err().contains("/state was removed"));
        fs::create_dir(&path).unwrap();
        assert!(folder.check().unwrap_err().contains("/state was removed"));
    }
}

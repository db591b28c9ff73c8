//! Opens, creates, locks and removes files of this process, and no others.
//!
//! A file belongs to this process if it is a regular file of the effective user with one hard link, and
//! is empty or has content that the caller recognizes. A folder belongs to it if no other user can write to
//! it. No symbolic link is followed, and no open blocks.
//!
//! Invariant: no function truncates, writes or removes a file before that check. Errors say what was
//! found, who owns it and what to do; the caller adds the path.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use lockkeeper_sys::Private;
use rustix::{
    fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, utimensat},
    io::Errno,
    process::{Resource, getrlimit},
};

use crate::want::remedy;

/// An upper bound of the bytes by which the content of a file is recognized.
const MOST_KNOWN_BYTES: u64 = 128;

/// File times older than this are renewed. Programs that clean temporary folders remove files that are
/// days old.
const FRESH: Duration = Duration::from_secs(3600);

/// Returns the effective user of this process.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    /// Returns the identity of an open file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Returns the identity of the file at a path, or `None` if there is none. Symbolic links are
    /// not followed.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Opens a file of this process for reading and writing. If the file is not empty, `is_known` must
/// accept its beginning.
///
/// # Errors
///
/// Returns `NotFound` when there is no file, and [`NOT_OURS`] when it does not belong to this
/// process.
pub(crate) fn open(path: &Path, is_known: fn(&[u8]) -> bool) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags())
        .open(path);
    let mut file = opened.map_err(|error| match fs::symlink_metadata(path) {
        // Folders and sockets cannot be opened as files, whatever their modes.
        Ok(there) if there.is_dir() || there.file_type().is_socket() => not_ours(&there),
        Ok(_) | Err(_) => explain(path, &error),
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != own_uid() || metadata.nlink() > 1 {
        return Err(not_ours(&metadata));
    }
    let mut beginning = Vec::new();
    (&file).take(MOST_KNOWN_BYTES).read_to_end(&mut beginning)?;
    if !beginning.is_empty() && !is_known(&beginning) {
        let why = format!(
            "it is a file of uid {} with content of another program: move it away, or use another path",
            metadata.uid()
        );
        return Err(io::Error::new(NOT_OURS, why));
    }
    file.rewind()?;
    Ok(file)
}

/// Creates a file.
///
/// # Errors
///
/// Returns `AlreadyExists` when the path is taken.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(flags())
        .open(path);
    created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => error,
        _ => explain(path, &error),
    })
}

/// Opens a file of this process, as [`open`] does, or creates it.
pub(crate) fn open_or_create(
    path: &Path,
    mode: u32,
    is_known: fn(&[u8]) -> bool,
) -> io::Result<File> {
    loop {
        match create(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
        // Another process may remove the file between the two calls.
        match open(path, is_known) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
}

/// Writes all bytes at the beginning of a file of this process.
///
/// # Errors
///
/// Returns the error of the system for a file beyond the process's limit. The write itself would also raise SIGXFSZ,
/// which ends a process that has no handler for it.
pub(crate) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let limit = getrlimit(Resource::Fsize).current;
    let is_beyond = |limit| u64::try_from(bytes.len()).is_ok_and(|length| length > limit);
    let written = match limit.is_some_and(is_beyond) {
        true => Err(Errno::FBIG.into()),
        false => file.rewind().and_then(|()| file.write_all(bytes)),
    };
    written.map_err(|error| with_remedy(&error).unwrap_or(error))
}

/// Locks a file of this process, and creates it with mode 0600 if it is missing. Returns `None` if a live
/// process has it locked.
pub(crate) fn lock_exclusively(
    path: &Path,
    is_known: fn(&[u8]) -> bool,
) -> io::Result<Option<Private<File>>> {
    loop {
        let locked = Private::open(|| open_or_create(path, 0o600, is_known))?;
        let file = locked.get()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The last owner may have removed the file between the open and the lock.
        if FileId::at(path)? == Some(FileId::of(&file.metadata()?)) {
            return Ok(Some(locked));
        }
    }
}

/// Creates a folder with mode 0700 if it is missing, and returns its identity. The folder itself is on the
/// disk then. Its parent must exist.
///
/// # Errors
///
/// Returns [`NOT_OURS`] unless the path is a folder of this user that no other user can write to.
pub(crate) fn keep_folder(path: &Path) -> io::Result<FileId> {
    // A folder that cannot be synced is not created.
    let above = path.parent().unwrap_or(path);
    let parent = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
        .open(above);
    let is_new = match &parent {
        Err(error) if fs::symlink_metadata(path).is_err() => return Err(explain(path, error)),
        Err(_) => false,
        Ok(_) => match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(explain(path, &error)),
        },
    };
    if is_new {
        // The umask may have taken rights away.
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    let metadata = fs::symlink_metadata(path)?;
    let remedy = if !metadata.is_dir() {
        "use the path of a folder, or of none"
    } else if metadata.uid() != own_uid() {
        "have its owner remove it, or use another path"
    } else if metadata.mode() & 0o022 != 0 {
        "chmod go-w it, or use another path"
    } else {
        return match parent.and_then(|parent| parent.sync_all()) {
            // A user who may list the parent has created the folder; this user may not list it.
            Err(error) if is_new || error.kind() != io::ErrorKind::PermissionDenied => {
                Err(explain(above, &error))
            }
            Ok(()) | Err(_) => Ok(FileId::of(&metadata)),
        };
    };
    let (what, own) = (describe(&metadata), own_uid());
    let why = format!("it is {what}, and not a folder that only uid {own} can write to: {remedy}");
    Err(io::Error::new(NOT_OURS, why))
}

/// Removes the file at a path if it has the given identity, and leaves any other file.
pub(crate) fn remove(path: &Path, id: FileId) -> io::Result<()> {
    if FileId::at(path)? != Some(id) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Renews the times of a file of this process if they are old, so that programs which clean temporary
/// folders keep it.
pub(crate) fn keep_fresh(path: &Path) {
    let is_old = fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| {
            let age = SystemTime::now().duration_since(time);
            age.is_ok_and(|age| age > FRESH)
        });
    if is_old {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        // If the file was removed meanwhile, the next check notices it.
        let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// The kind of the error for a file that does not belong to this process.
pub(crate) const NOT_OURS: io::ErrorKind = io::ErrorKind::InvalidData;

/// Adds to a system error which file or folder is at the path, or above it, and who owns it.
pub(crate) fn explain(path: &Path, error: &io::Error) -> io::Error {
    let kind = error.kind();
    if let Some(error) = with_remedy(error) {
        return error;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => not_ours(&metadata),
        Ok(metadata) => {
            let (what, remedy) = (describe(&metadata), remedy_at(&metadata, kind));
            io::Error::new(kind, format!("{error}; it is {what}: {remedy}"))
        }
        Err(_) if kind == io::ErrorKind::NotFound => {
            let missing = path.parent().filter(|folder| !folder.exists());
            let missing = missing.map_or_else(String::new, |folder| {
                let folder = folder.display();
                format!("; there is no folder {folder}: make it, or use another path")
            });
            io::Error::new(kind, format!("{error}{missing}"))
        }
        Err(_) => {
            let above = path.ancestors().skip(1).find_map(|folder| {
                let metadata = fs::symlink_metadata(folder).ok()?;
                let (what, remedy) = (describe(&metadata), remedy_at(&metadata, kind));
                Some(format!("{} is {what}: {remedy}", folder.display()))
            });
            let above = above.unwrap_or_else(|| REMEDY.to_owned());
            io::Error::new(kind, format!("{error}; {above}"))
        }
    }
}

/// Adds to a system error which resource the system lacks, if it lacks one.
fn with_remedy(error: &io::Error) -> Option<io::Error> {
    let remedy = remedy(error)?;
    Some(io::Error::new(error.kind(), format!("{error}: {remedy}")))
}

/// What to do when the system refuses a path.
const REMEDY: &str = "have its owner open it to this process, or use another path";

/// Returns what to do when the system refuses a path because of the file there.
fn remedy_at(there: &Metadata, kind: io::ErrorKind) -> &'static str {
    let own_rights = if there.is_dir() { 0o700 } else { 0o600 };
    let is_shut = there.mode() & own_rights != own_rights;
    if kind != io::ErrorKind::PermissionDenied || there.uid() != own_uid() || !is_shut {
        REMEDY
    } else if there.is_dir() {
        "chmod 700 it, or use another path"
    } else {
        "chmod 600 it, or use another path"
    }
}

/// Describes the file at the path of a socket if it is not a socket.
pub(crate) fn no_socket(there: &Metadata) -> Option<String> {
    (!there.file_type().is_socket()).then(|| format!("it is {}, and no socket", describe(there)))
}

/// Makes the error for a file that does not belong to this process.
pub(crate) fn not_ours(metadata: &Metadata) -> io::Error {
    let what = describe(metadata);
    let names = match metadata.nlink() {
        names if metadata.is_file() && names > 1 => format!(" with {names} names"),
        _ => String::new(),
    };
    let own = own_uid();
    let remedy = match (metadata.uid() == own, metadata.is_dir()) {
        (true, true) => "move it away",
        (true, false) => "remove it",
        (false, true) => "have its owner move it away",
        (false, false) => "have its owner remove it",
    };
    let why = format!(
        "it is {what}{names}, and not a file that lockkeeper has made as uid {own}: \
         {remedy}, or use another path"
    );
    io::Error::new(NOT_OURS, why)
}

/// Describes a file: its type, its owner and its mode.
pub(crate) fn describe(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let what = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    };
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    format!("{what} of uid {uid} with mode {mode:04o}")
}

/// Returns the flags of every open: links are not followed, and pipes and devices do not block.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
        .bits()
        .cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    };

    use super::*;

    fn is_known(beginning: &[u8]) -> bool {
        beginning.starts_with(b"ours")
    }

    #[test]
    fn only_regular_files_with_one_name_and_known_content_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("foreign"), "theirs").expect("a file");
        fs::write(at("target"), "ours").expect("a file");
        symlink(at("target"), at("link")).expect("a link");
        symlink(at("nowhere"), at("dangling")).expect("a link");
        fs::write(at("one"), "ours").expect("a file");
        fs::hard_link(at("one"), at("other")).expect("a second name");
        fs::create_dir(at("folder")).expect("a folder");
        let pipe = rustix::fs::mknodat(
            CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        );
        pipe.expect("a pipe");
        let _socket = UnixListener::bind(at("socket")).expect("a socket");
        for name in [
            "foreign", "link", "dangling", "one", "other", "folder", "pipe", "socket",
        ] {
            let refused = open_or_create(&at(name), 0o600, is_known).expect_err(name);
            let message = refused.to_string();
            assert!(message.contains(&format!("uid {}", own_uid())), "{message}");
            assert!(message.contains("use another path"), "{message}");
            let remedy = match name {
                "foreign" | "folder" => "move it away, or",
                _ => "remove it, or",
            };
            assert!(message.contains(remedy), "{message}");
        }
        assert_eq!(fs::read(at("foreign")).expect("the file exists"), b"theirs");
        assert!(!at("nowhere").exists());
        for (name, content) in [("known", "ours since long"), ("empty", "")] {
            fs::write(at(name), content).expect("a file");
            open(&at(name), is_known).expect(name);
            assert_eq!(fs::read_to_string(at(name)).expect(name), content);
        }
    }

    #[test]
    fn error_about_permissions_says_who_can_change_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let shut = folder.path().join("shut");
        fs::create_dir(&shut).expect("a folder");
        for (mode, words) in [(0o000, "chmod 700 it"), (0o700, "have its owner open it")] {
            fs::set_permissions(&shut, Permissions::from_mode(mode)).expect("this user owns it");
            for path in [shut.clone(), shut.join("file")] {
                let message = explain(&path, &io::ErrorKind::PermissionDenied.into()).to_string();
                assert!(message.contains(words), "{mode:o}: {message}");
            }
        }
    }

    #[test]
    fn another_file_at_the_path_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let file = create(&path, 0o600).expect("a file");
        let id = FileId::of(&file.metadata().expect("the file is open"));
        fs::rename(&path, folder.path().join("moved")).expect("the file can be renamed");
        for other in ["file", "link", "folder"] {
            match other {
                "file" => fs::write(&path, "precious").expect("a file"),
                "link" => symlink(folder.path().join("moved"), &path).expect("a link"),
                _ => fs::create_dir(&path).expect("a folder"),
            }
            remove(&path, id).expect("a missing file is no error");
            let there = fs::symlink_metadata(&path).expect("another file stays");
            match there.is_dir() {
                true => fs::remove_dir(&path),
                false => fs::remove_file(&path),
            }
            .expect("the path can be removed");
        }
        remove(&path, id).expect("a missing file is no error");
        remove(&folder.path().join("moved"), id).expect("the file has this identity");
        assert!(!folder.path().join("moved").exists());
    }

    #[test]
    fn old_times_are_renewed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let file = create(&path, 0o600).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("old");
        keep_fresh(&path);
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let age = SystemTime::now().duration_since(modified.expect("a time"));
        assert!(age.unwrap_or_default() < FRESH);
    }
}

//! `FenceFile`: stores the highest fence that a resource has seen, so the resource can refuse older ones.
//!
//! The mark is replaced as a whole, under a lock on a third file: the new mark is written to a second
//! file and synced, the second file is renamed, and the folder is synced. A crash at any moment leaves
//! the old mark or the new one; any other content is reported as damage. Overwriting in place could
//! tear the mark on power loss. Two copies would not help: a damaged higher copy looks like a torn
//! one.
//!
//! Invariant: the mark never decreases, and a refused write does not run.

use std::{
    error::Error,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, TryLockError},
};

use lockkeeper_protocol::{Fence, Printable, PrintableText};
use lockkeeper_sys::Private;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileId};

/// A file with the highest fence that a resource has seen, for all processes that write to
/// the resource.
///
/// A holder that was paused, and lost its lock meanwhile, does not notice this when it resumes. Its
/// writes come too late, and the resource must refuse them (M. Kleppmann, "How to do distributed
/// locking"): a database with a condition in the statement, a file with a mark in a second file.
/// Python's `multiprocessing` has no counterpart.
///
/// ```
/// use std::fs;
///
/// use lockkeeper::{FenceFile, Manager, errors::FenceError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let page = folder.path().join("page");
/// let manager = Manager::start().await?;
/// let lock = manager.named("page").lock().await?;
/// let mark = FenceFile::beside(&page);
///
/// let guard = lock.acquire().await?;
/// mark.write(guard.fence(), || fs::write(&page, "the first"))??;
///
/// // This process is paused for long, and an administrator forces its lock open.
/// lock.force_unlock().await?;
/// let next = lock.acquire().await?;
/// mark.write(next.fence(), || fs::write(&page, "the second"))??;
///
/// let late = mark.write(guard.fence(), || fs::write(&page, "too late"));
/// assert!(matches!(late, Err(FenceError::Stale { .. })));
/// assert_eq!(fs::read_to_string(&page)?, "the second");
/// # Ok(())
/// # }
/// ```
///
/// The mark is a file at the given path. In the same folder are a lock file (`.lock`) and, while the mark
/// is raised, its successor (`.new`). The mark is one line of text with a checksum, and survives the
/// death of any process and a power failure. A missing file means that no fence was seen yet, so removing
/// the file removes the protection. All writers must be processes of one user, on one machine or on a
/// file system that locks files for all of its machines. A mark, lock file or successor that is a link,
/// or belongs to another user or program, is an error and stays unchanged.
///
/// # In a database
///
/// A table needs no file. Give the row a column for the fence with the initial value 0, and put the
/// condition and the write into one statement. A fence fits a signed 64-bit column.
///
/// ```sql
/// UPDATE page SET words = ?1, fence = ?2 WHERE id = ?3 AND fence <= ?2
/// ```
///
/// The count of changed rows is the result. If it is one, the row was written, and refuses all
/// lower fences from then on. If it is zero, the fence is stale (or there is no such row), nothing
/// was written, and the caller must acquire the lock again. The comparison is `<=`, so that a
/// holder may write several times. A row that does not exist yet is created with its first fence,
/// by an `INSERT` that fails or does nothing if the row exists.
#[derive(Debug)]
pub struct FenceFile {
    path: PathBuf,
    /// The highest fence that is known to be on the disk, and not only in the page cache.
    settled: Mutex<Option<Fence>>,
}

/// The error of a write that the mark of a resource refused. Nothing was written.
///
/// It can be serialized, so a task may have it in its output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FenceError {
    /// A higher fence was seen: another holder had the lock in the meantime.
    Stale {
        /// The refused fence.
        fence: Fence,
        /// The highest fence that was seen.
        highest: Fence,
    },
    /// The file does not contain a valid mark, so the highest fence is not known.
    Corrupt {
        /// The path of the file.
        path: PathBuf,
        /// The damage.
        why: String,
    },
    /// The system failed to read, write or lock a file. The mark may have been raised.
    System {
        /// The path of the file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
}

impl fmt::Display for FenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { fence, highest } => write!(
                f,
                "stale: the fence {fence} is lower than {highest}, the highest that was seen: \
                 acquire the lock again"
            ),
            Self::Corrupt { path, why } => {
                let remedy = match why.as_str() {
                    FOREIGN => "use another path, or remove it if no program needs it",
                    _ => "repair it with the fence of a new grant",
                };
                write!(
                    f,
                    "corrupt: {} is not the mark of a fence ({}): {remedy}",
                    Printable(&path.to_string_lossy()),
                    PrintableText(why)
                )
            }
            Self::System { path, why } => write!(
                f,
                "cannot use {}: {}",
                Printable(&path.to_string_lossy()),
                PrintableText(why)
            ),
        }
    }
}

impl fmt::Debug for FenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for FenceError {}

/// The beginning of a mark: the format and its version.
const HEADING: &str = "lockkeeper fence 1 ";

/// The damage of a file that does not begin like a mark, which `repair` leaves alone.
const FOREIGN: &str = "it does not begin as one";

/// The mode of new files, before the process's umask is applied.
const NEW_FILE_MODE: u32 = 0o666;

/// More bytes than any mark has.
const MOST_BYTES: u64 = 64;

impl FenceFile {
    /// Returns the mark of a file: its path is that of the file with `.fence` appended.
    #[must_use]
    pub fn beside(resource: impl AsRef<Path>) -> Self {
        Self::at(with_suffix(resource.as_ref(), ".fence"))
    }

    /// Returns the mark at a path. The file is created when the first fence is seen; its folder
    /// must exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            settled: Mutex::new(None),
        }
    }

    /// Returns the path of the mark.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the highest fence that was seen, or `None` if there was none.
    ///
    /// # Errors
    ///
    /// Returns [`FenceError::Corrupt`] and [`FenceError::System`].
    pub fn highest(&self) -> Result<Option<Fence>, FenceError> {
        let Some(bytes) = self.read()? else {
            return Ok(None);
        };
        let parsed = match is_mark(&bytes) {
            true => parse(&bytes),
            false => Err(FOREIGN),
        };
        parsed.map(Some).map_err(|why| FenceError::Corrupt {
            path: self.path.clone(),
            why: why.to_owned(),
        })
    }

    /// Reads the file of the mark, or returns `None` if there is none.
    fn read(&self) -> Result<Option<Vec<u8>>, FenceError> {
        let mut bytes = Vec::new();
        // Any content is accepted here: `parse` reports damage.
        let read = match files::open(&self.path, |_| true) {
            Ok(file) => file.take(MOST_BYTES).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(|error| system(&self.path, &error))?;
        Ok(Some(bytes))
    }

    /// Checks a fence, and raises the mark to it: from then on lower fences are refused.
    ///
    /// Another process may present a higher fence between this check and the caller's write. If
    /// that matters, use [`Self::write`]. Blocks while another process writes.
    ///
    /// # Errors
    ///
    /// Returns [`FenceError::Stale`] when a higher fence was seen, [`FenceError::Corrupt`] when the
    /// file does not contain a valid mark, and [`FenceError::System`].
    pub fn check(&self, fence: Fence) -> Result<(), FenceError> {
        self.write(fence, || ())
    }

    /// Checks a fence, raises the mark to it, and runs `write` before any other fence is checked:
    /// check and write are atomic.
    ///
    /// Returns the result of `write`, which should be short: all other writers wait for it, even
    /// while its process is paused. `write` must not use the same mark, or it waits for ever.
    /// Blocks while another process writes, so async code should call it in
    /// `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As [`Self::check`]. After an error, `write` was not called.
    ///
    /// # Panics
    ///
    /// Panics when `write` panics. The mark is then raised, and unlocked.
    pub fn write<T>(&self, fence: Fence, write: impl FnOnce() -> T) -> Result<T, FenceError> {
        let _turn = self.lock()?;
        self.raise(fence, self.highest()?)?;
        Ok(write())
    }

    /// Checks a fence and raises the mark to it, as [`Self::check`] does, without the lock file: the caller
    /// keeps all other writers out.
    pub(crate) fn check_alone(&self, fence: Fence) -> Result<(), FenceError> {
        self.raise(fence, self.highest()?)
    }

    /// Replaces a corrupt mark.
    ///
    /// The fence must come from a grant that was made after the damage, so that it is higher than all
    /// earlier fences. A mark that is not corrupt is checked and raised as by [`Self::check`]. A file that
    /// does not begin like a mark may belong to another program and stays unchanged: remove it yourself.
    ///
    /// # Errors
    ///
    /// Returns [`FenceError::Stale`] when the mark is not corrupt and higher, [`FenceError::Corrupt`] when
    /// the file does not begin like a mark, and [`FenceError::System`].
    pub fn repair(&self, fence: Fence) -> Result<(), FenceError> {
        let _turn = self.lock()?;
        match self.highest() {
            Err(FenceError::Corrupt { .. })
                if self.read()?.is_some_and(|bytes| is_mark(&bytes)) =>
            {
                self.raise(fence, None)
            }
            highest => self.raise(fence, highest?),
        }
    }

    /// Locks the lock file, and waits for that. The lock ends when the guard is dropped, or with
    /// the process.
    fn lock(&self) -> Result<Turn, FenceError> {
        let path = with_suffix(&self.path, ".lock");
        // The lock file is always empty.
        let opened = Private::open(|| files::open_or_create(&path, NEW_FILE_MODE, |_| false));
        let locked = opened.and_then(|file| {
            while let Err(error) = file.get()?.lock() {
                // A signal may interrupt the wait.
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            Ok(Turn(file))
        });
        locked.map_err(|error| system(&path, &error))
    }

    /// Accepts a fence that is not lower than the highest, and ensures that the mark is on the
    /// disk. This includes a mark that another process raised: it may have died before it synced
    /// the mark.
    fn raise(&self, fence: Fence, highest: Option<Fence>) -> Result<(), FenceError> {
        let is_new = highest != Some(fence);
        match highest {
            Some(highest) if fence < highest => return Err(FenceError::Stale { fence, highest }),
            Some(_) if !is_new => {}
            Some(_) | None => self.put(fence)?,
        }
        // A mark that was removed is written again, even for a fence that was settled before.
        if is_new || self.settled().is_none_or(|settled| *settled != Some(fence)) {
            self.sync_folder()?;
            if let Some(mut settled) = self.settled() {
                *settled = Some(fence);
            }
        }
        Ok(())
    }

    /// Locks the fence that is known to be on the disk. Returns `None` if another thread has it locked: in
    /// a forked child that thread may not exist, so this never waits.
    fn settled(&self) -> Option<MutexGuard<'_, Option<Fence>>> {
        match self.settled.try_lock() {
            Ok(settled) => Some(settled),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Replaces the mark.
    fn put(&self, fence: Fence) -> Result<(), FenceError> {
        let new = with_suffix(&self.path, ".new");
        let written = remove_left(&new)
            .and_then(|()| files::create(&new, NEW_FILE_MODE))
            .and_then(|file| {
                files::write_all(&file, line(fence).as_bytes())?;
                file.sync_all()
            });
        written.map_err(|error| system(&new, &error))?;
        fs::rename(&new, &self.path)
            .map_err(|error| system(&self.path, &files::explain(&self.path, &error)))
    }

    fn sync_folder(&self) -> Result<(), FenceError> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| system(folder, &error))
    }
}

/// The locked lock file. A forked child does not inherit it.
struct Turn(Private<File>);

impl Drop for Turn {
    fn drop(&mut self) {
        // A child of a raw `clone` may still have the file open, so closing it here does not release the
        // lock.
        let _ = self.0.get().and_then(File::unlock);
    }
}

/// Removes the successor that a writer left when it died before the rename.
fn remove_left(new: &Path) -> io::Result<()> {
    match files::open(new, is_mark) {
        Ok(left) => files::remove(new, FileId::of(&left.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns whether a file begins like a mark, or is the beginning of one.
fn is_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADING.as_bytes()) || HEADING.as_bytes().starts_with(bytes)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn system(path: &Path, error: &io::Error) -> FenceError {
    FenceError::System {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Returns the mark of a fence. All marks have the same length, so a truncated one is noticed.
fn line(fence: Fence) -> String {
    let number = format!("{:020}", fence.number());
    let sum = checksum(number.as_bytes());
    format!("{HEADING}{number} {sum:08x}\n")
}

/// Reads the fence of a mark.
fn parse(bytes: &[u8]) -> Result<Fence, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    if text.is_empty() {
        return Err("it is empty");
    }
    let rest = text.strip_prefix(HEADING).ok_or("it is cut off")?;
    let number = rest.split(' ').next().unwrap_or_default();
    let fence = Fence::new(number.parse().map_err(|_| "it has no number")?);
    if text == line(fence) {
        Ok(fence)
    } else {
        Err("its checksum does not fit")
    }
}

/// Computes the CRC-32 of zip files, which the standard libraries of other languages have too.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let polynomial = if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            sum = sum >> 1 ^ polynomial;
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn mark() -> (TempDir, FenceFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let mark = FenceFile::beside(folder.path().join("page"));
        (folder, mark)
    }

    fn fence(number: u64) -> Fence {
        Fence::new(number)
    }

    fn stale(token: u64, highest: u64) -> FenceError {
        FenceError::Stale {
            fence: fence(token),
            highest: fence(highest),
        }
    }

    #[test]
    fn lower_token_is_refused_and_the_same_token_is_accepted_again() {
        let (_folder, mark) = mark();
        assert_eq!(mark.highest(), Ok(None));
        assert_eq!(mark.check(fence(34)), Ok(()));
        assert_eq!(mark.check(fence(33)), Err(stale(33, 34)));
        assert_eq!(mark.check(fence(34)), Ok(()));
        assert_eq!(mark.check(fence(u64::MAX)), Ok(()));
        assert_eq!(mark.highest(), Ok(Some(fence(u64::MAX))));
        assert_eq!(mark.check(fence(34)), Err(stale(34, u64::MAX)));
    }

    #[test]
    fn refused_write_is_not_run_and_the_result_of_an_accepted_one_is_returned() {
        let (_folder, mark) = mark();
        assert_eq!(mark.write(fence(2), || "written"), Ok("written"));
        let late = mark.write(fence(1), || panic!("a stale token wrote"));
        assert_eq!(late, Err(stale(1, 2)));
    }

    #[test]
    fn all_values_with_the_same_path_share_the_mark() {
        let (folder, mark) = mark();
        mark.check(fence(5)).unwrap();
        let other = FenceFile::at(folder.path().join("page.fence"));
        assert_eq!(other.check(fence(4)), Err(stale(4, 5)));
        // Another resource in the same folder has its own mark.
        let neighbour = FenceFile::beside(folder.path().join("page2"));
        assert_eq!(neighbour.check(fence(4)), Ok(()));
    }

    #[test]
    fn files_of_a_dead_writer_change_nothing() {
        let (_folder, mark) = mark();
        mark.check(fence(5)).unwrap();
        let new = with_suffix(mark.path(), ".new");
        // The writer died before the rename, with any part of the successor written.
        let next = line(fence(9));
        for length in 0..=next.len() {
            fs::write(&new, next.get(..length).expect("the mark is ASCII")).unwrap();
            assert_eq!(mark.highest(), Ok(Some(fence(5))));
            assert_eq!(mark.check(fence(4)), Err(stale(4, 5)));
        }
        assert_eq!(mark.check(fence(6)), Ok(()));
        assert_eq!(mark.highest(), Ok(Some(fence(6))));
        assert!(!new.exists(), "the successor was renamed");
    }

    #[test]
    fn damage_is_an_error_and_never_a_lower_mark() {
        let (_folder, mark) = mark();
        mark.check(fence(1_795_384_507_341_834_506)).unwrap();
        let whole = fs::read(mark.path()).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..whole.len())
            .map(|length| whole.get(..length).unwrap().to_vec())
            .collect();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                *bytes.get_mut(place).unwrap() ^= 1 << bit;
                damaged.push(bytes);
            }
        }
        damaged.push(whole.repeat(2));
        damaged.push(vec![b' '; 1 << 20]);
        for bytes in damaged {
            fs::write(mark.path(), &bytes).unwrap();
            let shown = String::from_utf8_lossy(&bytes);
            for refused in [
                mark.highest().map(drop),
                mark.check(fence(u64::MAX)),
                mark.write(fence(u64::MAX), || panic!("{shown:?} accepted a write")),
            ] {
                let refused = refused.expect_err("damage is an error");
                assert!(matches!(refused, FenceError::Corrupt { .. }), "{shown:?}");
            }
            assert_eq!(
                fs::read(mark.path()).unwrap(),
                bytes,
                "the file is unchanged"
            );
        }
    }

    #[test]
    fn corrupt_mark_is_repaired_by_a_new_token_and_a_valid_one_is_never_lowered() {
        let (_folder, mark) = mark();
        mark.check(fence(7)).unwrap();
        assert_eq!(mark.repair(fence(6)), Err(stale(6, 7)));
        fs::write(mark.path(), "").unwrap();
        assert!(matches!(
            mark.check(fence(8)),
            Err(FenceError::Corrupt { .. })
        ));
        assert_eq!(mark.repair(fence(8)), Ok(()));
        assert_eq!(mark.check(fence(7)), Err(stale(7, 8)));
    }

    #[test]
    fn mark_that_cannot_be_stored_accepts_no_write() {
        let (folder, _) = mark();
        let nowhere = FenceFile::at(folder.path().join("missing/mark"));
        let write = || panic!("it wrote without a mark");
        let refused = nowhere.write(fence(1), write).unwrap_err();
        assert!(matches!(refused, FenceError::System { .. }), "{refused}");
        // A folder has the path of the mark.
        let blocked = FenceFile::at(folder.path().join("blocked"));
        fs::create_dir(folder.path().join("blocked.new")).unwrap();
        let refused = blocked.write(fence(1), write).unwrap_err();
        assert!(matches!(refused, FenceError::System { .. }), "{refused}");
        assert_eq!(blocked.highest(), Ok(None));
    }

    #[test]
    fn write_that_panics_leaves_the_mark_raised_and_unlocked() {
        let (_folder, mark) = mark();
        let panicked = std::panic::catch_unwind(|| mark.write(fence(3), || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(mark.check(fence(2)), Err(stale(2, 3)));
        assert_eq!(mark.check(fence(3)), Ok(()));
    }

    #[test]
    fn foreign_file_is_an_error_and_stays_unchanged() {
        use std::os::unix::fs::symlink;

        for suffix in ["", ".lock", ".new"] {
            for what in [
                "link",
                "dangling link",
                "second name",
                "pipe",
                "folder",
                "content",
            ] {
                // Foreign content in the mark itself is reported as damage.
                if (suffix, what) == ("", "content") {
                    continue;
                }
                let (folder, mark) = mark();
                let victim = folder.path().join("victim");
                let planted = with_suffix(mark.path(), suffix);
                match what {
                    "link" | "second name" => {
                        fs::write(&victim, "precious").unwrap();
                        match what {
                            "link" => symlink(&victim, &planted).unwrap(),
                            _ => fs::hard_link(&victim, &planted).unwrap(),
                        }
                    }
                    "dangling link" => symlink(&victim, &planted).unwrap(),
                    "pipe" => {
                        let made = std::process::Command::new("mkfifo").arg(&planted).status();
                        assert!(made.unwrap().success());
                    }
                    "folder" => fs::create_dir(&planted).unwrap(),
                    _ => fs::write(&planted, "precious").unwrap(),
                }
                let before = fs::symlink_metadata(&planted).unwrap();
                let refused = mark.write(fence(1), || panic!("it wrote")).unwrap_err();
                let message = refused.to_string();
                assert!(matches!(refused, FenceError::System { .. }), "{message}");
                let uid = files::own_uid();
                assert!(
                    message.contains(&format!("uid {uid}")),
                    "{suffix} {what}: {message}"
                );
                assert!(message.contains(planted.to_str().unwrap()), "{message}");
                let repaired = mark.repair(fence(1));
                assert!(repaired.is_err(), "{suffix} {what}");
                let after = fs::symlink_metadata(&planted).unwrap();
                assert_eq!(FileId::of(&after), FileId::of(&before), "{suffix} {what}");
                match what {
                    "link" | "second name" => assert_eq!(fs::read(&victim).unwrap(), b"precious"),
                    "content" => assert_eq!(fs::read(&planted).unwrap(), b"precious"),
                    _ => assert!(!victim.exists()),
                }
            }
        }
    }

    #[test]
    fn file_of_another_program_is_not_repaired() {
        let (folder, _) = mark();
        let other = folder.path().join("Cargo.lock");
        fs::write(&other, "precious").unwrap();
        let mark = FenceFile::at(&other);
        for refused in [mark.check(fence(1)), mark.repair(fence(1))] {
            assert!(matches!(refused, Err(FenceError::Corrupt { .. })));
            let words = refused.unwrap_err().to_string();
            assert!(
                words.contains("remove it if no program needs it") && !words.contains("repair"),
                "{words}"
            );
        }
        assert_eq!(fs::read(&other).unwrap(), b"precious");
    }

    #[test]
    fn errors_name_the_cause_and_the_remedy() {
        let (_folder, mark) = mark();
        assert_eq!(
            stale(33, 34).to_string(),
            "stale: the fence 33 is lower than 34, the highest that was seen: acquire the lock again"
        );
        fs::write(mark.path(), "").unwrap();
        let corrupt = mark.highest().unwrap_err().to_string();
        let path = mark.path().display();
        assert_eq!(
            corrupt,
            format!(
                "corrupt: {path} is not the mark of a fence (it is empty): \
                 repair it with the fence of a new grant"
            )
        );
    }

    #[test]
    fn refusal_can_be_serialized() {
        let stale = stale(33, 34);
        let sent = serde_json::to_string(&stale).expect("the error can be serialized");
        assert_eq!(serde_json::from_str(&sent).ok(), Some(stale));
    }

    #[test]
    fn mark_is_written_as_the_document_shows() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        let mark = "lockkeeper fence 1 00000000000000000034 e8c5d5f9\n";
        assert_eq!(line(fence(34)), mark);
        let document = include_str!("../PROTOCOL.md");
        assert!(
            document.contains(&format!("\n    {mark}")),
            "other users may read it"
        );
    }
}

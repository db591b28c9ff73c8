//! The executable of this program: the path that children are started from, and the identity of the
//! build.
//!
//! The file may be renamed, replaced or deleted while the program runs. `/proc/thread-self/exe` still leads to
//! the file that this process runs, so children start from there. They start from the path only if that is not
//! possible.
//!
//! Invariant: a child takes no role unless it runs the same file as its parent.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::files::FileId;

/// The file that the current process runs. `/proc/self` would lead to the first thread, which may have ended: then
/// it shows no file, no mappings and no descriptors.
const RUNNING: &str = "/proc/thread-self/exe";

/// The executable as it was when the program started.
#[derive(Debug)]
pub(super) struct Executable {
    /// The program's own `argv[0]`, which is passed to its children.
    pub(super) arg0: OsString,
    path: Option<PathBuf>,
    /// The identity of the file that was at the path.
    file: Option<FileId>,
    /// The file of this program, if the loader was started with it, as in `ld-linux.so ./program`: then
    /// [`RUNNING`] leads to the loader.
    loaded: Option<Image>,
}

/// The build that a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Build {
    /// The program's `argv[0]`.
    pub(super) program: String,
    /// The device and inode of the file that the process runs. `None` without `/proc`.
    pub(super) image: Option<String>,
}

impl Executable {
    /// Returns the executable of this process. The first call records its path.
    pub(super) fn of_this_process() -> &'static Self {
        static EXECUTABLE: OnceLock<Executable> = OnceLock::new();
        EXECUTABLE.get_or_init(|| {
            let arg0 = env::args_os().next().unwrap_or_default();
            let running = fs::read_link(RUNNING).ok();
            let loaded = running.as_deref().and_then(program_of_loader);
            let path = match &loaded {
                Some(loaded) => Some(loaded.path.clone()),
                None => running.or_else(|| env::current_exe().ok()),
            };
            let path = path.or_else(|| fs::canonicalize(&arg0).ok());
            Self {
                file: path.as_deref().and_then(|path| file_at(path).ok()),
                arg0,
                path,
                loaded,
            }
        })
    }

    /// Calls `start` with the possible paths of the executable, one after the other, until one works.
    ///
    /// # Errors
    ///
    /// Returns an error that names each path and why it failed. If the system lacks the resources for
    /// another process, it returns the system's error at once.
    pub(super) fn start<P>(&self, start: impl Fn(&Path) -> io::Result<P>) -> io::Result<P> {
        let mut tried = Vec::new();
        let mut why = Unstartable::Other;
        if self.loaded.is_none() {
            match start(Path::new(RUNNING)) {
                Ok(process) => return Ok(process),
                Err(error) if is_want(&error) => return Err(error),
                Err(error) => {
                    why = Unstartable::of(&error);
                    tried.push(format!("{RUNNING}: {error}"));
                }
            }
        }
        if let Some(path) = &self.path {
            match self.check(path).and_then(|()| start(path)) {
                Ok(process) => return Ok(process),
                Err(error) if is_want(&error) => return Err(error),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        Err(io::Error::other(format!(
            "this program's executable cannot be started once more ({}){}",
            tried.join("; "),
            why.remedy()
        )))
    }

    /// Checks that the path still leads to the file from which this program was started.
    fn check(&self, path: &Path) -> io::Result<()> {
        let file = file_at(path)?;
        if self.file.is_some_and(|started| started != file) {
            return Err(io::Error::other(
                "it is not the file that this program was started from, so restart the program",
            ));
        }
        Ok(())
    }
}

/// Why the file that this process runs does not start.
#[derive(Clone, Copy, Debug)]
enum Unstartable {
    /// `/proc` does not lead to the file.
    NoProc,
    /// The file is there, and the loader that it names is not.
    NoLoader,
    Other,
}

impl Unstartable {
    fn of(error: &io::Error) -> Self {
        if error.kind() != io::ErrorKind::NotFound {
            return Self::Other;
        }
        // It leads to the file itself, even if the file has no path any more.
        match fs::metadata(RUNNING) {
            Ok(_) => Self::NoLoader,
            Err(_) => Self::NoProc,
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::NoProc => {
                ". There is no /proc: mount it, after a chroot in the new root, or start pools and managers before \
                 the chroot"
            }
            Self::NoLoader => {
                ". The program's loader (ld.so) is missing: after a chroot, copy it and the program's libraries into \
                 the new root, or start pools and managers before the chroot"
            }
            Self::Other => "",
        }
    }
}

/// Returns the identity of the file at a path. Symbolic links are followed.
fn file_at(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|metadata| FileId::of(&metadata))
}

impl Build {
    /// Returns the build that this process runs.
    pub(super) fn of_this_process() -> Self {
        /// The image of this process, which stays the same.
        static IMAGE: OnceLock<Option<String>> = OnceLock::new();
        let executable = Executable::of_this_process();
        let image = IMAGE.get_or_init(|| match &executable.loaded {
            Some(loaded) => Some(loaded.id.clone()),
            None => id_of_running(),
        });
        Self {
            program: executable.arg0.to_string_lossy().into_owned(),
            image: image.clone(),
        }
    }

    /// Returns the reason why a child of this build cannot take a role from a parent of build
    /// `parent`.
    pub(super) fn refusal(&self, parent: &Self) -> Option<String> {
        let image = |build: &Self| build.image.clone().unwrap_or_else(|| "unknown".to_owned());
        // A parent that was started through the loader only knows how its file is mapped.
        let is_mapped = || find_image().map(|image| image.id) == parent.image;
        let is_same = self.program == parent.program && (self.image == parent.image || is_mapped());
        (!is_same).then(|| {
            format!(
                "it runs another build than its parent: {:?} (file {}) in place of {:?} (file {}). \
                 The executable was replaced: restart the program",
                self.program,
                image(self),
                parent.program,
                image(parent),
            )
        })
    }
}

/// Returns the device and inode of the file that this process runs. They stay the same when the file is moved or
/// deleted.
fn id_of_running() -> Option<String> {
    let metadata = fs::metadata(RUNNING).ok()?;
    Some(format!("{} {}", metadata.dev(), metadata.ino()))
}

/// A file that is mapped into this process.
#[derive(Debug)]
struct Image {
    /// Its device and inode, as the system prints them.
    id: String,
    path: PathBuf,
}

/// Returns the file that this code was loaded from, if the file that this process runs is the loader and not that
/// file.
fn program_of_loader(running: &Path) -> Option<Image> {
    let name = running.file_name()?.to_str()?;
    if !(name.starts_with("ld") && name.contains(".so")) {
        return None;
    }
    find_image().filter(|image| image.path != running)
}

/// Finds the file that this code was loaded from among the mappings of the process, which takes ten times as long as
/// to look at [`RUNNING`].
fn find_image() -> Option<Image> {
    let own = find_image as fn() -> Option<Image> as usize;
    let maps = fs::read_to_string("/proc/thread-self/maps").ok()?;
    maps.lines().find_map(|line| {
        // The columns are: address range, permissions, offset, device, inode, path.
        let mut columns = line.splitn(6, ' ');
        let (start, end) = columns.next()?.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        if !(start..end).contains(&own) {
            return None;
        }
        let (device, inode) = (columns.nth(2)?, columns.next()?);
        Some(Image {
            id: format!("{device} {inode}"),
            path: PathBuf::from(columns.next()?.trim_start()),
        })
    })
}

/// Returns whether the system lacks the resources for another process, so that another path would
/// not help.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|error| wants.contains(&error))
}

//! `AbstractName`: the part of a claim that cannot be deleted.
//!
//! An abstract Unix socket has no file. Its name contains the user, the device and inode of the folder, and
//! the name of the claim file, so two managers at one path cannot both bind it, even if their files are
//! removed. The kernel frees the name when the process ends in any way. Each network namespace has its own
//! names, and any user may bind one, so the name supplements the lock on the claim file and never replaces
//! it.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use lockkeeper_sys::Private;

use crate::files::{FileId, own_uid};

/// The number of attempts to take a name, and the pause between two attempts. The kernel releases the file
/// lock and the name of a killed manager one after the other, and a manager that fails to start holds the
/// name briefly.
const TRIES: u32 = 50;

const PAUSE: Duration = Duration::from_millis(2);

/// The most pending connections that are accepted and closed in one turn.
const MOST_ASKED: u32 = 1024;

/// The most bytes of a name.
const MOST_BYTES: usize = 107;

/// A name that this process has bound, until it is dropped. A forked child does not keep it.
#[derive(Debug)]
pub(super) struct AbstractName(Private<UnixListener>);

/// The result of an attempt to take a name.
#[derive(Debug)]
pub(super) enum NameAttempt {
    /// This process has bound the name.
    Ours(AbstractName),
    /// A live manager of this user has the name.
    Manager,
    /// The name cannot be taken, so it proves nothing. The text is the reason.
    Useless(String),
}

impl AbstractName {
    /// Takes the name of a claim file in a folder.
    pub(super) fn take(folder: FileId, claim: &Path) -> NameAttempt {
        let text = text(folder, claim.file_name().unwrap_or_default());
        let mut holder = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for _ in 0..TRIES {
            match Private::open(|| bind(&text)) {
                Ok(listener) => return NameAttempt::Ours(Self(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return NameAttempt::Useless(error.to_string()),
            }
            holder = holder_of(&text);
            match &holder {
                Ok(uid) if *uid != own_uid() => break,
                Ok(_) | Err(_) => thread::sleep(PAUSE),
            }
        }
        match holder {
            Ok(uid) if uid == own_uid() => NameAttempt::Manager,
            Ok(uid) => NameAttempt::Useless(format!("uid {uid} has taken the name")),
            // The queue is full, so the holder is unknown: any user can fill the queue of any socket.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_own_process(&text) => {
                NameAttempt::Manager
            }
            Err(error) => NameAttempt::Useless(format!(
                "a process whose user is not known has taken the name ({error})"
            )),
        }
    }

    /// Accepts and closes the connections of processes that checked the name, so that the queue has room for
    /// the next ones.
    pub(super) fn answer(&self) {
        // Any user may connect, and as fast as this loop accepts.
        let mut asked = 0;
        while asked < MOST_ASKED && self.0.get().and_then(UnixListener::accept).is_ok() {
            asked += 1;
        }
    }
}

fn text(folder: FileId, file: &OsStr) -> Vec<u8> {
    let FileId { device, inode } = folder;
    let own = own_uid();
    let mut text = format!("lockkeeper/{own}/{device:x}/{inode:x}/").into_bytes();
    let room = MOST_BYTES.saturating_sub(text.len());
    match file.as_bytes() {
        file if file.len() <= room => text.extend(file),
        // FNV-1a.
        file => {
            let mut sum = 14_695_981_039_346_656_037_u64;
            for byte in file {
                sum = (sum ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
            }
            text.extend(format!("#{sum:x}").into_bytes());
        }
    }
    text
}

fn bind(text: &[u8]) -> io::Result<UnixListener> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(text)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The user of the process that has bound a name, as the kernel reports it.
fn holder_of(text: &[u8]) -> io::Result<u32> {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::socket_peercred,
    };

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(text)?)?;
    Ok(socket_peercred(&socket)?.uid.as_raw())
}

/// Returns whether a process of this user has bound a name, without a connection: `/proc/net/unix` gives the
/// inode of the socket, and `/proc/PID/task/TID/fd` the sockets of each process. A process of another user never
/// counts as one of this user's.
fn is_own_process(text: &[u8]) -> bool {
    let Ok(sockets) = fs::read("/proc/thread-self/net/unix") else {
        return false;
    };
    let end = [b" @", text].concat();
    let named = sockets.split(|byte| *byte == b'\n');
    let named = named.filter(|line| line.ends_with(&end));
    let inodes = named.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').filter(|it| !it.is_empty());
        str::from_utf8(fields.nth(INODE_FIELD)?).ok()
    });
    let links: Vec<PathBuf> = inodes.map(|it| format!("socket:[{it}]").into()).collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let own = processes
        .flatten()
        .filter(|process| process.metadata().is_ok_and(|it| it.uid() == own_uid()));
    own.flat_map(|process| descriptors_of(&process.path()))
        .any(|link| links.contains(&link))
}

/// Returns what the descriptors of a process refer to, as one of its threads has them. The first thread has none
/// if it has ended before the process.
fn descriptors_of(process: &Path) -> Vec<PathBuf> {
    let threads = fs::read_dir(process.join("task"));
    let links = |thread: DirEntry| -> Vec<PathBuf> {
        let descriptors = fs::read_dir(thread.path().join("fd"));
        let descriptors = descriptors.into_iter().flatten().flatten();
        let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        links.collect()
    };
    let mut threads = threads.into_iter().flatten().flatten().map(links);
    threads.find(|links| !links.is_empty()).unwrap_or_default()
}

/// The index of the inode in a line of `/proc/net/unix`.
const INODE_FIELD: usize = 6;

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    use super::*;

    fn folder(inode: u64) -> FileId {
        FileId { device: 1, inode }
    }

    fn is_ours(taken: &NameAttempt) -> bool {
        matches!(taken, NameAttempt::Ours(_))
    }

    #[test]
    fn name_is_taken_once_for_each_folder_and_file() {
        let inode = u64::from(std::process::id());
        let long = "x".repeat(100);
        for file in ["jobs.sock", &long] {
            let socket = Path::new("/anywhere").join(file);
            let first = AbstractName::take(folder(inode), &socket);
            assert!(is_ours(&first), "{first:?}");
            let second = AbstractName::take(folder(inode), &socket);
            assert!(matches!(second, NameAttempt::Manager), "{second:?}");
            for (inode, file) in [(inode + 1_000_000, file), (inode, "other")] {
                let other = AbstractName::take(folder(inode), &socket.with_file_name(file));
                assert!(is_ours(&other), "{other:?}");
            }
            drop(first);
            assert!(is_ours(&AbstractName::take(folder(inode), &socket)));
        }
    }

    #[test]
    fn probes_do_not_fill_the_queue_for_ever() {
        let inode = u64::from(std::process::id()) + 2_000_000;
        let socket = Path::new("/anywhere/socket");
        let NameAttempt::Ours(name) = AbstractName::take(folder(inode), socket) else {
            panic!("it is free");
        };
        let text = text(folder(inode), OsStr::new("socket"));
        let mut asked = 0;
        while holder_of(&text).is_ok() && asked < 100_000 {
            asked += 1;
        }
        // A full queue proves nothing; here a live manager has the name.
        assert!(asked < 100_000 && is_own_process(&text));
        let taken = AbstractName::take(folder(inode), socket);
        assert!(matches!(taken, NameAttempt::Manager), "{taken:?}");
        name.answer();
        assert_eq!(holder_of(&text).ok(), Some(own_uid()));
        drop(name);
        assert!(!is_own_process(&text));
    }

    #[test]
    fn name_that_is_bound_and_says_nothing_is_no_manager() {
        let inode = u64::from(std::process::id()) + 3_000_000;
        let text = text(folder(inode), OsStr::new("socket"));
        let squatter = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
        let squatter = squatter.expect("a socket");
        let name = SocketAddrUnix::new_abstract_name(&text).expect("a name");
        rustix::net::bind(&squatter, &name).expect("it is free");
        let taken = AbstractName::take(folder(inode), Path::new("/anywhere/socket"));
        assert!(matches!(taken, NameAttempt::Useless(_)), "{taken:?}");
    }
}

//! `Sockets`: the sockets that a manager has bound, as its claim file lists them.
//!
//! Invariant: a socket that the file of a killed manager does not list belongs to another program.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek},
    os::unix::fs::{FileTypeExt, MetadataExt},
    time::{Duration, SystemTime},
};

use lockkeeper_protocol::{MAX_SHARDS, Shard};

use crate::files::{self, FileId, own_uid};

/// The first line of a claim file.
const HEADING: &str = "lockkeeper claim 1\n";

/// The explanation in a claim file for people who read it.
const EXPLANATION: &str = "A manager locks this file while it runs, and removes it when it ends. \
                           It lists the inodes of the manager's sockets.\n";

/// The text before the number of shards, and before the inode of each shard's socket.
const SHARDS: &str = "shards ";

const SOCKET: &str = "socket ";

/// An upper bound on the size of a claim file. The file is shorter than a page, so a kill does not cut a
/// write of all of it.
const MOST_BYTES: u64 = 4096;

/// The longest time between the last write to a claim file and the bind that follows it.
const BINDING: Duration = Duration::from_secs(10);

/// The sockets of one manager, by shard.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Option<FileId>>);

/// The sockets of a killed manager.
#[derive(Debug)]
pub(super) struct StaleSockets {
    /// The inode of each socket. `None` if the manager had not bound the socket, or not listed it yet.
    inodes: Vec<Option<u64>>,
    /// The device of the claim file. The number of a device may change when the system starts, so the file
    /// does not contain it: a socket is on the device of the claim file beside it.
    device: u64,
    /// The time of the last write to the claim file.
    written: SystemTime,
}

impl Sockets {
    /// The sockets of a manager that has bound none yet.
    pub(super) fn unbound(shards: u32) -> Self {
        Self(Shard::all(shards).map(|_| None).collect())
    }

    /// Sets the socket of a shard, or `None` before it is bound.
    pub(super) fn set(&mut self, shard: Shard, socket: Option<FileId>) {
        if let Some(listed) = self.0.get_mut(place(shard)) {
            *listed = socket;
        }
    }

    /// Writes the list to a claim file. The file has either the former list or this one if the process is
    /// killed meanwhile.
    pub(super) fn write_to(&self, file: &File) -> io::Result<()> {
        let mut text = format!("{HEADING}{EXPLANATION}{SHARDS}{:02}\n", self.0.len());
        for socket in &self.0 {
            // All lists of as many sockets have the same length. No file has inode 0.
            let inode = socket.map_or(0, |socket| socket.inode);
            text.push_str(&format!("{SOCKET}{inode:020}\n"));
        }
        files::write_all(file, text.as_bytes())?;
        // A truncation takes as long as the write, also if it changes nothing.
        let length = text.len().try_into().unwrap_or(MOST_BYTES);
        if file.metadata()?.len() > length {
            file.set_len(length)?;
        }
        Ok(())
    }
}

impl StaleSockets {
    /// Reads a claim file whose manager is gone.
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut text = Vec::new();
        let mut beginning = file;
        beginning.rewind()?;
        beginning.take(MOST_BYTES).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let numbers = |before| {
            let lines = text.lines();
            lines.filter_map(move |line| line.strip_prefix(before)?.parse::<u64>().ok())
        };
        let shards = numbers(SHARDS).next().unwrap_or_default();
        let shards = shards.min(u64::from(MAX_SHARDS));
        let mut listed = numbers(SOCKET);
        let inodes = (0..shards).map(|_| listed.next().filter(|inode| *inode > 0));
        Ok(Self {
            inodes: inodes.collect(),
            device: metadata.dev(),
            written: metadata.modified()?,
        })
    }

    /// All shards of the manager.
    pub(super) fn shards(&self) -> impl Iterator<Item = Shard> {
        Shard::all(self.inodes.len().try_into().unwrap_or(MAX_SHARDS))
    }

    /// Returns whether the file at the path of a shard's socket is the socket that the manager has bound.
    pub(super) fn has(&self, shard: Shard, there: &Metadata) -> bool {
        let Some(inode) = self.inodes.get(place(shard)) else {
            return false;
        };
        let is_listed = match inode {
            Some(inode) => *inode == there.ino(),
            // The manager was killed between the bind and the write that follows it at once.
            None => there.modified().is_ok_and(|bound| {
                let after = bound.duration_since(self.written);
                after.is_ok_and(|after| after <= BINDING)
            }),
        };
        is_listed
            && there.dev() == self.device
            && there.uid() == own_uid()
            && there.file_type().is_socket()
    }
}

fn place(shard: Shard) -> usize {
    usize::try_from(shard.index()).unwrap_or(usize::MAX)
}

/// Returns whether a file that is not empty is a claim file.
pub(super) fn is_claim(beginning: &[u8]) -> bool {
    // A manager may have been killed during the write, so a prefix of the heading counts.
    beginning.starts_with(HEADING.as_bytes()) || HEADING.as_bytes().starts_with(beginning)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    fn shard(index: usize) -> Shard {
        Shard::all(3).nth(index).expect("one of three")
    }

    #[test]
    fn list_names_the_sockets_that_were_bound_and_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let there = |name: &str| fs::symlink_metadata(at(name)).expect(name);
        for name in ["ours", "other"] {
            UnixListener::bind(at(name)).expect("a socket");
        }
        fs::write(at("file"), "precious").expect("a file");
        let claim = files::create(&at("claim"), 0o600).expect("a file");
        let mut sockets = Sockets::unbound(3);
        sockets.set(shard(0), Some(FileId::of(&there("ours"))));
        sockets.set(shard(1), Some(FileId::of(&there("file"))));
        sockets.set(shard(2), Some(FileId::of(&there("ours"))));
        // A shorter list replaces a longer one.
        Sockets::unbound(5).write_to(&claim).expect("there is room");
        sockets.write_to(&claim).expect("there is room");
        let text = fs::read(at("claim")).expect("the file");
        assert!(is_claim(&text) && text.len() < 4096);
        let text = String::from_utf8(text).expect("a text");
        let listed = text.lines().filter(|line| line.starts_with(SOCKET));
        assert_eq!(listed.count(), 3, "{text}");
        let read = || File::open(at("claim")).and_then(|claim| StaleSockets::read(&claim));
        let stale = read().expect("a list");
        assert_eq!(stale.shards().count(), 3);
        assert!(stale.has(shard(0), &there("ours")));
        assert!(!stale.has(shard(1), &there("ours")));
        for index in 0..3 {
            assert!(!stale.has(shard(index), &there("other")), "{index}");
            assert!(!stale.has(shard(index), &there("file")), "{index}");
        }
        let most = Sockets::unbound(MAX_SHARDS);
        most.write_to(&claim).expect("there is room");
        assert!(claim.metadata().expect("the file").len() < MOST_BYTES);
    }

    #[test]
    fn socket_that_a_manager_was_binding_when_it_was_killed_is_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, claim) = (folder.path().join("socket"), folder.path().join("claim"));
        let claim = files::create(&claim, 0o600).expect("a file");
        let empty = StaleSockets::read(&claim).expect("an empty file");
        Sockets::unbound(1).write_to(&claim).expect("there is room");
        let stale = StaleSockets::read(&claim).expect("a list");
        UnixListener::bind(&path).expect("a socket");
        let there = fs::symlink_metadata(&path).expect("the socket");
        assert!(stale.has(shard(0), &there));
        assert!(!stale.has(shard(1), &there) && !empty.has(shard(0), &there));
        // A socket that was bound earlier, or long after the list was written, is another program's.
        for list in [
            SystemTime::now() + Duration::from_secs(60),
            SystemTime::now() - Duration::from_secs(60),
        ] {
            claim.set_modified(list).expect("a time");
            let stale = StaleSockets::read(&claim).expect("the same file");
            assert!(!stale.has(shard(0), &there));
        }
    }
}

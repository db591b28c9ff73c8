//! The access list of a socket file: which users and groups may connect.
//!
//! The socket is bound for its own user alone and is then opened to others by one call, so it is never open
//! to more users than the list permits.

use std::{io, path::Path};

use crate::{access::Access, files::FileId};

/// Lets users and groups connect to a socket of this process.
pub(super) fn set(path: &Path, id: FileId, access: &Access) -> io::Result<()> {
    use std::{fs::File, os::fd::AsRawFd};

    use rustix::fs::{Mode, OFlags, XattrFlags, open, setxattr};

    // Another file may have replaced the socket at the path, so the list is set through a descriptor of the
    // socket that was bound.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = File::from(open(path, flags, Mode::empty())?);
    if FileId::of(&socket.metadata()?) != id {
        return Err(io::Error::other("another program has replaced the socket"));
    }
    let descriptor = format!("/proc/thread-self/fd/{}", socket.as_raw_fd());
    let list = encode(access);
    let set = setxattr(
        descriptor,
        "system.posix_acl_access",
        &list,
        XattrFlags::empty(),
    );
    set.map_err(|error| {
        let why = format!(
            "{error}: to let other users in, the file system must keep access lists, as ext4, xfs, btrfs \
             and tmpfs do: put the socket there"
        );
        io::Error::other(why)
    })
}

/// Writes an access list as the kernel reads it: a version, then entries in the order of their tags and ids.
fn encode(access: &Access) -> Vec<u8> {
    const VERSION: u32 = 2;
    const READ_AND_WRITE: u16 = 6;
    const NONE: u16 = 0;
    const NO_ID: u32 = u32::MAX;
    const OWNER: u16 = 1;
    const USER: u16 = 2;
    const OWN_GROUP: u16 = 4;
    const GROUP: u16 = 8;
    const MASK: u16 = 16;
    const OTHERS: u16 = 32;

    let sorted = |ids: &[u32]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let users = sorted(&access.uids);
    let groups = sorted(&access.gids);
    let users = users.iter().map(|uid| (USER, READ_AND_WRITE, *uid));
    let groups = groups.iter().map(|gid| (GROUP, READ_AND_WRITE, *gid));
    let entries = [(OWNER, READ_AND_WRITE, NO_ID)]
        .into_iter()
        .chain(users)
        .chain([(OWN_GROUP, NONE, NO_ID)])
        .chain(groups)
        .chain([(MASK, READ_AND_WRITE, NO_ID), (OTHERS, NONE, NO_ID)]);
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

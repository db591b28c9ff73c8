//! System errors that mean a lack of a resource, and the remedy for each.

use std::io;

use rustix::io::Errno;

/// Returns what to do if the error means that the system lacks a resource, and `None` for all other
/// errors.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some("raise this process's limit of open files (ulimit -n)"),
        Errno::NFILE => Some("raise the machine's limit of open files (fs.file-max)"),
        // The system returns the same error at the limit of threads and when there is no memory for a
        // stack.
        Errno::AGAIN => Some(
            "no thread or process could be started: raise the limit of processes and threads (ulimit -u, and the pids limit of the cgroup) or that of \
             memory (ulimit -v)",
        ),
        Errno::NOMEM => Some("free memory, or raise its limit (ulimit -v)"),
        Errno::NOSPC => Some("free space or files on that disk, or use another path"),
        Errno::FBIG => Some("raise this process's limit of the size of files (ulimit -f)"),
        Errno::DQUOT => Some("free space, raise the quota, or use another path"),
        Errno::ROFS => Some("the disk is read-only: use another path"),
        _ => None,
    }
}

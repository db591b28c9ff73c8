//! The descriptors that a forked child does not keep, and the dead socket that takes their places there.
//!
//! The table is one bit for each descriptor, in memory that is never freed: a forked child may read it at
//! any moment, and may make only async-signal-safe calls.

use std::{
    io,
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering},
};

/// How many descriptors one part of the table has room for.
const PART: usize = WORDS * BITS;
const WORDS: usize = 512;
const BITS: usize = 64;

/// One bit for each descriptor.
type Part = [AtomicU64; WORDS];

/// Which descriptors are registered: 33 million at the most, in parts that are made when they are needed.
static TABLE: [AtomicPtr<Part>; 1024] = [const { AtomicPtr::new(ptr::null_mut()) }; 1024];

/// The dead socket, once there is one.
static DEAD: AtomicI32 = AtomicI32::new(NONE);
const NONE: RawFd = -1;

/// Has a forked child replace a descriptor.
///
/// # Errors
///
/// Returns an error when the number is above those that the table has room for.
pub(crate) fn add(number: RawFd) -> io::Result<()> {
    let (word, bit) = place(number)?;
    word.fetch_or(bit, Ordering::AcqRel);
    Ok(())
}

/// Removes a descriptor from those that a forked child replaces.
pub(crate) fn remove(number: RawFd) {
    if let Ok((word, bit)) = place(number) {
        word.fetch_and(!bit, Ordering::AcqRel);
    }
}

/// Finds the bit of a descriptor.
fn place(number: RawFd) -> io::Result<(&'static AtomicU64, u64)> {
    let too_high = || io::Error::from_raw_os_error(libc::EMFILE);
    let number = usize::try_from(number).map_err(|_| too_high())?;
    let part = TABLE.get(number / PART).ok_or_else(too_high)?;
    let mut there = part.load(Ordering::Acquire);
    if there.is_null() {
        let new = Box::into_raw(Box::new([const { AtomicU64::new(0) }; WORDS]));
        match part.compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => there = new,
            Err(other) => {
                // SAFETY: it was made above, and no other thread knows of it.
                drop(unsafe { Box::from_raw(new) });
                there = other;
            }
        }
    }
    // SAFETY: a part is never freed once it is in the table.
    let part = unsafe { &*there };
    let word = &part[number % PART / BITS];
    Ok((word, 1 << (number % BITS)))
}

/// How the two ends of the dead socket are made: closed in programs that are started meanwhile, where the system
/// can do that at once.
const SOCKET_TYPE: libc::c_int = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;

/// Makes the socket that takes the place of others after a fork, unless it is there. It runs inside of the gate: a
/// forked child must not keep the other end.
pub(crate) fn make_dead_socket() -> io::Result<()> {
    if DEAD.load(Ordering::Acquire) != NONE {
        return Ok(());
    }
    let mut ends = [NONE; 2];
    // SAFETY: `ends` has room for the two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, SOCKET_TYPE, 0, ends.as_mut_ptr()) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    let [dead, other] = ends;
    close(other);
    close_on_exec(dead);
    let published = DEAD.compare_exchange(NONE, dead, Ordering::AcqRel, Ordering::Acquire);
    if published.is_err() {
        close(dead);
    }
    Ok(())
}

fn close(number: RawFd) {
    // SAFETY: the callers have opened it, and use it no more.
    let _ = unsafe { libc::close(number) };
}

fn close_on_exec(number: RawFd) {
    // SAFETY: a flag of a descriptor that this file has made.
    let _ = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Replaces all registered descriptors by the dead socket, and clears the table. It runs in a forked child,
/// and makes only async-signal-safe calls.
pub(crate) fn replace_all() {
    let dead = DEAD.load(Ordering::Acquire);
    let parts = TABLE.iter().map(|part| part.load(Ordering::Acquire));
    for (part, index) in parts.zip(0..).filter(|(part, _)| !part.is_null()) {
        // SAFETY: a part is never freed once it is in the table.
        let words = unsafe { &*part };
        for (word, at) in words.iter().zip(0..) {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let number = index * PART + at * BITS + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // It was a descriptor's before.
                if let Ok(number) = RawFd::try_from(number) {
                    replace(number, dead);
                }
            }
        }
    }
    // A child that becomes a daemon closes all that it has inherited, and makes a dead socket of its own later.
    DEAD.store(NONE, Ordering::Release);
}

fn replace(number: RawFd, dead: RawFd) {
    // SAFETY: the registered descriptor is that of a `Private`, whose value is not used in this process.
    while unsafe { libc::dup3(dead, number, libc::O_CLOEXEC) } == -1 && is_worth_a_try() {}
}

/// Returns whether the system call was interrupted, or met another one that opens a descriptor.
fn is_worth_a_try() -> bool {
    matches!(
        io::Error::last_os_error().raw_os_error(),
        Some(libc::EINTR | libc::EBUSY)
    )
}

//! The descriptors that a forked child does not inherit, and the dead socket that replaces them there.
//!
//! The table has one bit for each descriptor, in memory that is never freed: a forked child may read it
//! at any moment, and may make only async-signal-safe calls.

use std::{
    io,
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering},
};

/// The number of descriptors in one part of the table.
const PART: usize = WORDS * BITS;
const WORDS: usize = 512;
const BITS: usize = 64;

/// One bit for each descriptor.
type Chunk = [AtomicU64; WORDS];

/// The registered descriptors: at most 33 million, in chunks that are allocated when they are needed.
static TABLE: [AtomicPtr<Chunk>; 1024] = [const { AtomicPtr::new(ptr::null_mut()) }; 1024];

/// The dead socket, once it exists.
static DEAD: AtomicI32 = AtomicI32::new(NONE);
const NONE: RawFd = -1;

/// Adds a descriptor to those that a forked child replaces.
///
/// # Errors
///
/// Returns an error when the number does not fit into the table.
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
                // SAFETY: the part was made above, and no other thread has its address.
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

/// The type of the dead socket: close-on-exec from the start, where the system supports it.
const SOCKET_TYPE: libc::c_int = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;

/// Makes the dead socket, unless it exists. It runs inside the gate: a forked child must not inherit the other
/// end, or the socket would not be dead.
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
    // SAFETY: the callers opened the descriptor, and do not use it afterwards.
    let _ = unsafe { libc::close(number) };
}

fn close_on_exec(number: RawFd) {
    // SAFETY: this sets a flag of a descriptor that this file made.
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
                // The conversion succeeds, because the number was a descriptor's.
                if let Ok(number) = RawFd::try_from(number) {
                    replace(number, dead);
                }
            }
        }
    }
    // A child that becomes a daemon may close all inherited descriptors, so it makes its own dead socket later.
    DEAD.store(NONE, Ordering::Release);
}

fn replace(number: RawFd, dead: RawFd) {
    // SAFETY: the registered descriptor belongs to a `Private`, whose value is not used in this process.
    while unsafe { libc::dup3(dead, number, libc::O_CLOEXEC) } == -1 && is_worth_a_try() {}
}

/// Returns whether to repeat `dup3`: a signal interrupted it, or another call was opening a
/// descriptor at the same time.
fn is_worth_a_try() -> bool {
    matches!(
        io::Error::last_os_error().raw_os_error(),
        Some(libc::EINTR | libc::EBUSY)
    )
}

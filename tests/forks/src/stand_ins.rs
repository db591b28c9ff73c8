//! Functions that stand in for those of the C library in test programs, so that a test can be in the middle of a call,
//! count calls, or have one fail.

use std::{
    mem,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// Whether [`socketpair`] takes long in this process.
static ARE_PAIRS_SLOW: AtomicBool = AtomicBool::new(false);

/// How often it was called while it took long.
static SLOW_PAIRS: AtomicU32 = AtomicU32::new(0);

/// Whether [`flock`] takes long in this process.
static ARE_LOCKS_SLOW: AtomicBool = AtomicBool::new(false);

/// How often it has locked a file while it took long.
static SLOW_LOCKS: AtomicU32 = AtomicU32::new(0);

/// Whether [`close`] takes long in this process.
static ARE_CLOSES_SLOW: AtomicBool = AtomicBool::new(false);

/// How often [`pthread_detach`] was called.
static DETACHED: AtomicU32 = AtomicU32::new(0);

/// Whether [`getsockopt`] refuses to give the process at the other end of a socket.
static ARE_PEERS_REFUSED: AtomicBool = AtomicBool::new(false);

/// How long a slow function takes.
const SLOWNESS: Duration = Duration::from_millis(100);

/// The option for the process at the other end of a socket.
const SO_PEERPIDFD: libc::c_int = 77;

/// Makes `socketpair` slow or fast in this process.
pub fn make_socket_pairs_slow(is_slow: bool) {
    ARE_PAIRS_SLOW.store(is_slow, Ordering::SeqCst);
}

/// How often a thread has begun to make a slow pair of sockets.
#[must_use]
pub fn slow_socket_pairs() -> u32 {
    SLOW_PAIRS.load(Ordering::SeqCst)
}

/// Makes `flock` slow or fast in this process, after it has locked a file.
pub fn make_file_locks_slow(is_slow: bool) {
    ARE_LOCKS_SLOW.store(is_slow, Ordering::SeqCst);
}

/// How often a thread has slowly locked a file.
#[must_use]
pub fn slow_file_locks() -> u32 {
    SLOW_LOCKS.load(Ordering::SeqCst)
}

/// Makes `close` slow or fast in this process. It takes half the time of other slow functions.
pub fn make_closes_slow(is_slow: bool) {
    ARE_CLOSES_SLOW.store(is_slow, Ordering::SeqCst);
}

/// How many threads were detached.
#[must_use]
pub fn detached_threads() -> u32 {
    DETACHED.load(Ordering::SeqCst)
}

/// Makes `getsockopt` report that it does not know the option for the process at the other end of a socket.
pub fn refuse_peer_processes() {
    ARE_PEERS_REFUSED.store(true, Ordering::SeqCst);
}

/// Makes a pair of sockets, and may take long before.
///
/// # Safety
///
/// `pair` has room for two numbers.
// SAFETY: it has the signature and does the work of the function that it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socketpair(
    domain: libc::c_int,
    kind: libc::c_int,
    protocol: libc::c_int,
    pair: *mut libc::c_int,
) -> libc::c_int {
    if ARE_PAIRS_SLOW.load(Ordering::SeqCst) {
        SLOW_PAIRS.fetch_add(1, Ordering::SeqCst);
        thread::sleep(SLOWNESS);
    }
    // SAFETY: the caller's promise.
    let made = unsafe { libc::syscall(libc::SYS_socketpair, domain, kind, protocol, pair) };
    if made == 0 { 0 } else { -1 }
}

/// Locks a file, and may take long afterwards.
// SAFETY: it has the signature and does the work of the function that it replaces.
#[unsafe(no_mangle)]
pub extern "C" fn flock(file: libc::c_int, operation: libc::c_int) -> libc::c_int {
    // SAFETY: the system checks both numbers.
    let done = unsafe { libc::syscall(libc::SYS_flock, file, operation) };
    if done != 0 {
        return -1;
    }
    if operation & libc::LOCK_EX != 0 && ARE_LOCKS_SLOW.load(Ordering::SeqCst) {
        SLOW_LOCKS.fetch_add(1, Ordering::SeqCst);
        thread::sleep(SLOWNESS);
    }
    0
}

/// Closes a descriptor, and may take long before.
// SAFETY: it has the signature and does the work of the function that it replaces.
#[unsafe(no_mangle)]
pub extern "C" fn close(descriptor: libc::c_int) -> libc::c_int {
    if ARE_CLOSES_SLOW.load(Ordering::SeqCst) {
        thread::sleep(SLOWNESS / 2);
    }
    // SAFETY: the caller has to know that nothing else uses the descriptor, as with the function that this replaces.
    let closed = unsafe { libc::syscall(libc::SYS_close, descriptor) };
    if closed == 0 { 0 } else { -1 }
}

/// Detaches a thread, and counts it.
///
/// # Safety
///
/// As for the function that it replaces.
// SAFETY: it has the signature and does the work of the function that it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_detach(thread: libc::pthread_t) -> libc::c_int {
    DETACHED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the name is a text of the C language.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_detach".as_ptr()) };
    assert!(!next.is_null());
    // SAFETY: the C library's function of that name has this signature.
    let next: unsafe extern "C" fn(libc::pthread_t) -> libc::c_int =
        unsafe { mem::transmute(next) };
    // SAFETY: the caller's promise.
    unsafe { next(thread) }
}

/// Gives an option of a socket, unless it is refused.
///
/// # Safety
///
/// `value` has room for as many bytes as `length` says.
// SAFETY: it has the signature and does the work of the function that it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    socket: libc::c_int,
    level: libc::c_int,
    option: libc::c_int,
    value: *mut libc::c_void,
    length: *mut libc::socklen_t,
) -> libc::c_int {
    let is_refused = (level, option) == (libc::SOL_SOCKET, SO_PEERPIDFD)
        && ARE_PEERS_REFUSED.load(Ordering::SeqCst);
    if is_refused {
        // SAFETY: the place is this thread's.
        unsafe { *libc::__errno_location() = libc::EINVAL };
        return -1;
    }
    // SAFETY: the caller's promise.
    let given =
        unsafe { libc::syscall(libc::SYS_getsockopt, socket, level, option, value, length) };
    if given == 0 { 0 } else { -1 }
}

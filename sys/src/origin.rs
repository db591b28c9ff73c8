//! `Origin`: the process in which a value was made.
//!
//! Each process has a number in a page that the kernel wipes in a forked child (`MADV_WIPEONFORK`). So one
//! load detects a fork, even by a raw `clone` system call. Process ids are not compared, because they
//! repeat between pid namespaces. `pthread_atfork` handlers give a forked child its number at once, and
//! replace the descriptors of its parent. After a raw clone, the first load of the wiped page does both.
//!
//! Invariant: a process and its ancestors by fork all have different numbers.

use std::{
    hint, ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use crate::{gate, page, registry};

/// The process in which a value was made.
///
/// ```
/// use lockkeeper_sys::Origin;
///
/// let origin = Origin::here();
/// assert!(origin.is_here());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

/// The target of [`NUMBER`] before the first [`Origin`] is made.
static UNSET: AtomicU64 = AtomicU64::new(WIPED);

/// The number of this process if there is no page. Then only the handlers detect a fork.
static WITHOUT_PAGE: AtomicU64 = AtomicU64::new(WIPED);

/// Points to the number of this process.
static NUMBER: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const UNSET).cast_mut());

/// The number of this process or, until a fork is detected, that of its parent. It is in ordinary
/// memory, of which a forked child has a copy.
static LAST: AtomicU64 = AtomicU64::new(WIPED);

/// The value for a process that has no number yet.
const WIPED: u64 = 0;

/// The number of a process that was not forked since it made its first [`Origin`].
const FIRST: u64 = 1;

/// The value while a process gets its number.
const BUSY: u64 = u64::MAX;

impl Origin {
    /// Returns the current process.
    #[inline]
    #[must_use]
    pub fn here() -> Self {
        match number().load(Ordering::Acquire) {
            WIPED | BUSY => Self(enter()),
            number => Self(number),
        }
    }

    /// Returns whether this was made in the current process.
    #[inline]
    #[must_use]
    pub fn is_here(self) -> bool {
        number().load(Ordering::Acquire) == self.0 || is_elsewhere()
    }

    /// Returns whether this process is a fork that happened after lockkeeper was first used in it or
    /// in an ancestor.
    #[inline]
    #[must_use]
    pub fn is_forked(self) -> bool {
        self.0 != FIRST
    }
}

/// Ensures that a process which finds another process's origin has its own number. Returns `false`.
#[cold]
fn is_elsewhere() -> bool {
    enter();
    false
}

#[inline]
fn number() -> &'static AtomicU64 {
    // SAFETY: the pointer leads to a static, or to a page that is never unmapped once the pointer is
    // stored.
    unsafe { &*NUMBER.load(Ordering::Acquire) }
}

/// Gives this process a number if it has none, and returns it.
#[cold]
fn enter() -> u64 {
    install();
    let number = number();
    loop {
        match number.compare_exchange(WIPED, BUSY, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                if LAST.load(Ordering::Acquire) != WIPED {
                    // This was a raw clone: no handler has run.
                    gate::replace();
                    registry::replace_all();
                }
                let own = next();
                number.store(own, Ordering::Release);
                return own;
            }
            Err(BUSY) => hint::spin_loop(),
            Err(own) => return own,
        }
    }
}

fn next() -> u64 {
    LAST.fetch_add(1, Ordering::AcqRel) + 1
}

/// Maps the page and registers the handlers, once for this process and its forks.
fn install() {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    let unset = (&raw const UNSET).cast_mut();
    if NUMBER.load(Ordering::Acquire) == unset {
        let page = page::map();
        let place = page.unwrap_or_else(|| (&raw const WITHOUT_PAGE).cast_mut());
        let published = NUMBER.compare_exchange(unset, place, Ordering::AcqRel, Ordering::Acquire);
        if let (Err(_), Some(page)) = (published, page) {
            page::unmap(page);
        }
    }
    if !IS_REGISTERED.swap(true, Ordering::AcqRel) {
        // This fails only without memory. Then only the page detects a fork. SAFETY: the handlers
        // are functions of this crate, and exist for as long as it is loaded.
        let _ = unsafe {
            libc::pthread_atfork(
                Some(before_fork),
                Some(after_in_parent),
                Some(after_in_child),
            )
        };
    }
}

extern "C" fn before_fork() {
    // After a raw clone, threads that do not exist in this process may count as inside the gate.
    let _ = Origin::here();
    gate::close();
}

extern "C" fn after_in_parent() {
    gate::open();
}

/// Runs in the child before `fork` returns there, so it makes only async-signal-safe calls.
extern "C" fn after_in_child() {
    let number = number();
    // A handler of the program may have run first and used lockkeeper, which detected the fork then.
    if number.load(Ordering::Acquire) == WIPED || ptr::eq(number, &raw const WITHOUT_PAGE) {
        registry::replace_all();
        number.store(next(), Ordering::Release);
    }
    gate::open_in_child();
}

//! The page of [`Origin`](crate::Origin), which the kernel wipes in a forked child. Only Linux has such pages.

use std::ptr;
use std::sync::atomic::AtomicU64;

/// Maps a page that forks wipe.
pub(crate) fn map() -> Option<*mut AtomicU64> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let length = size_of::<AtomicU64>();
    // SAFETY: this makes a new mapping at an address that the system chooses.
    let page = unsafe { libc::mmap(ptr::null_mut(), length, rights, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping was made above and is used by nothing else. The length is rounded up to pages.
    let wiped = unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) };
    if wiped != 0 {
        // The kernel is older than 4.14.
        unmap(page.cast());
        return None;
    }
    Some(page.cast())
}

/// Unmaps a page that no other thread has seen.
pub(crate) fn unmap(page: *mut AtomicU64) {
    // SAFETY: the page was mapped by `map`, and no other thread has its address.
    let _ = unsafe { libc::munmap(page.cast(), size_of::<AtomicU64>()) };
}

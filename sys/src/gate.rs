//! The gate: a readers-writer lock that a fork takes for writing.
//!
//! A thread enters the gate for work that must not be half done when this process is forked: it opens and
//! registers a descriptor, or holds a mutex. A fork waits until the threads have left, so they must stay
//! inside only briefly.
//!
//! Invariant: a thread that is inside never waits for the gate again.

use std::{
    cell::{Cell, UnsafeCell},
    fmt,
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicPtr, Ordering},
    },
};

static FIRST: RwLock<()> = RwLock::new(());

/// The gate of this process.
static GATE: AtomicPtr<RwLock<()>> = AtomicPtr::new((&raw const FIRST).cast_mut());

thread_local! {
    /// How often this thread is inside.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The guard of the thread that forks.
struct Forking(UnsafeCell<Option<RwLockWriteGuard<'static, ()>>>);

// SAFETY: a thread uses the content only while it keeps all others out of the gate, or is inside itself, which
// keeps out those that fork.
unsafe impl Sync for Forking {}

static FORKING: Forking = Forking(UnsafeCell::new(None));

fn gate() -> &'static RwLock<()> {
    // SAFETY: the pointer is that of a static or of a value that was leaked.
    unsafe { &*GATE.load(Ordering::Acquire) }
}

/// A guard of a thread inside the gate: no fork happens until it is dropped.
pub(crate) struct Inside(Option<RwLockReadGuard<'static, ()>>);

impl Inside {
    pub(crate) fn enter() -> Self {
        let is_outer = INSIDE.replace(INSIDE.get() + 1) == 0;
        // A second lock would wait for a fork that waits for this thread.
        Self(is_outer.then(|| gate().read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.0.take());
        INSIDE.set(INSIDE.get() - 1);
    }
}

/// Closes the gate before a fork: waits for the threads inside, and lets no other in.
pub(crate) fn close() {
    // A thread that forks inside the gate cannot wait for itself.
    if INSIDE.get() == 0 {
        let guard = gate().write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the guard keeps out all other threads that fork, and those use the content alone.
        unsafe { *FORKING.0.get() = Some(guard) };
    }
}

/// Lets threads in again, after a fork. It runs in the thread that has called [`close`], or in its copy.
pub(crate) fn open() {
    // SAFETY: this thread keeps the others out by the content, or is inside: see `close`.
    let guard = unsafe { (*FORKING.0.get()).take() };
    drop(guard);
}

/// Makes a new gate after a raw clone, which did not close this one: threads that do not exist here may
/// count as inside.
pub(crate) fn replace() {
    GATE.store(Box::leak(Box::new(RwLock::new(()))), Ordering::Release);
}

/// Data behind a mutex that no fork finds locked, so that a forked child has it too: what a program
/// registers when it starts, for example.
///
/// A raw `clone` system call may find it locked, as it may find the memory allocator locked.
///
/// ```
/// use lockkeeper_sys::Inherited;
///
/// static NAMES: Inherited<Vec<String>> = Inherited::new(Vec::new());
///
/// NAMES.with(|names| names.push("first".to_owned()));
/// assert_eq!(NAMES.with(|names| names.len()), 1);
/// ```
#[derive(Default)]
pub struct Inherited<T>(Mutex<T>);

impl<T> Inherited<T> {
    /// Puts data behind a mutex.
    pub const fn new(data: T) -> Self {
        Self(Mutex::new(data))
    }

    /// Runs `use_it` with the data locked. A fork of another thread waits for it, so it must be short, and it
    /// must not use this data by another `with`.
    ///
    /// A panic in an earlier `use_it` has left the data as it was then.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let _inside = Inside::enter();
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Inherited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").finish_non_exhaustive()
    }
}

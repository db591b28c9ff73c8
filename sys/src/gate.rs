//! The gate: a readers-writer lock that a fork takes for writing.
//!
//! A thread enters the gate for work that must not be half done when this process is forked: it opens and
//! registers a descriptor, or holds a mutex. A fork waits until the threads have left, so they must stay
//! inside only briefly.
//!
//! Invariant: a thread that is inside, or that forks, never waits for the gate again.

use std::{
    cell::{Cell, UnsafeCell},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicPtr, Ordering},
    },
};

static FIRST: RwLock<()> = RwLock::new(());

/// The gate of this process.
static GATE: AtomicPtr<RwLock<()>> = AtomicPtr::new((&raw const FIRST).cast_mut());

thread_local! {
    /// How often this thread is inside, or has closed the gate.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The guard of the thread that forks.
struct Forking(UnsafeCell<Option<RwLockWriteGuard<'static, ()>>>);

// SAFETY: a thread uses the content only while it keeps all others out of the gate.
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
        left();
    }
}

/// Closes the gate before a fork: waits for the threads inside, and lets no other in.
pub(crate) fn close() {
    // A thread that forks inside the gate cannot wait for itself, nor for others, which may wait for it.
    if INSIDE.get() == 0 {
        let guard = gate().write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the guard keeps out all other threads that fork, and those use the content alone.
        unsafe { *FORKING.0.get() = Some(guard) };
    }
    // Fork handlers of the program, which run in this thread too, may use lockkeeper.
    INSIDE.set(INSIDE.get() + 1);
}

/// Lets threads in again, after a fork. It runs in the thread that has called [`close`].
pub(crate) fn open() {
    if left() {
        // SAFETY: this thread keeps the others out by the content: see `close`.
        let guard = unsafe { (*FORKING.0.get()).take() };
        drop(guard);
    }
}

/// The same in the forked child.
pub(crate) fn open_in_child() {
    if INSIDE.get() == 1 {
        open();
    } else {
        // The thread was inside when it forked, so the gate was not closed. The C library lets a child allocate
        // before it runs handlers.
        replace();
        left();
    }
}

/// Notes that this thread has left. Returns whether it is outside now.
fn left() -> bool {
    let inside = INSIDE.get() - 1;
    INSIDE.set(inside);
    inside == 0
}

/// Makes a new gate after a fork that did not close this one: threads that do not exist here may count as
/// inside.
pub(crate) fn replace() {
    GATE.store(Box::leak(Box::new(RwLock::new(()))), Ordering::Release);
}

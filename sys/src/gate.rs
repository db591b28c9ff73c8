//! The gate: a readers-writer lock that each fork takes for writing.
//!
//! A thread enters the gate (takes it for reading) for work that a fork must not interrupt: opening and
//! registering a descriptor, or holding a mutex. A fork waits until all threads have left, so the work
//! must be short.
//!
//! Invariant: a thread that is inside the gate, or that forks, never waits for the gate again.

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
    /// How often this thread has entered or closed the gate.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The guard of the thread that forks.
struct Forking(UnsafeCell<Option<RwLockWriteGuard<'static, ()>>>);

// SAFETY: a thread uses the content only while it holds the gate for writing.
unsafe impl Sync for Forking {}

static FORKING: Forking = Forking(UnsafeCell::new(None));

fn gate() -> &'static RwLock<()> {
    // SAFETY: the pointer leads to a static or to a leaked value.
    unsafe { &*GATE.load(Ordering::Acquire) }
}

/// A guard of a thread inside the gate: no fork happens until it is dropped.
pub(crate) struct Inside(Option<RwLockReadGuard<'static, ()>>);

impl Inside {
    pub(crate) fn enter() -> Self {
        let is_outer = INSIDE.replace(INSIDE.get() + 1) == 0;
        // A second read lock could wait for a fork that waits for this thread.
        Self(is_outer.then(|| gate().read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.0.take());
        left();
    }
}

/// Closes the gate before a fork: waits for the threads inside, and keeps others out.
pub(crate) fn close() {
    // A thread that forks inside the gate cannot wait for itself, nor for other threads, which may wait
    // for it.
    if INSIDE.get() == 0 {
        let guard = gate().write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only forking threads use the content, and the guard keeps all others out.
        unsafe { *FORKING.0.get() = Some(guard) };
    }
    // The program's own fork handlers run on this thread too, and may use lockkeeper.
    INSIDE.set(INSIDE.get() + 1);
}

/// Opens the gate in the parent after a fork. It runs on the thread that called [`close`].
pub(crate) fn open() {
    if left() {
        // SAFETY: if the content is a guard, this thread stored it, and it keeps the others out:
        // see `close`.
        let guard = unsafe { (*FORKING.0.get()).take() };
        drop(guard);
    }
}

/// Opens the gate in the forked child.
pub(crate) fn open_in_child() {
    if INSIDE.get() == 1 {
        open();
    } else {
        // The thread was inside when it forked, so the gate was not closed. `replace` allocates, which the C
        // library permits in these handlers.
        replace();
        left();
    }
}

/// Records that this thread has left once. Returns whether it is outside now.
fn left() -> bool {
    let inside = INSIDE.get() - 1;
    INSIDE.set(inside);
    inside == 0
}

/// Replaces the gate after a fork that did not close it: threads that do not exist in this process may
/// count as inside.
pub(crate) fn replace() {
    GATE.store(Box::leak(Box::new(RwLock::new(()))), Ordering::Release);
}

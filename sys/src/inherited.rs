//! `without_forks` and `Inherited`: work that no fork by another thread interrupts, and data that is used
//! only in such work.
//!
//! Invariant: a process has registered its fork handlers before it enters the gate here, so no forked child finds
//! a thread of its parent inside.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{gate::Inside, origin::Origin};

/// Enters the gate. Making the first origin registers the fork handlers, which close the gate.
fn enter() -> Inside {
    let _ = Origin::here();
    Inside::enter()
}

/// Runs `work`. Forks by other threads wait until it is done, so a forked child does not inherit a descriptor
/// that `work` opens and closes. `work` must be short, and must not wait for a thread that may fork.
///
/// A raw `clone` system call does not wait, and neither does a fork that `work` itself makes. In the child of such a
/// fork, data that other threads were using stays locked.
///
/// ```
/// use std::fs::File;
///
/// use lockkeeper_sys::without_forks;
///
/// # fn main() -> std::io::Result<()> {
/// let length = without_forks(|| File::open("/dev/null")?.metadata())?.len();
/// assert_eq!(length, 0);
/// # Ok(())
/// # }
/// ```
pub fn without_forks<R>(work: impl FnOnce() -> R) -> R {
    let _inside = enter();
    work()
}

/// Data behind a mutex that no fork finds locked, so that a forked child can use it too. It holds,
/// for example, what a program registers when it starts.
///
/// After a raw `clone` system call the mutex may be locked in the child, as may the memory
/// allocator.
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

    /// Runs `use_it` with the data locked. Forks by other threads wait for it, so `use_it` must be short. It
    /// must not call `with` on the same data.
    ///
    /// After a panic in an earlier `use_it`, the data stays as it was at the panic.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let _inside = enter();
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Inherited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").finish_non_exhaustive()
    }
}

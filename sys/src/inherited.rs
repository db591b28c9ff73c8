//! `without_forks` and `Inherited`: work that no fork of another thread interrupts, and data that is used so.
//!
//! Invariant: a process that enters the gate here is one that notices its forks, so no forked child finds a thread
//! of its parent inside.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{gate::Inside, origin::Origin};

/// Enters the gate. The first origin of a process has forks close it.
fn enter() -> Inside {
    let _ = Origin::here();
    Inside::enter()
}

/// Runs `work`, while a fork of another thread waits until it is done: so a forked child has no descriptor that
/// `work` opens and closes. It must be short, and must not wait for a thread that may fork.
///
/// A raw `clone` system call does not wait, and neither does a fork that `work` itself makes. In the child of such a
/// fork, data that other threads were using is locked for ever.
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
        let _inside = enter();
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Inherited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").finish_non_exhaustive()
    }
}

//! `PerProcess`: a value that each process creates separately.
//!
//! It is a `OnceLock` that is empty again in a forked child. The child leaks the parent's value, because a
//! thread of the parent may have locked a mutex in it. `PerProcess` itself has no lock that a fork could
//! find locked.

use std::{
    fmt,
    marker::PhantomData,
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::origin::Origin;

/// A value that each process creates separately, on first use.
///
/// ```
/// use std::sync::Mutex;
///
/// use lockkeeper_sys::PerProcess;
///
/// static SEEN: PerProcess<Mutex<Vec<u32>>> = PerProcess::new();
///
/// SEEN.get_or_init(Mutex::default).lock().unwrap().push(1);
/// ```
pub struct PerProcess<T> {
    made: AtomicPtr<Made<T>>,
    owns: PhantomData<Box<Made<T>>>,
}

/// A value, and the process that made it.
struct Made<T> {
    origin: Origin,
    value: T,
}

// SAFETY: any thread may get the value as a `&T`, and any thread may drop it.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

impl<T> PerProcess<T> {
    /// Makes an empty `PerProcess`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            made: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Returns the value of this process, if it has made one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        let made = self.made.load(Ordering::Acquire);
        // SAFETY: the pointer is null or was leaked from a box. The box is freed only by the drop of `self`,
        // or before its pointer was stored.
        let made = unsafe { made.as_ref() }?;
        made.origin.is_here().then_some(&made.value)
    }

    /// Returns the value of this process, and makes it first if necessary. If several threads make one at
    /// the same time, all get the value of one of them.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let (origin, value) = (Origin::here(), make());
        let new = Box::into_raw(Box::new(Made { origin, value }));
        let mut there = self.made.load(Ordering::Acquire);
        loop {
            // SAFETY: as in `get`.
            if let Some(made) = unsafe { there.as_ref() }
                && made.origin == origin
            {
                // SAFETY: the box was made above, and no other thread has its address.
                drop(unsafe { Box::from_raw(new) });
                return &made.value;
            }
            let exchanged =
                self.made
                    .compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                // SAFETY: as in `get`.
                Ok(_) => return unsafe { &(*new).value },
                Err(other) => there = other,
            }
        }
    }
}

impl<T> From<T> for PerProcess<T> {
    /// Makes a `PerProcess` with the value of this process.
    fn from(value: T) -> Self {
        let this = Self::new();
        this.get_or_init(|| value);
        this
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let made = *self.made.get_mut();
        // SAFETY: as in `get`.
        if unsafe { made.as_ref() }.is_some_and(|made| made.origin.is_here()) {
            // SAFETY: the box belongs to this process, and no reference to it exists during the drop of
            // `self`.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerProcess").field(&self.get()).finish()
    }
}

//! `OnlyHere`: a value that only the process that made it uses and drops.
//!
//! A forked child can neither use nor drop the value: the drop might wait for a mutex that a thread of the
//! parent had locked, or act on sockets and files of the parent.

use std::{
    fmt,
    future::Future,
    mem::ManuallyDrop,
    pin::Pin,
    task::{Context, Poll},
};

use crate::origin::Origin;

/// A value that only the process that made it uses and drops. A forked child leaks its copy.
///
/// ```
/// use lockkeeper_sys::OnlyHere;
///
/// let value = OnlyHere::new(vec![1, 2]);
/// assert_eq!(value.get().map(Vec::len), Some(2));
/// ```
pub struct OnlyHere<T> {
    value: ManuallyDrop<T>,
    origin: Origin,
}

impl<T> OnlyHere<T> {
    /// Wraps a value of this process.
    pub fn new(value: T) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            origin: Origin::here(),
        }
    }

    /// Returns whether this process made the value.
    #[inline]
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// Returns the value, or `None` in a forked child.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.is_here().then(|| &*self.value)
    }

    /// Returns the value, or `None` in a forked child.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.is_here().then(|| &mut *self.value)
    }

    /// Returns the inner value, or `None` in a forked child.
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        let mut this = ManuallyDrop::new(self);
        if !this.is_here() {
            return None;
        }
        // SAFETY: `this` is neither dropped nor used afterwards.
        Some(unsafe { ManuallyDrop::take(&mut this.value) })
    }
}

impl<T: Future> OnlyHere<T> {
    /// Wraps a future. A forked child neither polls nor drops it: its output there is `None`.
    pub fn future(future: T) -> HereFuture<T> {
        HereFuture(OnlyHere::new(Box::pin(future)))
    }
}

impl<T: Default> Default for OnlyHere<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for OnlyHere<T> {
    #[inline]
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: this is the drop, and the value is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnlyHere<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnlyHere").field(&self.get()).finish()
    }
}

/// A future that a forked child neither polls nor drops: see [`OnlyHere::future`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct HereFuture<F>(OnlyHere<Pin<Box<F>>>);

impl<F: Future> Future for HereFuture<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.get_mut() {
            Some(future) => future.as_mut().poll(task).map(Some),
            None => Poll::Ready(None),
        }
    }
}

//! `Private`: a descriptor that a forked child does not inherit.
//!
//! In the child each registered descriptor is replaced by a dead socket: a socket whose other end is
//! closed. The number stays in use, so copied values that use it do not reach another file: a read
//! returns end of file, a write fails, and a runtime that removes its registration does not remove one of
//! the parent's.
//!
//! Invariant: no fork happens between opening a descriptor and registering it, nor between removing the
//! registration and closing it.

use std::{
    fmt, io,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use crate::{gate::Inside, origin::Origin, registry};

/// A value with a descriptor, such as a socket or a file, that a forked child does not inherit: in the
/// child the parent's value cannot be used, and dropping it does nothing.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use lockkeeper_sys::Private;
///
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = UnixStream::pair()?;
/// let here = Private::open(move || Ok(here))?;
/// here.get()?.set_nonblocking(true)?;
/// # Ok(())
/// # }
/// ```
pub struct Private<T: AsFd> {
    value: ManuallyDrop<T>,
    number: RawFd,
    origin: Origin,
}

impl<T: AsFd> Private<T> {
    /// Opens a value and registers its descriptor, which must not change. Forks wait meanwhile, so `open`
    /// must be short.
    ///
    /// # Errors
    ///
    /// Returns the error of `open`, and an error when the process has no descriptors left for the
    /// dead socket, which the first value creates.
    pub fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        let origin = Origin::here();
        let _inside = Inside::enter();
        registry::make_dead_socket()?;
        Self::register(open()?, origin)
    }

    /// Opens two values, such as a socket pair, and registers the descriptors of both, as [`Self::open`]
    /// does.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_pair<U: AsFd>(
        open: impl FnOnce() -> io::Result<(T, U)>,
    ) -> io::Result<(Self, Private<U>)> {
        let origin = Origin::here();
        let _inside = Inside::enter();
        registry::make_dead_socket()?;
        let (one, other) = open()?;
        let one = Self::register(one, origin)?;
        Ok((one, Private::register(other, origin)?))
    }

    /// Converts the value, for example from a descriptor to a socket. Forks wait meanwhile, so `make` must be
    /// short.
    ///
    /// # Errors
    ///
    /// Returns the error of `make`, and an error in a forked child of the process that opened the value.
    pub fn map<U: AsFd>(self, make: impl FnOnce(T) -> io::Result<U>) -> io::Result<Private<U>> {
        let _inside = Inside::enter();
        self.get()?;
        let mut this = ManuallyDrop::new(self);
        registry::remove(this.number);
        // SAFETY: `this` is neither dropped nor used afterwards.
        let value = unsafe { ManuallyDrop::take(&mut this.value) };
        Private::register(make(value)?, this.origin)
    }

    /// Registers the descriptor of a value. It runs inside the gate.
    fn register(value: T, origin: Origin) -> io::Result<Self> {
        let number = value.as_fd().as_raw_fd();
        registry::add(number)?;
        Ok(Self {
            value: ManuallyDrop::new(value),
            number,
            origin,
        })
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// Returns an error in a forked child of the process that opened it.
    #[inline]
    pub fn get(&self) -> io::Result<&T> {
        if self.origin.is_here() {
            Ok(&self.value)
        } else {
            Err(forked())
        }
    }

    /// Returns the process that opened the value.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }
}

#[cold]
fn forked() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "it belongs to the parent of this forked process: open it again in this process",
    )
}

impl<T: AsFd> AsFd for Private<T> {
    /// Borrows the descriptor. In a forked child it is a dead socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.value.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Private<T> {
    /// Returns the number of the descriptor. In a forked child it is a dead socket.
    fn as_raw_fd(&self) -> RawFd {
        self.number
    }
}

impl<T: AsFd> Drop for Private<T> {
    fn drop(&mut self) {
        if !self.origin.is_here() {
            // Threads of the parent may have been using the value at the fork, and other values may
            // contain the number. So the value is neither dropped nor closed.
            return;
        }
        let _inside = Inside::enter();
        registry::remove(self.number);
        // SAFETY: this is the drop, and the value is not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.value) };
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Private").field(&self.number).finish()
    }
}

//! The registration of descriptors with a runtime.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{self, Handle},
};

/// Registers a descriptor with the current runtime.
///
/// # Errors
///
/// Returns an error for a runtime that is shutting down, and for one without I/O. tokio panics for the latter,
/// and has no function that tells such a runtime from others. The panic is caught, so it has no effect but the
/// line of the panic hook; a program that is built with `panic = "abort"` ends with that line.
pub(super) fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    let runtime = Handle::try_current().map_err(io::Error::other)?.id();
    if WITHOUT_IO.has(runtime) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    #[expect(
        deprecated,
        reason = "the successor is unsafe, for types whose descriptor may change; those here own theirs"
    )]
    let register = || AsyncFd::with_interest(io, interest);
    catch_unwind(AssertUnwindSafe(register)).unwrap_or_else(|_| {
        WITHOUT_IO.add(runtime);
        Err(io::ErrorKind::Unsupported.into())
    })
}

/// The runtimes that are known to have no I/O, so that each one panics once.
static WITHOUT_IO: Runtimes = Runtimes {
    has_any: AtomicBool::new(false),
    latest: Mutex::new(VecDeque::new()),
};

/// The most runtimes that are known at a time. A program may make runtimes without end, and an earlier one
/// that registers again only panics again.
const MOST_RUNTIMES: usize = 64;

struct Runtimes {
    has_any: AtomicBool,
    latest: Mutex<VecDeque<runtime::Id>>,
}

impl Runtimes {
    fn has(&self, runtime: runtime::Id) -> bool {
        self.has_any.load(Ordering::Acquire)
            && self
                .latest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&runtime)
    }

    fn add(&self, runtime: runtime::Id) {
        let latest = self.latest.lock();
        let mut latest = latest.unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= MOST_RUNTIMES {
            latest.pop_front();
        }
        latest.push_back(runtime);
        drop(latest);
        self.has_any.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    #[test]
    fn runtimes_without_io_are_known_up_to_a_limit() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let kind = |runtime: &Runtime| {
            let _entered = runtime.enter();
            let registered = register(socket.try_clone().unwrap(), Interest::READABLE);
            registered.map(drop).unwrap_err().kind()
        };
        for _ in 0..=MOST_RUNTIMES {
            let bare = Builder::new_current_thread().build().unwrap();
            for _ in 0..2 {
                assert_eq!(kind(&bare), io::ErrorKind::Unsupported);
            }
            assert!(WITHOUT_IO.has(bare.handle().id()));
        }
        let known = WITHOUT_IO.latest.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner).len();
        assert_eq!(known, MOST_RUNTIMES);
    }
}

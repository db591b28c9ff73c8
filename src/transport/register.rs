//! The registration of descriptors with a runtime.

use std::{
    error::Error,
    fmt, io,
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
/// Returns [`NoIo`] for a runtime without I/O. tokio panics then, and has no function that tells such a runtime
/// from others.
pub(super) fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    let runtime = Handle::try_current().map_err(io::Error::other)?.id();
    if WITHOUT_IO.has(runtime) {
        return Err(io::Error::other(NoIo));
    }
    #[expect(
        deprecated,
        reason = "the successor is unsafe, for types whose descriptor may change; those here own theirs"
    )]
    let register = || AsyncFd::with_interest(io, interest);
    catch_unwind(AssertUnwindSafe(register)).unwrap_or_else(|_| {
        WITHOUT_IO.add(runtime);
        Err(io::Error::other(NoIo))
    })
}

/// The runtimes that are known to have no I/O, so that each one panics once.
static WITHOUT_IO: Runtimes = Runtimes {
    has_any: AtomicBool::new(false),
    all: Mutex::new(Vec::new()),
};

struct Runtimes {
    has_any: AtomicBool,
    all: Mutex<Vec<runtime::Id>>,
}

impl Runtimes {
    fn has(&self, runtime: runtime::Id) -> bool {
        self.has_any.load(Ordering::Acquire)
            && self
                .all
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&runtime)
    }

    fn add(&self, runtime: runtime::Id) {
        let all = self.all.lock();
        all.unwrap_or_else(PoisonError::into_inner).push(runtime);
        self.has_any.store(true, Ordering::Release);
    }
}

/// The error that the caller's runtime has no I/O.
#[derive(Debug)]
pub(crate) struct NoIo;

impl NoIo {
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

impl fmt::Display for NoIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the tokio runtime of this task has no I/O: build it with enable_all(), or with enable_io()",
        )
    }
}

impl Error for NoIo {}

//! The runtime for work that must not depend on the caller's runtime.
//!
//! It starts on first use. A start that fails, as without file descriptors, is tried again by the next use.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use lockkeeper_sys::{Origin, PerProcess};
use tokio::runtime::{self, Handle, Runtime};

/// The runtime for what must not depend on the caller's: one thread, started on first use.
///
/// # Panics
///
/// Panics if it does not run yet and the system has no room for it. See [`start`].
pub(crate) fn background() -> &'static Runtime {
    start().unwrap_or_else(|error| {
        panic!("lockkeeper's background thread needs descriptors and a thread, and the system has none: {error}")
    })
}

/// The same, with an error where the system has no room for it. The first use of a connection and of a
/// child process is by this function.
pub(crate) fn start() -> io::Result<&'static Runtime> {
    static BACKGROUND: PerProcess<Background> = PerProcess::new();
    let background = BACKGROUND.get_or_init(Background::default);
    if let Some(runtime) = background.runtime.get() {
        return Ok(runtime);
    }
    let starting = background.starting.lock();
    let _one_at_a_time = starting.unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = background.runtime.get() {
        return Ok(runtime);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("lockkeeper-io")
        .enable_all()
        .build()?;
    Ok(background.runtime.get_or_init(|| runtime))
}

/// The runtime of one process: a forked child has none of the threads of its parent's.
#[derive(Default)]
struct Background {
    runtime: OnceLock<Runtime>,
    starting: Mutex<()>,
}

/// Returns the runtime that runs the caller and may wait for streams. Not in a forked child: its caller may
/// run on a copy of the parent's runtime, which would have the kernel wake both processes by what either
/// registers. There the background waits for all.
pub(crate) fn current() -> Option<Handle> {
    let handle = Handle::try_current().ok()?;
    (!Origin::here().is_forked()).then_some(handle)
}

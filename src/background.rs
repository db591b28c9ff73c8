//! The runtime for work that must not depend on the caller's runtime.
//!
//! It starts on first use. A start that fails, as without file descriptors, is tried again by the next use.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use tokio::runtime::{self, Runtime};

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
    static BACKGROUND: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = BACKGROUND.get() {
        return Ok(runtime);
    }
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = BACKGROUND.get() {
        return Ok(runtime);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("lockkeeper-io")
        .enable_all()
        .build()?;
    Ok(BACKGROUND.get_or_init(|| runtime))
}

//! The runtime for work that must not depend on the caller's runtime.
//!
//! It starts on first use. A start that fails, as without descriptors or threads, is tried again by the next
//! use.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use lockkeeper_sys::{Origin, PerProcess};
use tokio::{
    runtime::{self, Handle, Runtime},
    sync::oneshot,
};

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

/// Returns the same, or an error if the system has no room for it. Each call that can be a program's first
/// use calls this function: each connection, each child process, and each wait of a plain thread.
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
    let runtime = build()?;
    Ok(background.runtime.get_or_init(|| runtime))
}

/// The runtime belongs to one process: a forked child has none of its threads.
#[derive(Default)]
struct Background {
    runtime: OnceLock<Runtime>,
    starting: Mutex<()>,
}

/// Returns the runtime that runs the caller and may wait for streams. It returns `None` in a forked child,
/// whose caller may run on a copy of the parent's runtime: a registration by either process would then wake
/// both. There the background runtime waits for all streams.
pub(crate) fn current() -> Option<Handle> {
    let handle = Handle::try_current().ok()?;
    (!Origin::here().is_forked()).then_some(handle)
}

/// Builds the runtime. tokio panics if it gets no thread, so another thread is started first, to see whether
/// there is one. If the last thread is taken between the two, this use panics, and the next one tries again.
fn build() -> io::Result<Runtime> {
    let name = "lockkeeper-io";
    let probe = thread::Builder::new().name(name.to_owned()).spawn(|| {})?;
    // It does nothing that could panic.
    let _ = probe.join();
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
}

/// Drops a value whose drop blocks, on a thread of its own, and waits until it is dropped. If the system
/// gives no thread, the value is dropped on this one: a runtime's own blocking threads would leave it in
/// their queue until one of them is free, which may be never.
pub(crate) async fn drop_elsewhere<T: Send + 'static>(value: T) {
    let (tell, told) = oneshot::channel::<()>();
    let work = move || {
        drop(value);
        drop(tell);
    };
    // An error has dropped `work`, and the value with it.
    if thread::Builder::new().spawn(work).is_ok() {
        // The sender is dropped and never sends.
        let _ = told.await;
    }
}

//! The runtime for work that must not depend on the caller's runtime.
//!
//! It starts on first use. A start that fails, as without descriptors or threads, is tried again by the next
//! use.

use std::{
    future, io,
    os::unix::net::UnixStream,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use lockkeeper_sys::{Origin, PerProcess, without_forks};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    task,
};

/// The runtime for what must not depend on the caller's: one thread, started on first use.
///
/// # Panics
///
/// Panics if it does not run yet and the system has no room for it. See [`start`].
pub(crate) fn background() -> &'static Handle {
    start().unwrap_or_else(|error| {
        panic!("lockkeeper's background thread needs descriptors and a thread, and the system has none: {error}")
    })
}

/// Returns the same, or an error if the system has no room for it. Each call that can be a program's first
/// use calls this function: each connection, each child process, and each wait of a plain thread.
pub(crate) fn start() -> io::Result<&'static Handle> {
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
    let runtime = without_forks(begin)?;
    Ok(background.runtime.get_or_init(|| runtime))
}

/// Starts the thread of the runtime, and waits for its first turn.
///
/// It is a plain thread that runs a runtime, because tokio panics if it gets no thread for one. No fork happens
/// until the first turn is over: tokio makes what all runtimes of a process share in the first build and in the
/// first turn, and a forked child would wait for a parent's thread that was making it.
fn begin() -> io::Result<Handle> {
    let name = "lockkeeper-io";
    let runtime = build(Builder::new_current_thread().thread_name(name))?;
    let handle = runtime.handle().clone();
    let (tell, told) = mpsc::channel::<()>();
    let unstarted = Unstarted(Some(runtime));
    let run = move || {
        let mut unstarted = unstarted;
        let Some(runtime) = unstarted.0.take() else {
            return;
        };
        runtime.block_on(task::yield_now());
        drop(tell);
        runtime.block_on(future::pending::<()>());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    // The sender is dropped and never sends.
    let _ = told.recv();
    Ok(handle)
}

/// A runtime whose thread may not start. The caller may be on another runtime, where a plain drop of this one
/// panics.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Builds a runtime with all drivers while no fork happens.
///
/// # Errors
///
/// Returns an error when the system has no descriptors for it.
pub(crate) fn build(builder: &mut Builder) -> io::Result<Runtime> {
    /// Whether this process or one before it has the pipe for signals, for which tokio panics without descriptors.
    static HAS_PIPE: AtomicBool = AtomicBool::new(false);
    without_forks(|| {
        if !HAS_PIPE.load(Ordering::Relaxed) {
            // As many as the first runtime takes.
            let _room = [
                UnixStream::pair()?,
                UnixStream::pair()?,
                UnixStream::pair()?,
            ];
        }
        let runtime = builder.enable_all().build()?;
        HAS_PIPE.store(true, Ordering::Relaxed);
        Ok(runtime)
    })
}

/// The runtime belongs to one process: a forked child has none of its threads.
#[derive(Default)]
struct Background {
    runtime: OnceLock<Handle>,
    starting: Mutex<()>,
}

/// Returns the runtime that runs the caller and may wait for streams. It returns `None` in a forked child,
/// whose caller may run on a copy of the parent's runtime: a registration by either process would then wake
/// both. There the background runtime waits for all streams.
pub(crate) fn current() -> Option<Handle> {
    let handle = Handle::try_current().ok()?;
    (!Origin::here().is_forked()).then_some(handle)
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

//! The runtime for work that must not depend on the caller's runtime.
//!
//! It starts on first use. If the start fails, for example without descriptors or threads, the next use
//! tries again.

use std::{
    future, io, iter,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use lockkeeper_sys::{Origin, PerProcess, without_forks};
use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    task,
};

/// Returns the runtime for work that must not depend on the caller's runtime. It has one thread,
/// which starts on first use.
///
/// # Panics
///
/// Panics if the runtime is not running yet and the system lacks the resources for it. See
/// [`start`].
pub(crate) fn background() -> &'static Handle {
    start().unwrap_or_else(|error| {
        panic!("lockkeeper's background thread needs descriptors and a thread, and the system has none: {error}")
    })
}

/// Returns the runtime, or an error if the system lacks the resources for it. Every call that can be a
/// program's first use calls this function: each connection, each child process, and each wait of a plain
/// thread.
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
/// The runtime runs on a plain thread, because tokio panics if it cannot start a thread of its own. Forks wait
/// until the first turn is over: in the first build and the first turn, tokio initializes state that all
/// runtimes of a process share, and a child that was forked meanwhile would wait for ever for the parent's
/// initializing thread.
fn begin() -> io::Result<Handle> {
    let name = "lockkeeper-io";
    let runtime = build(Builder::new_current_thread().thread_name(name))?;
    let handle = runtime.handle().clone();
    let (sender, receiver) = mpsc::channel::<()>();
    let unstarted = Unstarted(Some(runtime));
    let run = move || {
        let mut unstarted = unstarted;
        let Some(runtime) = unstarted.0.take() else {
            return;
        };
        runtime.block_on(task::yield_now());
        drop(sender);
        runtime.block_on(future::pending::<()>());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    // The sender is dropped and never sends.
    let _ = receiver.recv();
    Ok(handle)
}

/// A runtime whose thread may fail to start. The caller may be on another runtime, where dropping this one
/// normally would panic.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The number of descriptors that the first runtime of a process opens.
const FIRST_DESCRIPTORS: usize = 6;

/// Builds the first runtime of a process, and makes its first turn, while forks wait as in [`begin`]. The caller must
/// not be on a runtime.
///
/// # Errors
///
/// As [`build`].
pub(crate) fn build_first(builder: &mut Builder) -> io::Result<Runtime> {
    without_forks(|| {
        let runtime = build(builder)?;
        runtime.block_on(task::yield_now());
        Ok(runtime)
    })
}

/// Builds a runtime with all drivers. Forks wait meanwhile.
///
/// # Errors
///
/// Returns an error when the system has no descriptors for it.
pub(crate) fn build(builder: &mut Builder) -> io::Result<Runtime> {
    /// Whether this process or an ancestor has made tokio's signal pipe. tokio panics if there is no descriptor
    /// for it.
    static HAS_PIPE: AtomicBool = AtomicBool::new(false);
    without_forks(|| {
        if !HAS_PIPE.load(Ordering::Relaxed) {
            // If these cannot be opened, this is an error and not tokio's panic. A socket takes three times as long
            // to open and close.
            let open = || eventfd(0, EventfdFlags::CLOEXEC);
            let room = iter::repeat_with(open).take(FIRST_DESCRIPTORS);
            let _room: Vec<_> = room.collect::<Result<_, _>>()?;
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

/// Returns the caller's runtime, if it may wait for streams. Returns `None` in a forked child, where the
/// caller may run on a copy of the parent's runtime: a registration by one process would then wake both. In
/// a forked child the background runtime waits for all streams.
pub(crate) fn current() -> Option<Handle> {
    let handle = Handle::try_current().ok()?;
    (!Origin::here().is_forked()).then_some(handle)
}

/// Drops a value whose drop blocks on a new thread, and waits until it is dropped. If no thread can be
/// started, this thread drops the value: tokio's blocking pool would queue it until a thread is free,
/// which may never happen.
pub(crate) async fn drop_elsewhere<T: Send + 'static>(value: T) {
    let (sender, receiver) = oneshot::channel::<()>();
    let work = move || {
        drop(value);
        drop(sender);
    };
    // On an error `work` was dropped, and the value with it.
    if thread::Builder::new().spawn(work).is_ok() {
        // The sender is dropped and never sends.
        let _ = receiver.await;
    }
}

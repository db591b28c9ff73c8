//! The request to a child process to end its work, as the code of its tasks sees it.
//!
//! The thread that watches the lifeline makes the request, so it arrives even if a task blocks all other threads.
//!
//! Invariant: a request is never taken back, and a forked child has none.

use std::{
    future::{Future, pending},
    sync::atomic::{AtomicBool, Ordering},
};

use lockkeeper_sys::{OnlyHere, PerProcess};
use tokio::sync::watch;

static STOP: PerProcess<Stop> = PerProcess::new();

#[derive(Debug, Default)]
struct Stop {
    is_asked: watch::Sender<bool>,
    /// Whether the program has asked for the request, so that it ends its work itself.
    is_heeded: AtomicBool,
}

/// Waits until this process is asked to end its work, so that a long task can end itself.
///
/// Two calls of the parent ask for it: [`Pool::drain`](crate::Pool::drain) asks the workers of a pool, and
/// [`Process::terminate`](crate::Process::terminate) asks a process. In other processes, and in a forked child, the
/// future never resolves.
///
/// ```
/// use std::time::Duration;
///
/// use lockkeeper::{Task, task::stopping};
/// use serde::{Deserialize, Serialize};
///
/// /// Counts until it is asked to stop, and returns how far it came.
/// #[derive(Serialize, Deserialize)]
/// struct Count;
///
/// impl Task for Count {
///     const NAME: &'static str = "count";
///     type Output = u64;
///
///     async fn run(self) -> u64 {
///         let mut stopping = std::pin::pin!(stopping());
///         let mut count = 0;
///         loop {
///             tokio::select! {
///                 () = &mut stopping => return count,
///                 () = tokio::time::sleep(Duration::from_secs(1)) => count += 1,
///             }
///         }
///     }
/// }
/// ```
pub fn stopping() -> impl Future<Output = ()> + Send + use<> {
    let mut asked = heeded().is_asked.subscribe();
    // The sender is never dropped.
    let asked = OnlyHere::future(async move { asked.wait_for(|is_asked| *is_asked).await.is_ok() });
    async move {
        if asked.await != Some(true) {
            pending().await
        }
    }
}

/// Returns whether this process was asked to end its work: [`stopping`] for plain threads, which ask between two
/// steps of their work.
#[must_use]
pub fn is_stopping() -> bool {
    *heeded().is_asked.borrow()
}

fn heeded() -> &'static Stop {
    let stop = STOP.get_or_init(Stop::default);
    stop.is_heeded.store(true, Ordering::Relaxed);
    stop
}

/// Asks the tasks of this process to end. Returns whether one of them has called [`stopping`] or [`is_stopping`].
pub(crate) fn ask() -> bool {
    let stop = STOP.get_or_init(Stop::default);
    stop.is_asked.send_replace(true);
    stop.is_heeded.load(Ordering::Relaxed)
}

/// Returns whether the tasks of this process were asked to end, for code that is not that of a task.
pub(crate) fn is_asked() -> bool {
    STOP.get().is_some_and(|stop| *stop.is_asked.borrow())
}

//! The runtime for work that must not depend on the caller's runtime.

use std::sync::LazyLock;

use tokio::runtime::{self, Runtime};

/// The runtime for what must not depend on the caller's: one thread, started on first use.
pub(crate) fn background() -> &'static Runtime {
    static BACKGROUND: LazyLock<Runtime> = LazyLock::new(|| {
        runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lockkeeper-io")
            .enable_all()
            .build()
            .expect("a process that has neither a thread nor a file descriptor left cannot go on")
    });
    &BACKGROUND
}

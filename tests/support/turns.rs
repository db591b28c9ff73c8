//! Futures that are dropped after no turn of the runtime, after one, and so on to their end.
//!
//! Knows nothing of the library. A turn is one poll; whatever else is ready has its turn before the
//! next, and what comes in is read. So a sweep meets every point where a future can be dropped,
//! however fast the machine is.

use std::{future::Future, pin::pin, task::Poll};

use tokio::runtime::Builder;

use crate::support::Watchdog;

/// So many calls have to complete in a row: one that did so by chance does not end a sweep.
const IN_A_ROW: u32 = 4;

/// Beyond so many turns a sweep takes longer steps, since nothing but waiting goes on there.
const EACH: u32 = 24;

/// Runs a test on a runtime of one thread, where all take turns, under a watchdog.
pub(crate) fn run_in_turns<F: Future>(test: F) -> F::Output {
    let _watchdog = Watchdog::start();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be had")
        .block_on(test)
}

/// Awaits a future for so many turns, and drops it if it is not ready by then.
pub(crate) async fn for_turns<F: Future>(turns: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..turns {
        if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Tries a round with more and more turns, from none, until its call completes time after time.
pub(crate) async fn sweep(mut round: impl AsyncFnMut(u32) -> bool) {
    let (mut turns, mut completed) = (0, 0);
    while completed < IN_A_ROW {
        let has_completed = round(turns).await;
        assert!(turns > 0 || !has_completed, "without a turn it can't");
        completed = if has_completed { completed + 1 } else { 0 };
        turns += 1 + turns / EACH;
    }
}

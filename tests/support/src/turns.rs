//! Futures that are dropped after no turn of the runtime, after one turn, and so on to their end.
//!
//! A turn is one poll of the future. All other ready tasks have their turn before the next one, and
//! the runtime reads what has arrived. So a sweep meets every point where a future can be dropped,
//! however fast the machine is.

use std::{future::Future, pin::pin, task::Poll};

use tokio::runtime::Builder;

use crate::run::Watchdog;

/// How many rounds have to complete in a row. One that completed by chance does not end a sweep.
const IN_A_ROW: u32 = 4;

/// Beyond this number of turns a sweep takes longer steps: only waiting goes on there.
const EACH: u32 = 24;

/// Runs a test on a runtime of one thread, where all tasks take turns, under a watchdog.
///
/// # Panics
///
/// Panics when the system gives no runtime.
pub fn run_in_turns<F: Future>(test: F) -> F::Output {
    let _watchdog = Watchdog::start();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime")
        .block_on(test)
}

/// Awaits a future for a number of turns, and drops it if it is not ready by then.
pub async fn for_turns<F: Future>(turns: u32, future: F) -> Option<F::Output> {
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
///
/// # Panics
///
/// Panics when a round completes without a turn.
pub async fn sweep(mut round: impl AsyncFnMut(u32) -> bool) {
    let (mut turns, mut completed) = (0, 0);
    while completed < IN_A_ROW {
        let has_completed = round(turns).await;
        assert!(turns > 0 || !has_completed, "without a turn it can't");
        completed = if has_completed { completed + 1 } else { 0 };
        turns += 1 + turns / EACH;
    }
}

//! Drops a future after zero turns of the runtime, after one turn, and so on until it completes.
//!
//! A turn is one poll of the future. Before the next turn the runtime polls all other ready tasks
//! and its I/O driver. So a sweep covers every point at which a future can be dropped, independent
//! of the speed of the machine.

use std::{future::Future, pin::pin, task::Poll};

use tokio::runtime::Builder;

use crate::run::Watchdog;

/// The number of consecutive rounds that must complete to end a sweep, because one may complete by
/// chance.
const IN_A_ROW: u32 = 4;

/// Above this number of turns a sweep takes larger steps, because the future then only waits.
const EACH: u32 = 24;

/// Runs a test on a single-threaded runtime, under a watchdog.
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

/// Polls a future for a number of turns, and drops it if it is not ready by then.
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

/// Runs a round with an increasing number of turns, from zero, until its call completes several
/// times in a row.
///
/// # Panics
///
/// Panics when a round completes without a turn.
pub async fn sweep(mut round: impl AsyncFnMut(u32) -> bool) {
    let (mut turns, mut completed) = (0, 0);
    while completed < IN_A_ROW {
        let has_completed = round(turns).await;
        assert!(
            turns > 0 || !has_completed,
            "a call cannot complete without a turn"
        );
        completed = if has_completed { completed + 1 } else { 0 };
        turns += 1 + turns / EACH;
    }
}

//! Polling a state with a deadline, in place of a fixed sleep.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a state may take to be reached.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Polls until the answer is yes, every millisecond.
///
/// # Panics
///
/// Panics with `what` when that takes longer than 20 seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + TIMEOUT;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

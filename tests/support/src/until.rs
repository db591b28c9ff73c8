//! Polls a state with a deadline, instead of sleeping for a fixed time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// The time limit for a state.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Polls every millisecond until the condition holds.
///
/// # Panics
///
/// Panics with `what` when this takes longer than 20 seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + TIMEOUT;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

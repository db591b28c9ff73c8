//! Waiting for a fact, instead of for a time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a fact may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is yes.
///
/// # Panics
///
/// Panics when that takes too long.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let patience = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < patience, "it never came about: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

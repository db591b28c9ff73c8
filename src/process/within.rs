//! `within`: waits for a future for a limited time, whether or not the caller's runtime has a timer.

use std::{future::Future, pin::pin, time::Duration};

use futures::future::{self, Either};

use crate::background::background;

/// Waits for a future for a limited time.
pub(crate) async fn within<F: Future>(patience: Duration, future: F) -> Option<F::Output> {
    let patience = {
        // The caller's runtime may have no timer.
        let _runtime = background().enter();
        tokio::time::sleep(patience)
    };
    match future::select(pin!(future), pin!(patience)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

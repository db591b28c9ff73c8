//! Polls the number of callers that wait for a lock.

use lockkeeper::Lock;
use lockkeeper_test_support::until;

/// Waits until a number of callers wait for a lock.
pub(crate) async fn until_waiting(lock: &Lock, waiting: u64) {
    until("the calls wait", || async {
        lock.status().await.unwrap().waiting == waiting
    })
    .await;
}

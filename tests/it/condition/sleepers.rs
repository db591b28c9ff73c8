//! Tasks that wait for a condition, and their number.

use std::pin::pin;

use futures::FutureExt;
use lockkeeper::{CallError, Condition, ConditionGuard};
use tokio::task::JoinHandle;

/// A task that returns the guard after its wait.
pub(crate) type Sleeper = JoinHandle<Result<ConditionGuard, CallError>>;

/// Starts a task that waits for the condition. Its call is sent before all later calls of this
/// process.
pub(crate) async fn asleep(condition: &Condition) -> Sleeper {
    let guard = condition.acquire().await.unwrap();
    let condition = condition.clone();
    let (tell, shown) = tokio::sync::oneshot::channel();
    let sleeper = tokio::spawn(async move {
        let mut wait = pin!(condition.wait(guard));
        let early = wait.as_mut().now_or_never();
        let _ = tell.send(());
        match early {
            Some(woken) => woken,
            None => wait.await,
        }
    });
    shown.await.unwrap();
    sleeper
}

/// Returns the number of sleepers, and of waiters for the lock.
pub(crate) async fn state(condition: &Condition) -> (u64, u64) {
    let waiting = condition.status().await.unwrap().waiting;
    (condition.sleepers().await.unwrap(), waiting)
}

//! Tasks that sleep in a condition, and how many there are.

use std::pin::pin;

use futures::FutureExt;
use lockkeeper::{CallError, Condition, ConditionGuard};
use tokio::task::JoinHandle;

/// What gives the guard of one who slept.
pub(crate) type Sleeper = JoinHandle<Result<ConditionGuard, CallError>>;

/// A task of this process that sleeps, before all that this process sends later.
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

/// How many sleep, and how many wait for the lock.
pub(crate) async fn state(condition: &Condition) -> (u64, u64) {
    let waiting = condition.status().await.unwrap().waiting;
    (condition.sleepers().await.unwrap(), waiting)
}

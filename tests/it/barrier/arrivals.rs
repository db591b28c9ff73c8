//! Arrivals at a barrier, their outcomes as text, and the state of the barrier.

use std::{cell::Cell, future::pending, pin::pin};

use futures::FutureExt;
use lockkeeper::{
    Barrier, CallError,
    errors::{ActionError, BreakReason, Refusal},
    guards::BarrierWaitResult,
};
use lockkeeper_test_support::for_turns;
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) type Outcome = Result<BarrierWaitResult, ActionError<()>>;

/// Waits with an action that takes some turns, or without an action.
pub(crate) async fn wait(barrier: &Barrier, acts: bool) -> Outcome {
    if acts {
        barrier.wait_with(act).await
    } else {
        barrier.wait().await.map_err(Into::into)
    }
}

thread_local! {
    /// The number of completed actions on this thread. Each test has its own thread.
    pub(crate) static ACTIONS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) async fn act() -> Result<(), ()> {
    for_turns(20, pending::<()>()).await;
    ACTIONS.set(ACTIONS.get() + 1);
    Ok(())
}

/// Describes the outcome of a wait.
pub(crate) fn describe(outcome: Outcome) -> String {
    match outcome {
        Ok(passed) => format!("{} in {}", passed.index(), passed.generation()),
        Err(ActionError::Call(CallError::Refused(Refusal::Broken(reason), _))) => match reason {
            BreakReason::Died(peer) => format!("broken by the death of {}", peer.pid),
            BreakReason::ActionFailed => "broken: ActionFailed".to_owned(),
            reason => format!("broken: {reason}"),
        },
        Err(error) => panic!("it did not break: {error:?}"),
    }
}

/// Returns the number of arrivals, and the generation.
pub(crate) async fn state(barrier: &Barrier) -> (u64, u64) {
    let status = barrier.status().await.unwrap();
    (status.arrived, status.generation)
}

/// Starts a task that waits at the barrier and returns the outcome. Its call is sent before all
/// later calls of this process.
pub(crate) async fn arrived(barrier: &Barrier) -> JoinHandle<String> {
    let (tell, heard) = oneshot::channel();
    let barrier = barrier.clone();
    let waiting = tokio::spawn(async move {
        let mut wait = pin!(barrier.wait());
        let early = wait.as_mut().now_or_never();
        let _ = tell.send(());
        let passed = match early {
            Some(passed) => passed,
            None => wait.await,
        };
        describe(passed.map_err(Into::into))
    });
    heard.await.unwrap();
    waiting
}

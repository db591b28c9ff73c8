//! The proxy of a hosted barrier: waits with or without an action.

use std::{convert::Infallible, error::Error, fmt, future::Future, ops::Deref, time::Duration};

use lockkeeper_actors::sync;
use lockkeeper_protocol::operations::{
    Abort, Arrival, Arrive, BarrierWaitResult, Fail, Finish, Reset,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::CallError,
    proxy::{
        ask::{Ask, Bind},
        hold::Hold,
        proxy::Proxy,
        token::Token,
        wait::Wait,
    },
};

/// A point where a number of parties wait until all of them have arrived, round after round.
///
/// Counterpart of Python's `manager.Barrier(parties)`. If a process dies while it waits, the barrier breaks for
/// the other parties, so that they do not wait for ever. With another
/// [`BarrierSpec`](crate::builders::BarrierSpec) its arrival is withdrawn instead. A dead party never counts as
/// arrived.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = lockkeeper::Manager::start().await?;
/// let barrier = manager.barrier(2).await?;
/// let other = tokio::spawn({
///     let barrier = barrier.clone();
///     async move { barrier.wait().await }
/// });
/// let (mine, other) = (barrier.wait().await?, other.await??);
/// assert!(mine.is_leader() != other.is_leader());
/// assert_eq!(mine.index() + other.index(), 1);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "CyclicBarrier")]
#[doc(alias = "broken")]
#[doc(alias = "parties")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Barrier(Proxy<sync::Barrier>);

impl Barrier {
    /// Waits until all parties have arrived. Python: `barrier.wait()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Broken` when the barrier is broken or breaks meanwhile.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped before all parties have arrived, the arrival is withdrawn, and the others
    /// wait for another party.
    pub fn wait(&self) -> Wait<BarrierWaitResult> {
        let barrier = self.clone();
        Wait::new(|timeout| barrier.pass(timeout))
    }

    /// Waits until all parties have arrived. The last party to arrive runs its action before any party
    /// passes, so all parties must pass the same action. Python: `Barrier(parties, action)`. The call owns its
    /// action, so a closure moves what it uses, as in `move || async move { .. }`.
    ///
    /// The action runs once a round: if a party that has arrived is dropped while the action runs, the others
    /// wait for another party, which does not run it again. Timeouts count while the action runs, and a party
    /// that times out breaks the barrier.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let barrier = manager.barrier(1).await?;
    /// let passed = barrier.wait_with(|| tokio::fs::write("/dev/null", "all are here")).await?;
    /// assert!(passed.is_leader());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ActionError::Failed`] with the error of an action that failed in this process,
    /// which breaks the barrier. Otherwise it returns [`ActionError::Call`] as [`Self::wait`]. An
    /// action that panics or is dropped also breaks the barrier.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::wait`]. If the call is dropped while the action runs in this process, the barrier
    /// breaks.
    pub fn wait_with<A, F, E>(&self, action: A) -> Wait<BarrierWaitResult, ActionError<E>>
    where
        A: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let barrier = self.clone();
        Wait::new(|timeout| barrier.pass_with(timeout, action))
    }

    /// Breaks the barrier until it is reset: all waiting and later calls are refused with `Broken`.
    /// Python: `barrier.abort()`.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have had its effect.
    pub fn abort(&self) -> Wait<()> {
        self.0.call(Abort)
    }

    /// Makes a broken barrier usable again, and begins a new round. Parties that wait, or run the action, get
    /// `Broken`.
    /// Python: `barrier.reset()`.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped after the first poll, it may have had its effect.
    pub fn reset(&self) -> Wait<()> {
        self.0.call(Reset)
    }

    fn pass(
        self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<BarrierWaitResult, CallError>> + Send {
        Ask::new(self.0, Arrive { acts: false }, timeout, |answer| {
            let (bound, _, arrival) = answer?;
            match bound.accepted(arrival)? {
                Arrival::Passed(passed) => Ok(passed),
                Arrival::Act => Err(CallError::Protocol(
                    "a party without an action was told to run it".to_owned(),
                )),
            }
        })
    }

    async fn pass_with<A, F, E>(
        self,
        timeout: Option<Duration>,
        action: A,
    ) -> Result<BarrierWaitResult, ActionError<E>>
    where
        A: FnOnce() -> F,
        F: Future<Output = Result<(), E>>,
    {
        match self.arrive(timeout).await? {
            Outcome::Passed(passed) => Ok(passed),
            Outcome::Act(turn) => {
                action().await.map_err(ActionError::Failed)?;
                Ok(turn.finish(timeout).await?)
            }
        }
    }

    /// Arrives with an action.
    async fn arrive(&self, timeout: Option<Duration>) -> Result<Outcome, CallError> {
        let (bound, turn, arrival) = self.0.ask(Arrive { acts: true }, timeout).await?;
        Ok(match bound.accepted(arrival)? {
            Arrival::Passed(passed) => Outcome::Passed(passed),
            Arrival::Act => Outcome::Act(Turn {
                hold: Hold::new(bound, turn),
                is_over: false,
            }),
        })
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token().fmt_proxy(f)
    }
}

impl Deref for Barrier {
    type Target = Proxy<sync::Barrier>;

    fn deref(&self) -> &Proxy<sync::Barrier> {
        &self.0
    }
}

impl From<Proxy<sync::Barrier>> for Barrier {
    fn from(proxy: Proxy<sync::Barrier>) -> Self {
        Self(proxy)
    }
}

impl From<Token<sync::Barrier>> for Barrier {
    fn from(token: Token<sync::Barrier>) -> Self {
        Self(token.into())
    }
}

/// The answer to an arrival with an action.
enum Outcome {
    Passed(BarrierWaitResult),
    Act(Turn),
}

/// The turn to run the action. Dropping it before the action is done breaks the barrier.
struct Turn {
    hold: Hold,
    is_over: bool,
}

impl Turn {
    /// Reports that the action has run, and waits for the release.
    async fn finish(mut self, timeout: Option<Duration>) -> Result<BarrierWaitResult, CallError> {
        let turn = self.hold.proof();
        let finished = self.hold.call_within(&Finish { turn }, timeout).await;
        // If the call was not served, the drop breaks the barrier, so that the others do not wait
        // for ever.
        let (_, passed) = finished?;
        self.is_over = true;
        Ok(passed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            // After a served `Finish`, this has no effect.
            self.hold.cast(&Fail {
                turn: self.hold.proof(),
            });
        }
    }
}

/// The error of a party with an action.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActionError<E> {
    /// The call failed.
    Call(CallError),
    /// The action failed in this process, and the barrier is broken.
    Failed(E),
}

impl<E> From<CallError> for ActionError<E> {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<ActionError<Infallible>> for CallError {
    /// If the action cannot fail, only the call can.
    fn from(error: ActionError<Infallible>) -> Self {
        match error {
            ActionError::Call(error) => error,
            ActionError::Failed(never) => match never {},
        }
    }
}

impl<E: fmt::Display> fmt::Display for ActionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Failed(error) => write!(f, "the barrier's action failed: {error}"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for ActionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Failed(error) => write!(f, "the barrier's action failed: {error:?}"),
        }
    }
}

impl<E: Error + 'static> Error for ActionError<E> {
    /// The message contains that of the action's error, so `source` returns the source of that
    /// error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Call(_) => None,
            Self::Failed(error) => error.source(),
        }
    }
}

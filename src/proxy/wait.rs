//! `Wait`: a call as a value.
//!
//! A method such as `Lock::acquire` makes the value and sends nothing. The first poll starts the call with
//! the timeout that was set before. The value borrows nothing, so it can be spawned.
//!
//! Invariant: one allocation holds the call before and after its start.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::{client::thread::block_on, error::CallError};

/// A call to an object, which is sent at the first poll.
///
/// Most methods of proxies return this type. It can be awaited like any future, with or without a
/// timeout, or made on a plain thread:
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), lockkeeper::CallError> {
/// # let manager = lockkeeper::block_on(lockkeeper::Manager::start()).unwrap();
/// # lockkeeper::block_on(async {
/// # let lock = manager.lock().await?;
/// let guard = lock.acquire().await?;
/// # drop(guard);
/// let guard = lock.acquire().timeout(Duration::from_secs(1)).await?;
/// # drop(guard);
/// let task = tokio::task::spawn_blocking({
///     let lock = lock.clone();
///     move || lock.acquire().timeout(Duration::from_secs(1)).blocking().map(drop)
/// });
/// # Ok::<_, lockkeeper::CallError>(())
/// # })
/// # }
/// ```
///
/// Nothing is sent before the first poll. The value borrows nothing and is [`Send`], so it can be
/// used with `tokio::spawn`, `select!`, `join!` and `tokio::time::timeout`.
///
/// # Errors
///
/// Every call may return these errors. The method documents further ones.
///
/// - [`CallError::NoManager`] when no manager is at the address, and [`CallError::Disconnected`] when the
///   connection is lost. A proxy whose connection was lost returns it from then on, unless the process has
///   enabled [reconnection](crate::builders::ClientBuilder::reconnect).
/// - [`CallError::Gone`] once the object was removed.
/// - [`CallError::TimedOut`] when a timeout was set and has passed.
/// - [`CallError::Fault`] when the manager does not let the object answer, for example when too many
///   calls of this process are in flight.
///
/// # Cancel safety
///
/// If the value is dropped at any point, the call is withdrawn: nothing is held or taken, and no other caller
/// loses its place. The method that returns the value documents exceptions.
#[must_use = "a call that is not awaited is not sent"]
pub struct Wait<T, E = CallError> {
    timeout: Option<Duration>,
    call: Pin<Box<dyn Call<T, E> + Send>>,
}

impl<T, E> Wait<T, E> {
    /// Makes a call that `start` begins at the first poll, with the timeout that was set.
    pub(crate) fn new<F, C>(start: F) -> Self
    where
        F: FnOnce(Option<Duration>) -> C + Send + 'static,
        C: Future<Output = Result<T, E>> + Send + 'static,
    {
        Self {
            timeout: None,
            call: Box::pin(Steps {
                start: Some(start),
                started: None,
            }),
        }
    }

    /// Limits the wait. The manager enforces the timeout, so the outcome is an answer or
    /// [`CallError::TimedOut`], never both. A call with a zero timeout is answered at once.
    ///
    /// The time counts from the first poll; a timeout that is set after it has no effect. A timeout of a `try_`
    /// call has no effect either, because the call does not wait, except of `try_upgrade` and `try_update`.
    #[doc(alias = "acquire_timeout")]
    #[doc(alias = "lock_timeout")]
    #[doc(alias = "try_lock_for")]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits on a plain thread.
    ///
    /// # Errors
    ///
    /// Returns the errors of the call.
    ///
    /// # Panics
    ///
    /// Panics inside an async context, because it would block the runtime.
    #[doc(alias = "blocking_lock")]
    #[doc(alias = "blocking_recv")]
    #[doc(alias = "blocking_read")]
    #[doc(alias = "blocking_write")]
    #[track_caller]
    pub fn blocking(self) -> Result<T, E> {
        block_on(self)
    }
}

impl<T, E> Wait<Option<T>, E> {
    /// Makes a call that is answered at once: with `None` if it would have to wait.
    pub(crate) fn trying<F, C>(start: F) -> Self
    where
        F: FnOnce(Option<Duration>) -> C + Send + 'static,
        C: Future<Output = Result<T, E>> + Send + 'static,
        E: Timeout,
    {
        Self::new(move |_| {
            let tried = start(Some(Duration::ZERO));
            async move {
                match tried.await {
                    Ok(granted) => Ok(Some(granted)),
                    Err(error) if error.is_timeout() => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })
    }
}

/// The error type of a call, which may be a timeout.
pub(crate) trait Timeout {
    /// Returns whether it is a timeout.
    fn is_timeout(&self) -> bool;
}

impl Timeout for CallError {
    fn is_timeout(&self) -> bool {
        Self::is_timeout(self)
    }
}

impl<T, E> Future for Wait<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { timeout, call } = self.get_mut();
        call.as_mut().poll(*timeout, task)
    }
}

impl<T, E> fmt::Debug for Wait<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A call, started or not.
trait Call<T, E> {
    /// Starts the call at the first poll, and polls it.
    fn poll(
        self: Pin<&mut Self>,
        timeout: Option<Duration>,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<T, E>>;
}

pin_project! {
    /// The function that starts a call, and then the started call.
    struct Steps<F, C> {
        start: Option<F>,
        #[pin]
        started: Option<C>,
    }
}

impl<T, E, F, C> Call<T, E> for Steps<F, C>
where
    F: FnOnce(Option<Duration>) -> C,
    C: Future<Output = Result<T, E>>,
{
    fn poll(
        self: Pin<&mut Self>,
        timeout: Option<Duration>,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<T, E>> {
        let mut steps = self.project();
        if let Some(start) = steps.start.take() {
            steps.started.set(Some(start(timeout)));
        }
        match steps.started.as_pin_mut() {
            Some(started) => started.poll(task),
            // The start panicked.
            None => Poll::Pending,
        }
    }
}

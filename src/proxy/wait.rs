//! `Wait`: a call that waits, as a value.
//!
//! A method such as `Lock::acquire` makes the value and sends nothing. The first poll starts the call with
//! the timeout that was set until then. The value borrows nothing, so it can be spawned.
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

/// A call to an object, which is sent once it is polled.
///
/// Most methods of proxies return this type. It is awaited as any future, or with a timeout, or on a
/// plain thread:
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
/// Nothing is sent before the first poll. The value borrows nothing and is [`Send`], so it goes into
/// `tokio::spawn`, `select!`, `join!` and `tokio::time::timeout` as it is.
///
/// # Errors
///
/// Every call may return these; its method tells of further ones.
///
/// - [`CallError::NoManager`] when no manager is at the address, and [`CallError::Disconnected`] when the
///   connection is lost. A proxy whose connection was lost returns it from then on, unless the process has
///   chosen to [reconnect](crate::builders::ClientBuilder::reconnect).
/// - [`CallError::Gone`] once the object was removed.
/// - [`CallError::TimedOut`] when a timeout was set and is over.
/// - [`CallError::Fault`] when the manager does not let the object answer, as when too many calls of this
///   process are in flight.
///
/// # Cancel safety
///
/// Dropped at any point, the call is withdrawn: nothing is held or taken, and no other caller's turn is lost.
/// The method that returns the value says where that is different.
#[must_use = "a call that is not awaited is not sent"]
pub struct Wait<T, E = CallError> {
    timeout: Option<Duration>,
    call: Pin<Box<dyn Call<T, E> + Send>>,
}

impl<T, E> Wait<T, E> {
    /// Makes a call that `start` begins once it is polled, with the timeout that was set.
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

    /// Bounds the wait. The manager keeps the time, so the outcome is an answer or
    /// [`CallError::TimedOut`], never both. A time of zero is answered at once.
    ///
    /// The time counts from the first poll; a timeout that is set after it has no effect. Of the `try_` calls,
    /// `try_upgrade` alone takes one.
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
    /// As the call's method tells.
    ///
    /// # Panics
    ///
    /// Panics inside an async context, which it would block.
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

/// An error of a call that may say that its time was over.
pub(crate) trait Timeout {
    /// Whether it says so.
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
    /// Starts the call at the first time, and polls it.
    fn poll(
        self: Pin<&mut Self>,
        timeout: Option<Duration>,
        task: &mut task::Context<'_>,
    ) -> Poll<Result<T, E>>;
}

pin_project! {
    /// What starts a call, and the call once it was started.
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

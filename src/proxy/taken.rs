//! `Taken`: an item that was taken from a queue and is not done yet, also one that its taker cannot decode.
//! `GetError`, `PutError`: why no item was taken, and an item that could not be put.
//!
//! Invariant: an item is acknowledged only by an explicit call of its taker.

use std::{error::Error, fmt, future::Future, ops::Deref};

use lockkeeper_protocol::{Abandoned, Fence};

use crate::{
    error::CallError,
    proxy::{
        abandoned::AbandonedGuard,
        held_item::HeldItem,
        wait::{Timeout, Wait},
    },
    undecoded::Undecoded,
};

/// A taken item of a queue. It belongs to this process until it is done.
///
/// Dropping it returns the item to its place in the queue, because an early return, a panic and a dropped
/// future also drop it. The drop sends a one-way message, and never waits or fails.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let jobs = manager.queue(10).await?;
/// jobs.put(7).await?;
///
/// let job = jobs.get().await?;
/// assert_eq!((*job, job.attempts()), (7, 1));
/// job.put_back().await?;
///
/// let job = jobs.get().await?;
/// assert_eq!((*job, job.attempts()), (7, 2));
/// assert_eq!(job.done().await?, 7);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Delivery")]
#[must_use = "an item that is dropped goes back to the queue: call `done` once it is processed"]
pub struct Taken<T> {
    item: T,
    held: HeldItem,
}

impl<T> Taken<T> {
    pub(super) const fn new(held: HeldItem, item: T) -> Self {
        Self { item, held }
    }

    /// Acknowledges the item, waits until the manager has removed it, and returns it. Python:
    /// `queue.task_done()`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `NotHeld` when the item no longer belongs to this
    /// process, so that another process can take it. After any other error, such as
    /// [`CallError::Disconnected`], it may be done or back in the queue.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the item is done or back in the queue.
    #[doc(alias = "task_done")]
    #[doc(alias = "ack")]
    #[doc(alias = "acknowledge")]
    pub fn done(self) -> Wait<T>
    where
        T: Send + 'static,
    {
        let Self { item, held } = self;
        Wait::new(|timeout| async move { held.done(timeout).await.map(|()| item) })
    }

    /// Acknowledges the item without waiting, and returns it. Python: `queue.get()` alone.
    ///
    /// It sends a one-way message: if the process dies right afterwards, the message may be lost,
    /// and another process gets the item again.
    #[doc(alias = "ack")]
    pub fn into_inner(self) -> T {
        self.held.done_at_once();
        self.item
    }

    /// Returns the item to its place in the queue, and waits until it is there.
    ///
    /// # Errors
    ///
    /// As [`Self::done`].
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped at any point, the item returns to the queue.
    #[doc(alias = "nack")]
    #[doc(alias = "requeue")]
    pub fn put_back(self) -> Wait<()> {
        let Self { held, .. } = self;
        Wait::new(|timeout| held.put_back(timeout))
    }

    /// Returns the number of deliveries of the item, including this one. A high number shows an
    /// item that kills its takers.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.held.attempts
    }

    /// Returns the fence of this delivery, which is higher than those of all earlier
    /// deliveries.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.held.fence
    }

    /// Returns the last process that died with this item, if any: the item may be half done.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.held.abandoned.as_deref()
    }

    /// Returns the item as an error if a process died with it. Like
    /// [`LockGuard::strict`](crate::LockGuard::strict), it follows every form of taking.
    ///
    /// # Errors
    ///
    /// Returns the item, which still belongs to this process, and the mark of the dead process.
    pub fn strict(self) -> Result<Self, AbandonedGuard<Self>> {
        let (mark, subject) = (
            self.held.abandoned.clone(),
            self.held.hold.bound().subject(),
        );
        AbandonedGuard::sort(self, mark, subject)
    }

    /// Returns whether the item still belongs to this process, as far as it knows: its session
    /// exists, and the queue was not removed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.held.hold.is_valid()
    }

    /// Waits until the item no longer belongs to this process, and returns the reason, as
    /// [`LockGuard::lost`](crate::LockGuard::lost) does: the session is lost, the queue is removed, or this value is
    /// dropped. The future borrows nothing, so a `select!` can race work against it.
    pub fn lost(&self) -> impl Future<Output = CallError> + Send + use<T> {
        self.held.hold.lost()
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken")
            .field("item", &self.item)
            .field("fence", &self.fence())
            .field("attempts", &self.attempts())
            .field("abandoned", &self.held.abandoned)
            .finish_non_exhaustive()
    }
}

/// A taken item that cannot be decoded. Like a [`Taken`] item it belongs to this process, so other takers get the
/// items behind it meanwhile. It dereferences to the bytes, both types and the reason. Only [`Self::discard`]
/// removes it from the queue.
///
/// Dropping it returns the item to its place, and the delivery counts as an attempt: the next taker may be
/// able to decode it. A consumer that gets it repeatedly can discard it.
///
/// ```
/// use lockkeeper::{CallError, GetError, Queue};
///
/// /// Takes the next item that this program can read.
/// async fn next(jobs: &Queue<String>) -> Result<String, CallError> {
///     loop {
///         match jobs.get().await {
///             Ok(job) => return job.done().await,
///             Err(GetError::Undecoded(item)) => {
///                 eprintln!("{item}");
///                 item.discard().await?;
///             }
///             Err(error) => return Err(error.into()),
///         }
///     }
/// }
/// ```
#[must_use = "an item that is dropped returns to the queue: call `discard` to remove it"]
pub struct UndecodedItem {
    item: Box<Undecoded>,
    held: HeldItem,
}

impl UndecodedItem {
    pub(super) const fn new(held: HeldItem, item: Box<Undecoded>) -> Self {
        Self { item, held }
    }

    /// Removes the item from the queue, waits until the manager has done so, and returns its bytes and
    /// types.
    ///
    /// # Errors
    ///
    /// As [`Taken::done`].
    ///
    /// # Cancel safety
    ///
    /// As [`Taken::done`].
    pub fn discard(self) -> Wait<Undecoded> {
        let Self { item, held } = self;
        Wait::new(|timeout| async move { held.done(timeout).await.map(|()| *item) })
    }

    /// Returns the item to its place, as [`Taken::put_back`] does.
    ///
    /// # Errors
    ///
    /// As [`Taken::done`].
    ///
    /// # Cancel safety
    ///
    /// As [`Taken::put_back`].
    pub fn put_back(self) -> Wait<()> {
        Wait::new(|timeout| self.held.put_back(timeout))
    }

    /// Returns the number of deliveries, as [`Taken::attempts`] does.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.held.attempts
    }
}

impl Deref for UndecodedItem {
    type Target = Undecoded;

    fn deref(&self) -> &Undecoded {
        &self.item
    }
}

impl fmt::Display for UndecodedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; discard() removes it, and a drop puts it back (attempt {})",
            self.item, self.held.attempts
        )
    }
}

impl fmt::Debug for UndecodedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sentence contains the reason, so the error has no source.
impl Error for UndecodedItem {}

/// The error of a call that takes an item.
///
/// In a function that returns [`CallError`], `?` converts it, which puts an undecoded item back.
///
/// ```
/// use lockkeeper::{CallError, Queue};
///
/// /// Takes an item, or nothing once the queue is closed and all items are done.
/// async fn next(jobs: &Queue<u64>) -> Result<Option<u64>, CallError> {
///     match jobs.get().await {
///         Ok(job) => Ok(Some(job.into_inner())),
///         Err(error) if error.is_closed() => Ok(None),
///         Err(error) => Err(error.into()),
///     }
/// }
/// ```
#[doc(alias = "Empty")]
#[doc(alias = "RecvError")]
#[non_exhaustive]
pub enum GetError {
    /// An item was taken, but this process cannot decode it.
    Undecoded(UndecodedItem),
    /// No item was taken.
    Call(CallError),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecoded(item) => item.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for GetError {}

impl GetError {
    /// Returns whether there was no item in time. Python: `queue.Empty`.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Undecoded(_) => false,
            Self::Call(error) => error.is_timeout(),
        }
    }

    /// Returns whether the queue was closed and all of its items are done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Undecoded(_) => false,
            Self::Call(error) => error.is_closed(),
        }
    }
}

impl Timeout for GetError {
    fn is_timeout(&self) -> bool {
        Self::is_timeout(self)
    }
}

impl From<CallError> for GetError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<GetError> for CallError {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Undecoded(undecoded) => Self::Undecoded(undecoded.item),
            GetError::Call(error) => error,
        }
    }
}

/// The error of a put, with the item.
///
/// [`CallError::is_timeout`] of [`error`](Self::error) is true when the queue had no room in time (Python:
/// `queue.Full`), and [`CallError::is_closed`] when it was closed.
///
/// In a function that returns [`CallError`], `?` converts it and drops the item.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// let jobs = manager.queue(1).await?;
/// jobs.put("first".to_owned()).await?;
/// let refused = jobs.try_put("second".to_owned()).await.unwrap_err();
/// assert!(refused.error.is_timeout());
/// assert_eq!(refused.item, "second");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Full")]
#[doc(alias = "SendError")]
#[derive(Clone, PartialEq, Eq)]
pub struct PutError<T> {
    /// The item.
    pub item: T,
    /// The reason. With [`CallError::Disconnected`] the item may have been put.
    pub error: CallError,
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.error {
            CallError::Disconnected { .. } => "it is not known whether the item was put",
            _ => "the item was not put",
        };
        write!(f, "{what}: {}", self.error)
    }
}

impl<T> Error for PutError<T> {}

impl<T> From<PutError<T>> for CallError {
    fn from(put: PutError<T>) -> Self {
        put.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_error_says_that_the_item_was_not_put_only_where_that_is_known() {
        let address = "jobs".parse().expect("a name");
        let why = "the manager was killed".to_owned();
        let unknown = PutError {
            item: 1,
            error: CallError::Disconnected { address, why },
        };
        let text = unknown.to_string();
        assert!(text.starts_with("it is not known whether the item was put: "));
        let known = PutError {
            item: 1,
            error: CallError::timed_out(),
        };
        assert!(known.to_string().starts_with("the item was not put: "));
    }
}

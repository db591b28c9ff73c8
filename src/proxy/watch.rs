//! Waits for changes of a hosted value.
//!
//! Invariant: each wait starts at the version where the previous one ended, so no change is missed.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use lockkeeper_protocol::operations::{Read, Versioned, WaitChange};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CallError,
    proxy::{ask::Bind, bound::Bound, end::End, value::Value, wait::Wait},
};

/// The connection over which a value was read, and its version.
type Seen = (Arc<Bound>, u64);

impl<T: Serialize + DeserializeOwned + 'static> Value<T> {
    /// Waits until the value was set more often than `version` times, and returns it with its version.
    ///
    /// If each wait starts from the version that the previous one returned, no change between two calls is missed.
    /// A slow caller gets the latest value, and not those in between.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// # let level = manager.value(1).await?;
    /// let seen = level.versioned().await?;
    /// level.set(2).await?;
    /// level.set(3).await?;
    /// let next = level.wait_since(seen.version).await?;
    /// assert_eq!((next.value, next.version), (3, seen.version + 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` when the value was set fewer times.
    pub fn wait_since(&self, version: u64) -> Wait<Versioned<T>> {
        let value = self.clone();
        Wait::new(move |timeout| async move {
            let since = version;
            let (bound, _, changed) = value
                .0
                .ask(
                    WaitChange {
                        since: since.into(),
                    },
                    timeout,
                )
                .await?;
            value.decoded(&bound.accepted(changed)?)
        })
    }

    /// Waits until the predicate is true of the value, and returns it with its version.
    ///
    /// The predicate runs in this process, on the current value and after each change. It may miss a value that is
    /// replaced at once.
    pub fn wait_for(
        &self,
        mut predicate: impl FnMut(&T) -> bool + Send + 'static,
    ) -> Wait<Versioned<T>>
    where
        T: Send,
    {
        let value = self.clone();
        Wait::new(|timeout| async move {
            let end = End::after(timeout);
            let (bound, mut now) = value.look(end.left()).await?;
            while !predicate(&now.value) {
                end.check::<WaitChange>(|| value.0.subject())?;
                now = value.next_over(&bound, now.version, end.left()).await?;
            }
            Ok(now)
        })
    }

    /// Returns a stream of the current value and then of each change. The stream borrows nothing. A slow reader
    /// gets the latest value, not those in between. An error, one of [`Self::get`]'s, is the last item.
    ///
    /// ```
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = lockkeeper::Manager::start().await?;
    /// let level = manager.value(1).await?;
    /// let mut levels = level.watch();
    /// assert_eq!(levels.try_next().await?.map(|level| level.value), Some(1));
    /// level.set(2).await?;
    /// assert_eq!(levels.try_next().await?.map(|level| level.value), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping a `next` loses no value: the following one continues the same wait.
    #[doc(alias = "subscribe")]
    pub fn watch(&self) -> impl Stream<Item = Result<Versioned<T>, CallError>> + Unpin + use<T> {
        let changes =
            stream::try_unfold((self.clone(), None::<Seen>), |(value, seen)| async move {
                let (bound, next) = match seen {
                    None => value.look(None).await?,
                    Some((bound, version)) => {
                        let next = value.next_over(&bound, version, None).await?;
                        (bound, next)
                    }
                };
                let seen = Some((bound, next.version));
                Ok(Some((next, (value, seen))))
            });
        // Boxed, so that callers need not pin it.
        Box::pin(changes)
    }

    /// Reads the value, and returns the connection whose versions the next wait may name.
    async fn look(
        &self,
        timeout: Option<Duration>,
    ) -> Result<(Arc<Bound>, Versioned<T>), CallError> {
        let (bound, _, now) = self.0.ask(Read, timeout).await?;
        Ok((Arc::clone(&bound), self.decoded(&now)?))
    }

    /// Waits for a version over the connection on which an earlier one was read, because a restarted manager
    /// counts versions from the beginning.
    async fn next_over(
        &self,
        bound: &Bound,
        since: u64,
        timeout: Option<Duration>,
    ) -> Result<Versioned<T>, CallError> {
        let (_, changed) = bound
            .call(
                &WaitChange {
                    since: since.into(),
                },
                timeout,
            )
            .await?;
        self.decoded(&bound.accepted(changed)?)
    }
}

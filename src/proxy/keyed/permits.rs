//! Several permits of one key: the methods that keyed semaphores have beside those of all keyed kinds.

use std::time::Duration;

use crate::{
    error::CallError,
    proxy::{
        bound::tried,
        keyed::{held::KeyedPermit, keyed::KeyedSemaphore},
    },
};

impl KeyedSemaphore {
    /// Waits for several permits of the key, all or none. Those who come later wait behind, also
    /// for fewer.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and [`CallError::Refused`] at once: with `TooMany` for more than a key
    /// has, and with `Invalid` for none at all.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many(
        &self,
        key: impl AsRef<str>,
        permits: u32,
    ) -> Result<KeyedPermit, CallError> {
        self.acquire_within(key.as_ref().into(), permits, None)
            .await
    }

    /// Waits for several permits of the key until the time is over.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`], and [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many_timeout(
        &self,
        key: impl AsRef<str>,
        permits: u32,
        timeout: Duration,
    ) -> Result<KeyedPermit, CallError> {
        self.acquire_within(key.as_ref().into(), permits, Some(timeout))
            .await
    }

    /// Takes several permits of the key if they are free, all or none.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn try_acquire_many(
        &self,
        key: impl AsRef<str>,
        permits: u32,
    ) -> Result<Option<KeyedPermit>, CallError> {
        let tries = self.acquire_many_timeout(key, permits, Duration::ZERO);
        tried(tries.await)
    }

    /// Waits for several permits of the key in a future that borrows nothing, to be spawned.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_many_owned(
        self,
        key: String,
        permits: u32,
    ) -> Result<KeyedPermit, CallError> {
        self.acquire_many(key, permits).await
    }
}

//! Acquires several keys of one keyed lock together.

use std::time::Duration;

use lockkeeper_protocol::operations::Key;

use crate::{
    error::CallError,
    proxy::{
        keyed::{held::KeyedGuard, keyed::KeyedLock},
        several::{Lockable, Place, Several},
    },
};

impl KeyedLock {
    /// Waits for several keys, all or none of them, and returns their guards in the order of the
    /// keys: see [`Several::lock_all`].
    ///
    /// # Errors
    ///
    /// As [`Self::several`] and [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held.
    pub async fn lock_all(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<KeyedGuard>, CallError> {
        self.several(keys)?.lock_all().await
    }

    /// Waits for any `number` of the keys, and returns their guards: see [`Several::lock_some`].
    ///
    /// # Errors
    ///
    /// As [`Several::lock_some`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is held.
    pub async fn lock_some(
        &self,
        number: usize,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<KeyedGuard>, CallError> {
        let guards = self.several(keys)?.lock_some(number).await?;
        Ok(guards.into_iter().map(|(_, guard)| guard).collect())
    }

    /// Names several keys, to be had at once: with a timeout, at a try, or on a plain thread.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` for a key that is named twice.
    pub fn several(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Several<OneKey<'_>>, CallError> {
        Several::new(keys.into_iter().map(|key| OneKey {
            locks: self,
            key: key.as_ref().into(),
        }))
    }
}

/// One key of a [`KeyedLock`], to be had together with others: see [`KeyedLock::several`].
#[derive(Clone, Debug)]
pub struct OneKey<'a> {
    locks: &'a KeyedLock,
    key: Key,
}

impl Lockable for OneKey<'_> {
    type Guard = KeyedGuard;

    fn place(&self) -> Place<'_> {
        Place::of(self.locks.token(), Some(self.key.as_str()))
    }

    async fn lock_within(&self, timeout: Option<Duration>) -> Result<KeyedGuard, CallError> {
        self.locks
            .acquire_within(self.key.clone(), 1, timeout)
            .await
    }
}

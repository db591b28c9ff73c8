//! Acquires several keys of one keyed lock together.

use lockkeeper_protocol::operations::Key;

use crate::proxy::{
    keyed::{held::KeyedGuard, keyed::KeyedLock},
    several::{self, Lockable, SomeGuards, Target},
    wait::Wait,
};

impl KeyedLock {
    /// Waits for several keys, all or none of them, and returns their guards in the order of the
    /// keys: see [`lock_all`](crate::lock_all).
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) with `Invalid` for a key that is named twice;
    /// else as [`Self::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn lock_all(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Wait<Vec<KeyedGuard>> {
        several::lock_all(self.each(keys))
    }

    /// Waits for any `number` of the keys, and returns their guards in the order of the keys: see
    /// [`lock_some`](crate::lock_some).
    ///
    /// # Errors
    ///
    /// As [`Self::lock_all`], and [`CallError::Refused`](crate::CallError::Refused) with `Invalid` when the
    /// number is zero or more than there are keys.
    ///
    /// # Cancel safety
    ///
    /// As [`Wait`].
    pub fn lock_some(
        &self,
        number: usize,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Wait<SomeGuards<KeyedGuard>> {
        several::lock_some(number, self.each(keys))
    }

    fn each(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> impl Iterator<Item = OneKey> {
        keys.into_iter().map(|key| OneKey {
            locks: self.clone(),
            key: key.as_ref().into(),
        })
    }
}

/// One key of a keyed lock.
struct OneKey {
    locks: KeyedLock,
    key: Key,
}

impl Lockable for OneKey {
    type Guard = KeyedGuard;

    fn target(self) -> Target<KeyedGuard> {
        let Self { locks, key } = self;
        Target::new(
            &locks.token().clone(),
            Some(key.as_str().to_owned()),
            move || locks.acquire_key(key.clone(), 1),
        )
    }
}

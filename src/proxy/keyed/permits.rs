//! Several permits of one key: the additional methods of keyed semaphores.

use crate::proxy::{
    keyed::{held::KeyedSemaphorePermit, keyed::KeyedSemaphore},
    wait::Wait,
};

impl KeyedSemaphore {
    /// Waits for several permits of the key, all or none. Later calls wait behind it, even for
    /// fewer permits.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) at once: with `TooMany` for more than a
    /// key has, and with `Invalid` for zero permits.
    pub fn acquire_many(&self, key: impl AsRef<str>, permits: u32) -> Wait<KeyedSemaphorePermit> {
        self.acquire_key(key.as_ref().into(), permits)
    }

    /// Takes several permits of the key if they are free, all or none.
    pub fn try_acquire_many(
        &self,
        key: impl AsRef<str>,
        permits: u32,
    ) -> Wait<Option<KeyedSemaphorePermit>> {
        self.try_acquire_key(key.as_ref().into(), permits)
    }
}

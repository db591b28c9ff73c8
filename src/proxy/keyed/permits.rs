//! Several permits of one key: the methods that keyed semaphores have beside those of all keyed kinds.

use crate::proxy::{
    keyed::{held::KeyedPermit, keyed::KeyedSemaphore},
    wait::Wait,
};

impl KeyedSemaphore {
    /// Waits for several permits of the key, all or none. Those who come later wait behind, also
    /// for fewer.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`](crate::CallError::Refused) at once: with `TooMany` for more than a
    /// key has, and with `Invalid` for none at all.
    pub fn acquire_many(&self, key: impl AsRef<str>, permits: u32) -> Wait<KeyedPermit> {
        self.acquire_key(key.as_ref().into(), permits)
    }

    /// Takes several permits of the key if they are free, all or none.
    pub fn try_acquire_many(
        &self,
        key: impl AsRef<str>,
        permits: u32,
    ) -> Wait<Option<KeyedPermit>> {
        self.try_acquire_key(key.as_ref().into(), permits)
    }
}

//! The guards of keyed locks and keyed semaphores, which contain their key.

use lockkeeper_actors::sync::{self, Keyed, KeyedVariant};
use lockkeeper_protocol::operations::Key;

use crate::proxy::guard::{Guard, Guarded, Ticketed};

/// A guard of a key of a [`KeyedLock`](crate::KeyedLock).
///
/// See [`Guard`] for its other methods, and [`KeyedLock`](crate::KeyedLock) for an example.
pub type KeyedLockGuard = Guard<sync::KeyedLock>;

/// Held permits of a key of a [`KeyedSemaphore`](crate::KeyedSemaphore). They are released together.
///
/// See [`Guard`] for its other methods, and [`KeyedSemaphore`](crate::KeyedSemaphore) for an example.
pub type KeyedSemaphorePermit = Guard<sync::KeyedSemaphore>;

/// The type parameter of a key's guard.
#[derive(Clone, Debug)]
pub struct HeldKey {
    pub(super) key: Key,
    pub(super) permits: u32,
}

impl<F: KeyedVariant> Guarded for Keyed<F> {
    const NAME: &'static str = F::KIND;
    type Data = HeldKey;
}

impl<F: KeyedVariant> Ticketed for Keyed<F> {}

impl<F: KeyedVariant> Guard<Keyed<F>> {
    /// Returns the held key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.data().key.as_str()
    }

    /// Returns the number of held permits of the key: 1 for a [`KeyedLock`](crate::KeyedLock).
    #[must_use]
    pub const fn permits(&self) -> u32 {
        self.data().permits
    }
}

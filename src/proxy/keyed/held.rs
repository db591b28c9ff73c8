//! The guards of keyed locks and keyed semaphores, which know their key.

use lockkeeper_actors::sync::{self, Face, Keyed};
use lockkeeper_protocol::operations::Key;

use crate::proxy::guard::{Guard, Guarded, Ticketed};

/// A key of a [`KeyedLock`](crate::KeyedLock), held.
///
/// See [`Guard`] for its other methods, and [`KeyedLock`](crate::KeyedLock) for an example.
pub type KeyedGuard = Guard<sync::KeyedLock>;

/// Permits of a key of a [`KeyedSemaphore`](crate::KeyedSemaphore), held. They are given back together.
///
/// See [`Guard`] for its other methods, and [`KeyedSemaphore`](crate::KeyedSemaphore) for an example.
pub type KeyedPermit = Guard<sync::KeyedSemaphore>;

/// What a guard of a key is of.
#[derive(Clone, Debug)]
pub struct HeldKey {
    pub(super) key: Key,
    pub(super) permits: u32,
}

impl<F: Face> Guarded for Keyed<F> {
    const NAME: &'static str = F::KIND;
    type Owner = HeldKey;
}

impl<F: Face> Ticketed for Keyed<F> {}

impl<F: Face> Guard<Keyed<F>> {
    /// Which key is held.
    #[must_use]
    pub fn key(&self) -> &str {
        self.owner().key.as_str()
    }

    /// How many permits of it are held: 1 of a [`KeyedLock`](crate::KeyedLock).
    #[must_use]
    pub const fn permits(&self) -> u32 {
        self.owner().permits
    }
}

//! A key of a keyed lock as one of several locks to be acquired.

use crate::proxy::{
    keyed::{held::KeyedLockGuard, keyed::KeyedLock},
    several::{Lockable, Target},
};

impl<K: AsRef<str>> Lockable for (&KeyedLock, K) {
    type Guard = KeyedLockGuard;

    fn target(self) -> Target<KeyedLockGuard> {
        let (locks, key) = (self.0.clone(), self.1.as_ref().to_owned());
        let acquire = {
            let key = key.clone();
            move || locks.acquire(&key)
        };
        Target::new(self.0.token(), Some(key), acquire, KeyedLockGuard::is_valid)
    }
}

//! Proxies of keyed locks and keyed semaphores, their guards, and several keys at once.

pub(crate) mod held;
pub(crate) mod keyed;
pub(crate) mod permits;
pub(crate) mod together;

//! The claim of a manager to its address. It may import `address`, `error` and `transport`.

pub(crate) mod claim;
mod lock_file;
mod socket_file;

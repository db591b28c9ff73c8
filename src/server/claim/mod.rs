//! The claim of a manager to its address.

pub(crate) mod claim;
mod lock_file;
mod socket_file;

//! The claim of a manager to its address.

pub(crate) mod claim;
pub(crate) mod lock_file;

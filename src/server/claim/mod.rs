//! The claim of a manager to its address. It may import `address`, `error`, `files`, `telemetry` and
//! `transport`.

mod abstract_name;
pub(crate) mod claim;
mod lock_file;
mod socket_file;

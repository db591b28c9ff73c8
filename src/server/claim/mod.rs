//! The claim of a manager to its address. It may import `access`, `address`, `error`, `files`, `telemetry`
//! and `transport`.

mod abstract_name;
mod access_list;
pub(crate) mod address_claim;
mod lock_file;
mod socket_file;
mod sockets;

//! The inside of a manager: accepts clients, hosts objects, and answers what the clients ask of them.

pub(crate) mod claim;
pub(crate) mod deadlock;
pub(crate) mod inspection;
pub(crate) mod kinds;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod shards;
pub(crate) mod supervisor;

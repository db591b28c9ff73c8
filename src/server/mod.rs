//! The inside of a manager: accepts clients, hosts objects, and serves requests.
//!
//! It never imports `client`. ARCHITECTURE.md lists what it imports.
//!
//! | module | contents |
//! | --- | --- |
//! | `kinds`, `supervisor` | the spawning and the lookup of objects |
//! | `claim`, `state` | the exclusive right to an address, and what is on the disk for later managers |
//! | `session` | one client |
//! | `budgets` | the limits on what all shards of a manager store together |
//! | `inspection`, `deadlock` | queries of all objects |
//! | `server`, `shards`, `spare` | one shard, the threads of all shards, and a descriptor that each keeps |
//! | `acceptors`, `network` | how clients reach a shard, and the endpoints that other machines reach |

mod acceptors;
pub(crate) mod budgets;
pub(crate) mod claim;
pub(crate) mod deadlock;
pub(crate) mod inspection;
pub(crate) mod kinds;
#[cfg(feature = "net")]
pub(crate) mod network;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod shards;
mod spare;
pub(crate) mod state;
pub(crate) mod supervisor;

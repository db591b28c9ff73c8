//! The inside of a manager: accepts clients, hosts objects, and serves requests.
//!
//! It may import the actors, the protocol, `access`, `address`, `error`, `fence_file`, `files`, `limits`,
//! `telemetry` and `transport`, and never `client`.
//!
//! | module | contents |
//! | --- | --- |
//! | `kinds`, `supervisor` | the spawning and the lookup of objects |
//! | `claim` | the exclusive right to an address |
//! | `state` | what a manager keeps on the disk for later managers |
//! | `session` | one client |
//! | `budgets` | the limits on what all shards of a manager store together |
//! | `inspection`, `deadlock` | queries of all objects |
//! | `server`, `shards`, `spare` | one shard, the threads of all shards, and a descriptor that each keeps |

pub(crate) mod budgets;
pub(crate) mod claim;
pub(crate) mod deadlock;
pub(crate) mod inspection;
pub(crate) mod kinds;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod shards;
mod spare;
pub(crate) mod state;
pub(crate) mod supervisor;

//! The manager as programs use it: they start it, connect to it, and open its objects.
//!
//! It may import every room below except telemetry, of transport only the endpoint, and never `pool` or `program`.
//! | module | contents |
//! | --- | --- |
//! | `manager` | the handle |
//! | `builder`, `start` | the settings and the start of a manager, and starts with the default settings |
//! | `in_memory` | a manager in tasks of a test |
//! | `client`, `listen`, `network` | the settings of this process as a client, and those of endpoints and keys |
//! | `hosting` | the owner of a started manager: threads, a child process, or tasks |
//! | `shards` | the connections to the shards of a manager |
//! | `objects`, `named`, `dynamic` | the methods that open an object of each kind, or of a kind by its name |
//! | `inspection` | snapshots of all objects, and deadlocks |

pub(crate) mod builder;
pub(crate) mod client;
pub(crate) mod dynamic;
pub(crate) mod hosting;
mod in_memory;
pub(crate) mod inspection;
#[cfg(feature = "net")]
mod listen;
pub(crate) mod manager;
pub(crate) mod named;
#[cfg(feature = "net")]
mod network;
pub(crate) mod objects;
pub(crate) mod shards;
mod start;

//! The manager as programs use it: they start it, connect to it, and open its objects.
//!
//! It may import every room below except telemetry, of transport only the endpoint, and never `pool` or
//! `program`.
//!
//! | module | contents |
//! | --- | --- |
//! | `manager` | the handle |
//! | `builder` | how a manager is started |
//! | `client` | how this process connects to one |
//! | `hosting` | where it runs: threads of this process, or a process of its own |
//! | `shards` | the connections to the shards of a manager |
//! | `objects`, `named`, `dynamic` | how each kind is opened, and one that is known by its name alone |
//! | `inspection` | who holds and who waits |

pub(crate) mod builder;
pub(crate) mod client;
pub(crate) mod dynamic;
pub(crate) mod hosting;
pub(crate) mod inspection;
pub(crate) mod manager;
pub(crate) mod named;
pub(crate) mod objects;
pub(crate) mod shards;

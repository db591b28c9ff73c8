//! The endpoints of a manager, by which clients on other machines reach it.
//!
//! One thread accepts the clients of all endpoints and checks their keys, so that no caller without a key takes the
//! time of a shard. A client names the shard that it wants to reach, so all shards have one port.
//!
//! | file | contents |
//! | --- | --- |
//! | `endpoints` | binds the endpoints, and makes a listener for each shard |
//! | `identity_file` | the key pair in the state folder, so that the fingerprint stays the same |
//! | `gate` | the thread: accepts, checks keys, and passes clients on |
//! | `streams` | the streams of clients, which may go on over another connection |
//! | `pending_slots` | how many callers there may be at once, of all machines and of one |

pub(crate) mod endpoints;
mod gate;
mod identity_file;
mod pending_slots;
mod streams;

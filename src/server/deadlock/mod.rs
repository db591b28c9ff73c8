//! Deadlocks: who waits for whom, and what a manager does about it.
//!
//! | module | contents |
//! | --- | --- |
//! | `policy` | what a manager does about a deadlock |
//! | `graph` | the search for circles, pure |
//! | `find` | surveys of all objects, made into a graph and put into words |
//! | `watch` | the task that searches |

pub(crate) mod find;
pub(crate) mod graph;
pub(crate) mod policy;
pub(crate) mod watch;

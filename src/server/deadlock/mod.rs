//! Deadlock detection. It may import `inspection`, `supervisor`, `telemetry`, the actors and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `policy` | the setting: whether a manager searches for deadlocks, and what it does about them |
//! | `graph` | the search, as pure code |
//! | `find` | turns surveys of all objects into a graph, and deadlocks into reports |
//! | `watch` | the task that searches |

pub(crate) mod find;
pub(crate) mod graph;
pub(crate) mod policy;
pub(crate) mod watch;

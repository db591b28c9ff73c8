//! Deadlock detection. It may import `inspection`, `supervisor`, `telemetry`, the actors and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `policy` | the setting: whether a manager searches for deadlocks, and what it does about them |
//! | `graph` | the search, as pure code |
//! | `report` | turns surveys into a graph, and deadlocks into reports without names |
//! | `find` | surveys all objects, and adds the names and processes to the reports |
//! | `watch` | the task that searches |

pub(crate) mod find;
pub(crate) mod graph;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod watch;

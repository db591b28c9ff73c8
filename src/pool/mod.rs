//! A pool of worker processes, and the tasks that it runs.
//!
//! It may import every room below except transport, and never `manager` or `program`.
//!
//! | module | contents |
//! | --- | --- |
//! | `task`, `tasks` | the trait of a task, and the registered tasks of this program |
//! | `pool`, `status` | the handle, and how much there is to do |
//! | `submit`, `handle`, `series`, `ahead`, `source` | single tasks, and streams of tasks |
//! | `room` | how many bytes of tasks wait, and where those beyond do |
//! | `crew`, `place`, `deaths` | the actors that supervise the worker processes, and how those ended |
//! | `worker`, `stock` | the worker process, and the tasks that it has received but not begun |

pub(crate) mod ahead;
pub(crate) mod chunk;
pub(crate) mod crew;
mod deaths;
pub(crate) mod handle;
mod place;
pub(crate) mod pool;
pub(crate) mod room;
pub(crate) mod series;
mod source;
pub(crate) mod status;
pub(crate) mod stock;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod tasks;
pub(crate) mod worker;

#[cfg(test)]
mod tests;

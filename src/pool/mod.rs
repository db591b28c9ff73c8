//! A pool of worker processes, and the tasks that it runs.
//!
//! | module | contents |
//! | --- | --- |
//! | `task`, `tasks` | the trait of a task, and the tasks that this program has registered |
//! | `chunk` | how tasks and outcomes travel |
//! | `pool` | the handle |
//! | `submit`, `handle`, `series`, `ahead` | tasks one by one, and as streams |
//! | `crew` | the actors that supervise the worker processes |
//! | `worker`, `stock` | the worker process, and the tasks that it has not begun |

pub(crate) mod ahead;
pub(crate) mod chunk;
pub(crate) mod crew;
pub(crate) mod handle;
pub(crate) mod pool;
pub(crate) mod series;
pub(crate) mod stock;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod tasks;
pub(crate) mod worker;

#[cfg(test)]
mod tests;

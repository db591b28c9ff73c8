//! A pool of worker processes, and the tasks that it runs.
//!
//! It may import every room below except transport, and never `manager` or `program`.
//!
//! | module | contents |
//! | --- | --- |
//! | `task`, `tasks` | the trait of a task, and the registered tasks of this program |
//! | `initializer` | the task that runs first in each worker |
//! | `pool`, `status`, `thread` | the handle, the state of a pool, and the thread of its manager |
//! | `submit`, `handle`, `series`, `ahead`, `source` | single tasks, and streams of tasks |
//! | `forked` | the errors of a parent's pool in a forked child |
//! | `room`, `limited` | the limits on the bytes of waiting tasks and of outcomes that were not read |
//! | `supervisor`, `place`, `deaths` | the actors that supervise the worker processes, and the exit statuses of these |
//! | `worker`, `job_buffer` | the worker process, and the tasks that it has received but not begun |

pub(crate) mod ahead;
pub(crate) mod chunk;
mod deaths;
mod forked;
pub(crate) mod handle;
pub(crate) mod initializer;
pub(crate) mod job_buffer;
mod limited;
mod place;
pub(crate) mod pool;
pub(crate) mod room;
pub(crate) mod series;
mod source;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod supervisor;
pub(crate) mod task;
pub(crate) mod tasks;
mod thread;
pub(crate) mod worker;

#[cfg(test)]
mod tests;

//! A pool of worker processes, and the tasks that it runs.
//!
//! It may import every room below except transport, and never `manager` or `program`.
//!
//! | module | contents |
//! | --- | --- |
//! | `task`, `tasks`, `initializer` | the trait of a task, the registered tasks, and the one that runs first |
//! | `builder`, `pool`, `status`, `thread`, `drain` | the handle, the state of a pool, its thread, and its end |
//! | `submit`, `handle`, `switch`, `series`, `ahead`, `source` | single tasks, and streams of tasks |
//! | `retry`, `failure`, `forked` | when a task runs again, the error of a task of any type, and those in a forked child |
//! | `room`, `limited` | the limits on the bytes of waiting tasks and of unread outcomes |
//! | `supervisor`, `slot`, `place`, `deaths` | the actors that supervise the worker processes, and the exit statuses of these |
//! | `worker`, `job_buffer` | the worker process, and the tasks that it has received but not begun |
//! | `process`, `process_work`, `begin` | one process for one task, its child, and the begin of both kinds of children |

pub(crate) mod ahead;
mod begin;
pub(crate) mod builder;
pub(crate) mod chunk;
mod deaths;
mod drain;
pub(crate) mod failure;
mod forked;
pub(crate) mod handle;
pub(crate) mod initializer;
pub(crate) mod job_buffer;
mod limited;
mod place;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod process_work;
pub(crate) mod retry;
pub(crate) mod room;
pub(crate) mod series;
mod slot;
mod source;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod supervisor;
mod switch;
pub(crate) mod task;
pub(crate) mod tasks;
mod thread;
pub(crate) mod worker;

#[cfg(test)]
mod tests;

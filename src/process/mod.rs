//! Child processes of the same program, each in a role.
//!
//! It may import `background`, `error`, `files`, `keys` and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `executable` | the path that children are started from, and the build |
//! | `lifeline`, `reports` | the socket between parent and child, its frames, and the parent's end of it |
//! | `not_ready` | the reason why a child did not get ready |
//! | `output` | where the output of a child goes, and its environment |
//! | `child`, `role` | the parent's handle of a child, and the child's side |
//! | `stop` | the request to end, as the code of tasks sees it |
//! | `exit`, `descendants` | the end of a child in a limited time, and what it has started |
//! | `threads`, `within` | threads that end alone, and a time limit for a future |

pub(crate) mod advice;
pub(crate) mod child;
pub(crate) mod descendants;
mod executable;
pub(crate) mod exit;
pub(crate) mod lifeline;
pub(crate) mod not_ready;
pub(crate) mod output;
mod reports;
pub(crate) mod role;
pub(crate) mod stop;
pub(crate) mod threads;
pub(crate) mod within;

#[cfg(test)]
mod tests;

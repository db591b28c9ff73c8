//! Child processes of the same program, each in a role.
//!
//! It may import `background`, `error`, `files`, `keys` and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `executable` | the path that children are started from, and the build |
//! | `lifeline` | the socket between parent and child, and its frames |
//! | `not_ready` | the reason why a child did not get ready |
//! | `child` | the parent's handle of a child |
//! | `role` | the child's side: its role |
//! | `exit` | the end of a child in a limited time |
//! | `threads` | threads that end alone |
//! | `within` | a time limit for a future |

pub(crate) mod advice;
pub(crate) mod child;
mod executable;
pub(crate) mod exit;
pub(crate) mod lifeline;
pub(crate) mod not_ready;
pub(crate) mod role;
pub(crate) mod threads;
pub(crate) mod within;

#[cfg(test)]
mod tests;

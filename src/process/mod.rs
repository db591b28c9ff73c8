//! Child processes of the same program, each in a role.
//!
//! It may import `background`, `error` and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `executable` | where children start from, and which build this is |
//! | `lifeline` | the socket between parent and child, and its frames |
//! | `child` | a child as seen by its parent |
//! | `role` | the role as seen by the child |

pub(crate) mod advice;
pub(crate) mod child;
mod executable;
pub(crate) mod lifeline;
pub(crate) mod role;

#[cfg(test)]
mod tests;

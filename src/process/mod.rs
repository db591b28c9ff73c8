//! Child processes of the same program, each in a role.
//!
//! | module | contents |
//! | --- | --- |
//! | `lifeline` | the socket between parent and child, and the frames on it |
//! | `child` | a child as its parent sees it |
//! | `role` | the role as the child sees it |

pub(crate) mod child;
pub(crate) mod lifeline;
pub(crate) mod role;

#[cfg(test)]
mod tests;

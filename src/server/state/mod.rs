//! What a manager keeps in its state folder for the managers after it.
//!
//! | module | contents |
//! | --- | --- |
//! | `folder` | the folder, locked for one manager |
//! | `marks` | the numbers in its files, and how the previous manager ended; pure |
//! | `state` | the reservation of fences, and the record of a clean end |

mod folder;
mod marks;
pub(crate) mod state;

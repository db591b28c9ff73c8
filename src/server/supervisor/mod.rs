//! The actor that spawns objects and knows their names. Calls do not pass through it.
//!
//! `children` stores the objects by number and by name, `pages` is the table by number.

pub(crate) mod children;
pub(crate) mod pages;
pub(crate) mod supervisor;

//! The actor that spawns and names objects. It is not on the path of a call.
//!
//! `children` has the objects by number and name, `pages` by number.

pub(crate) mod children;
pub(crate) mod pages;
pub(crate) mod supervisor;

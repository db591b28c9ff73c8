//! Values of users arrive equal, whatever their types: families of derived types, random schemas, values
//! that nest deeply, and bytes that no encoder has written.
//!
//! serde_json is the second opinion: what it returns equal, lockkeeper has to.

mod cases;
mod family;
mod fields;
mod fuzz;
mod known;
mod nesting;
mod sample;
mod schema;

//! Users' values of any type arrive equal. The tests use families of derived types, random schemas,
//! deeply nested values, and random bytes.
//!
//! serde_json is the reference: lockkeeper must preserve every value that serde_json preserves.

mod cases;
mod family;
mod fields;
mod fuzz;
mod known;
mod nesting;
mod sample;
mod schema;

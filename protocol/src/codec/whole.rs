//! Decodes numbers in arguments and specs whose range is checked by their kind, which says what it allows.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// Decodes any whole number. One beyond 127 bits becomes the largest: the range of a kind is far below.
///
/// # Errors
///
/// Returns an error when there is no whole number.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    deserializer.deserialize_i128(Whole)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<i128, E> {
        Ok(number)
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<i128, E> {
        Ok(number.try_into().unwrap_or(i128::MAX))
    }
}

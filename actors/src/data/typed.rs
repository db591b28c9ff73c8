//! The type check of kinds that store values of a user's type.
//!
//! Values stay encoded in the manager. The object stores a description of their type, and each client
//! that opens the object compares its own description with it.

use lockkeeper_protocol::{Refusal, operations::CheckType};

/// The type of the values, as whoever made the object has described it.
#[derive(Debug)]
pub(super) struct Description(Box<str>);

/// The most bytes of a description.
const MOST_BYTES: usize = 4096;

impl Description {
    /// Takes a description if it is not too long.
    pub(super) fn new(text: String) -> Result<Self, Refusal> {
        if text.len() > MOST_BYTES {
            return Err(Refusal::Invalid(format!(
                "the type of the values is described in at most {MOST_BYTES} bytes, not {}",
                text.len()
            )));
        }
        Ok(Self(text.into()))
    }

    /// Answers a caller who takes the values for some type.
    pub(super) fn check(&self, CheckType { holds }: CheckType) -> Result<(), Refusal> {
        if *holds == *self.0 {
            return Ok(());
        }
        // A longer one is no description that an object may have.
        let asked = match holds.char_indices().nth(MOST_BYTES) {
            Some((end, _)) => holds.get(..end).unwrap_or_default().to_owned(),
            None => holds,
        };
        Err(Refusal::WrongType {
            is: self.0.to_string(),
            asked,
        })
    }
}

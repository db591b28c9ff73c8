//! The type check of kinds that store values of a user's type.
//!
//! Values stay encoded in the manager. The object stores the schema id of their type, and compares it with
//! the id of each client that uses the object.

use lockkeeper_protocol::{Refusal, operations::CheckType};

/// The schema id of the values, from the client that created the object.
#[derive(Debug)]
pub(super) struct SchemaId(Box<str>);

/// The most bytes of a schema id.
const MOST_BYTES: usize = 4096;

impl SchemaId {
    /// Accepts an id unless it is too long.
    pub(super) fn new(text: String) -> Result<Self, Refusal> {
        if text.len() > MOST_BYTES {
            return Err(Refusal::Invalid(format!(
                "a schema id has at most {MOST_BYTES} bytes, not {}",
                text.len()
            )));
        }
        Ok(Self(text.into()))
    }

    /// Compares the id of a caller with this one.
    pub(super) fn check(&self, CheckType { schema }: CheckType) -> Result<(), Refusal> {
        if *schema == *self.0 {
            return Ok(());
        }
        // No object has a longer id, so the refusal shows only this much of it.
        let asked = match schema.char_indices().nth(MOST_BYTES) {
            Some((end, _)) => schema.get(..end).unwrap_or_default().to_owned(),
            None => schema,
        };
        Err(Refusal::WrongType {
            is: self.0.to_string(),
            asked,
        })
    }
}

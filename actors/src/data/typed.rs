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
    /// Accepts an id unless it is empty or too long.
    pub(super) fn new(text: String) -> Result<Self, Refusal> {
        match text.len() {
            1..=MOST_BYTES => Ok(Self(text.into())),
            length => Err(Refusal::Invalid(format!(
                "a schema id has 1 to {MOST_BYTES} bytes, not {length}"
            ))),
        }
    }

    /// Compares the id of a caller with this one.
    pub(super) fn check(&self, CheckType { schema }: CheckType) -> Result<(), Refusal> {
        let Self(asked) = Self::new(schema)?;
        if asked == self.0 {
            return Ok(());
        }
        Err(Refusal::WrongType {
            is: self.0.to_string(),
            asked: asked.into(),
        })
    }
}

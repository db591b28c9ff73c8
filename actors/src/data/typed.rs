//! What kinds that keep values of a user's type know of it: how it is called, and nothing else.
//!
//! The values stay encoded. The text is compared where they are decoded, by the proxies.

use serde::{Deserialize, Serialize};

use crate::{Operation, Refusal};

/// Asks for the type of the values, as whoever made the object has described it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Describe;

impl Operation for Describe {
    const NAME: &'static str = "describe";
    type Reply = String;
}

/// The most bytes of a description.
const MOST_BYTES: usize = 4096;

/// Takes the description of a type if it is not too long.
pub(super) fn described(kind: &str, text: String) -> Result<Box<str>, Refusal> {
    if text.len() > MOST_BYTES {
        return Err(Refusal::Invalid(format!(
            "the type of a {kind} is described in at most {MOST_BYTES} bytes, not {}",
            text.len()
        )));
    }
    Ok(text.into())
}

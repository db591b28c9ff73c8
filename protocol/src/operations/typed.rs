//! `CheckType`: the operation of all kinds that keep values of a user's type.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, operation::Operation};

/// Asks whether the values are of the type that the caller takes them for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckType {
    /// The caller's type, described as in the spec.
    pub holds: String,
}

impl Operation for CheckType {
    const NAME: &'static str = "check_type";
    type Reply = Result<(), Refusal>;
}

//! `CheckType`: the operation of all kinds that store values of a user's type.

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    operation::{Operation, SHORT},
};

/// Asks whether the values have the schema id of the caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckType {
    /// The caller's schema id: a text of 1 to 4,096 bytes that identifies the type of the values.
    pub schema: String,
}

impl Operation for CheckType {
    const NAME: &'static str = "check_type";
    const MOST_BYTES: usize = SHORT;
    type Reply = Result<(), Refusal>;
}

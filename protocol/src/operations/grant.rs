//! The replies and operations of all holders: [`Granted`], [`MarkConsistent`] and [`Release`].

use serde::{Deserialize, Serialize};

use crate::{
    fault::Refusal,
    ids::{CallId, Fence},
    operation::Operation,
    peer::Abandoned,
};

/// What a holder is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The token of the grant.
    pub fence: Fence,
    /// What an earlier holder left that ended without releasing.
    pub abandoned: Option<Abandoned>,
}

/// Declares that what an earlier holder left has been looked after.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MarkConsistent {
    /// The call that was granted.
    pub grant: CallId,
}

impl Operation for MarkConsistent {
    const NAME: &'static str = "mark_consistent";
    type Reply = Result<(), Refusal>;
}

/// Gives the hold back. The grant proves who has it, whichever session sends it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Release {
    /// The call that was granted.
    pub grant: CallId,
}

impl Operation for Release {
    const NAME: &'static str = "release";
    type Reply = Result<(), Refusal>;
}

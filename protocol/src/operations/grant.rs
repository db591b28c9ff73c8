//! What all holders share: the reply [`Granted`], the operations [`MarkConsistent`], [`Release`] and
//! [`ReleaseAny`], and [`ReleaseBy`] of the specs.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, ids::Fence, operation::Operation, peer::Abandoned, proof::Proof};

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
    pub grant: Proof,
}

impl Operation for MarkConsistent {
    const NAME: &'static str = "mark_consistent";
    type Reply = Result<(), Refusal>;
}

/// Gives the hold back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Release {
    /// The call that was granted.
    pub grant: Proof,
}

impl Operation for Release {
    const NAME: &'static str = "release";
    type Reply = Result<(), Refusal>;
}

/// Gives back what has been held longest, whichever session holds it. An object that was made with
/// [`ReleaseBy::Holder`] refuses it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReleaseAny;

impl Operation for ReleaseAny {
    const NAME: &'static str = "release_any";
    type Reply = Result<(), Refusal>;
}

/// Who may release what a session holds: a part of the spec of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReleaseBy {
    /// The session that holds it, and those that have its ticket.
    #[default]
    Holder,
    /// Every session that has opened the object, as with Python's `Lock` and `Semaphore`.
    Anyone,
}

impl ReleaseBy {
    /// Checks that a release without a proof is allowed.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] where only the holder may release.
    pub fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Anyone => Ok(()),
            Self::Holder => Err(Refusal::Invalid(
                "only its guard or the guard's ticket releases it: \
                 release_any is for what was made with ReleaseBy::Anyone"
                    .to_owned(),
            )),
        }
    }
}

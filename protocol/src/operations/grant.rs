//! The items that all holders share: the reply [`Granted`], the operations [`MarkConsistent`], [`Release`]
//! and [`ReleaseAny`], and [`ReleaseBy`] of the specs.

use serde::{Deserialize, Serialize};

use crate::{fault::Refusal, ids::Fence, operation::Operation, peer::Abandoned, proof::Proof};

/// The answer to a holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The fence of the grant.
    pub fence: Fence,
    /// The mark of an earlier holder that ended without a release.
    pub abandoned: Option<Abandoned>,
}

/// Declares that the state which an earlier holder left is repaired.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MarkConsistent {
    /// The call that was granted.
    pub grant: Proof,
}

impl Operation for MarkConsistent {
    const NAME: &'static str = "mark_consistent";
    type Reply = Result<(), Refusal>;
}

/// Releases the hold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Release {
    /// The call that was granted.
    pub grant: Proof,
}

impl Operation for Release {
    const NAME: &'static str = "release";
    type Reply = Result<(), Refusal>;
}

/// Releases the hold that has lasted longest, of any session. An object that was created with
/// [`ReleaseBy::Holder`] refuses it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReleaseAny;

impl Operation for ReleaseAny {
    const NAME: &'static str = "release_any";
    type Reply = Result<(), Refusal>;
}

/// Who may release a session's hold. It is a part of the spec of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReleaseBy {
    /// The session that holds it, and sessions that have its ticket.
    #[default]
    Holder,
    /// Every session that has opened the object, as with Python's `Lock` and `Semaphore`.
    Anyone,
}

impl ReleaseBy {
    /// Returns the text of a spec that has no other field, for errors.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{{release_by: {self:?}}}")
    }

    /// Checks that a release without a proof is permitted.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] if only the holder may release.
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

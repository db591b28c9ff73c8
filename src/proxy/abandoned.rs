//! The strict mode of guards: an error in place of a guard when the previous holder died.

use std::{error::Error, fmt};

use lockkeeper_protocol::Abandoned;

use crate::{error::CallError, subject::Subject};

/// The error that `strict` returns for a guard whose earlier holder died.
///
/// The lock is held while this error exists. Dropping it releases the lock, and the next guard is marked
/// too. A program takes the [`guard`](Self::guard) out to repair the data. In a function that returns [`CallError`],
/// `?` converts it, which drops the guard.
#[must_use = "a dropped guard releases the lock, and the data is not repaired"]
pub struct AbandonedGuard<G> {
    /// The guard.
    pub guard: G,
    /// Which holder died, and when.
    pub abandoned: Box<Abandoned>,
    /// The object.
    subject: Subject,
}

impl<G> AbandonedGuard<G> {
    /// Returns a marked guard as an error.
    pub(super) fn sort(
        guard: G,
        mark: Option<Box<Abandoned>>,
        subject: Subject,
    ) -> Result<G, Self> {
        match mark {
            Some(abandoned) => Err(Self {
                guard,
                abandoned,
                subject,
            }),
            None => Ok(guard),
        }
    }
}

impl<G> fmt::Display for AbandonedGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, mark) = (&self.subject, &self.abandoned);
        write!(
            f,
            "{subject} was {mark}: look after what it left, with the guard in this error"
        )
    }
}

impl<G> fmt::Debug for AbandonedGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<G> Error for AbandonedGuard<G> {}

impl<G> From<AbandonedGuard<G>> for CallError {
    /// The guard is dropped, and the mark stays.
    fn from(error: AbandonedGuard<G>) -> Self {
        Self::Abandoned(error.abandoned, error.subject)
    }
}

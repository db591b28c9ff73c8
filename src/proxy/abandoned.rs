//! The strict mode of guards: an error in place of a guard when the previous holder died.

use std::{error::Error, fmt};

use lockkeeper_protocol::Abandoned;

/// The error that `strict` returns for a guard whose earlier holder died.
///
/// The lock is held while this error exists. Dropping it releases the lock, and the next guard is marked
/// too. A program takes the [`guard`](Self::guard) out to repair the data.
#[must_use = "a dropped guard releases the lock, and the data is not repaired"]
pub struct AbandonedGuard<G> {
    /// The guard.
    pub guard: G,
    /// Which holder died, and when.
    pub abandoned: Box<Abandoned>,
}

impl<G> AbandonedGuard<G> {
    /// Returns a marked guard as an error.
    pub(super) fn sort(guard: G, mark: Option<Box<Abandoned>>) -> Result<G, Self> {
        match mark {
            Some(abandoned) => Err(Self { guard, abandoned }),
            None => Ok(guard),
        }
    }
}

impl<G> fmt::Display for AbandonedGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: look after what it left, with the guard in this error",
            self.abandoned
        )
    }
}

impl<G> fmt::Debug for AbandonedGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<G> Error for AbandonedGuard<G> {}

//! The strict mode of guards: an error in place of a guard when the previous holder died.

use std::{error::Error, fmt};

use lockkeeper_protocol::Abandoned;

/// A guard whose earlier holder died inside, as the error that `strict` makes of it.
///
/// What it guards is held for as long as this is: to drop it releases, and leaves the mark for the
/// next. [`Self::into_inner`] gives the guard, to look after what the dead holder left.
#[must_use = "a guard that is dropped releases, and nobody has looked after what it guards"]
pub struct AbandonedGuard<G> {
    guard: G,
    abandoned: Box<Abandoned>,
}

impl<G> AbandonedGuard<G> {
    /// Sorts a guard by whether it is marked.
    pub(super) fn sort(guard: G, mark: Option<Box<Abandoned>>) -> Result<G, Self> {
        match mark {
            Some(abandoned) => Err(Self { guard, abandoned }),
            None => Ok(guard),
        }
    }

    /// Who died inside.
    #[must_use]
    pub const fn abandoned(&self) -> &Abandoned {
        &self.abandoned
    }

    /// The guard, which holds as any other.
    pub fn into_inner(self) -> G {
        self.guard
    }
}

impl<G> fmt::Display for AbandonedGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: look after what it left, with what into_inner() gives",
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

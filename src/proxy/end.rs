//! `End`: a deadline that several calls share.

use std::time::Duration;

use tokio::time::Instant;

use crate::{client::deadline::Deadline, error::CallError, subject::Subject};

/// The common deadline of several calls. One beyond the range of the clock never passes.
pub(super) struct End(Option<Instant>);

impl End {
    /// Returns the deadline of a timeout that begins now.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Returns the deadline of the next call, which `of` makes from the remaining time, or `None`
    /// once the time is over.
    pub(super) fn deadline(&self, of: fn(Duration) -> Deadline) -> Option<Deadline> {
        let Some(end) = self.0 else {
            return Some(Deadline::Never);
        };
        let left = end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| of(left))
    }

    /// Fails once the time is over. For calls that the manager answers at once, between two of them.
    pub(super) fn check(&self, subject: impl FnOnce() -> Subject) -> Result<(), CallError> {
        match self.deadline(Deadline::Ends) {
            Some(_) => Ok(()),
            None => Err(CallError::TimedOut(subject())),
        }
    }
}

//! `End`: a deadline that several calls share.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::deadline::Deadline;

/// When the time of several calls is over. One too far to be counted never comes.
pub(super) struct End(Option<Instant>);

impl End {
    /// The end of a time that begins now, if there is one.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left for the next call, as the deadline that it makes of a time; none once the time
    /// is over.
    pub(super) fn deadline(&self, of: fn(Duration) -> Deadline) -> Option<Deadline> {
        let Some(end) = self.0 else {
            return Some(Deadline::Never);
        };
        let left = end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| of(left))
    }
}

//! How long a call may wait.

use std::time::Duration;

/// When a call has waited long enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    Never,
    /// It is answered by then.
    Ends(Duration),
    /// It waits for something else from then on, as one that sleeps does for its lock.
    Wakes(Duration),
}

impl Deadline {
    /// How long it is until then.
    pub(crate) const fn timeout(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Ends(timeout) | Self::Wakes(timeout) => Some(timeout),
        }
    }

    pub(super) fn micros(self) -> Option<u64> {
        let timeout = self.timeout()?;
        Some(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Option<Duration>> for Deadline {
    fn from(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::Never, Self::Ends)
    }
}

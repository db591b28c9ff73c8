//! The time limit of a call.

use std::time::Duration;

/// The time limit of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    Never,
    /// The manager answers the call by then.
    Ends(Duration),
    /// The call waits for something else from then on, as a condition's wait does for its lock.
    Wakes(Duration),
}

impl Deadline {
    /// The time until the limit.
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
